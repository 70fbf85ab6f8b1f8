"""`resilience db`: the history's database: where it is, its schema version and health, and the deletion of old rows.

Agents migrate an SQLite file at its first write, and prune every history. The schema of a server is changed only by
`db upgrade`: there the operator decides when, and the agents may lack the right.

Exit codes: 0 success, 1 `check` found problems, 2 the settings are not valid or the database cannot be used.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import typer

from resilience.cli import options
from resilience.cli.exit_codes import PROBLEMS_FOUND, exit_on_setup_error
from resilience.cli.output import print_json, print_line, print_value
from resilience.config import settings

if TYPE_CHECKING:
    from resilience.history.admin import Health

app = typer.Typer(help="Manage the history's database.", no_args_is_help=True)


@app.command()
def path() -> None:
    """Print where this project's history is: the SQLite file, or the server's URL without its password."""
    with exit_on_setup_error():
        print_value(options.place_of(_url()))


@app.command()
def upgrade() -> None:
    """Migrate the history to the schema of this version. An SQLite file is migrated at its first write anyway."""
    from resilience.history.schema import migrations  # noqa: PLC0415 - as in `check`

    url = _url()
    with exit_on_setup_error():
        migrations.upgrade(url)
        print_line(f"{migrations.current(url)}")


@app.command()
def current() -> None:
    """Print the schema revision of the database, or `none` if it has no tables. Creates nothing."""
    from resilience.history.schema import migrations  # noqa: PLC0415 - as in `check`

    with exit_on_setup_error():
        print_line(migrations.current(_url()) or "none")


@app.command()
def check(*, as_json: options.JsonObject = False) -> None:
    """Check that the database exists, is intact, migrated and in a safe place, and print its size.

    Exit codes: 0 no problems, 1 problems found, 2 the database cannot be reached.
    """
    from resilience.history import admin  # noqa: PLC0415 - SQLAlchemy, which `path` does not need

    with exit_on_setup_error():
        health = admin.check(_url())
    if as_json:
        print_json(asdict(health))
    else:
        _print_health(health)
    raise typer.Exit(PROBLEMS_FOUND if health.problems else 0)


@app.command()
def prune(*, as_json: options.JsonObject = False) -> None:
    """Delete rows older than the retention (RESILIENCE_RETENTION__...). Running processes do this every hour."""
    from resilience.history import admin  # noqa: PLC0415 - as in `check`

    with exit_on_setup_error():
        deleted = admin.prune(_url(), settings.retention_policy())
    if as_json:
        print_json(deleted)
        return
    for table, count in deleted.items():
        print_line(f"{table}: {count} deleted")


@app.command()
def vacuum() -> None:
    """Rewrite the database without free pages. An SQLite file is locked meanwhile and needs twice its space."""
    from resilience.history import admin  # noqa: PLC0415 - as in `check`

    with exit_on_setup_error():
        admin.vacuum(_url())


def _print_health(health: Health) -> None:
    """Print what is known, one fact a line, and then the problems. Facts that do not apply to this database are left out."""
    facts = {
        "database": health.where,
        "server": health.server,
        "revision": f"{health.revision or 'none'} of {health.needed}",
        "integrity": health.integrity,
        "size": f"{health.size:,} bytes",
        "write-ahead log": f"{health.wal:,} bytes" if health.wal else "",
        "processes": f"{health.processes} in the last five minutes",
        "rows": ", ".join(f"{name} {count:,}" for name, count in health.rows.items()),
    }
    for name, value in facts.items():
        if value:
            print_line(f"{name + ':':<17} {value}")
    for warning in health.warnings:
        print_line(f"warning: {warning}")
    for problem in health.problems:
        print_line(f"problem: {problem}")


def _url() -> str:
    with exit_on_setup_error():
        return settings.Settings().complete().database_url or ""
