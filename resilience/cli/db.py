"""`resilience db`: where the history is, its version, its health, and the deleting of what is old.

Exit codes: 0 all is well, 1 `check` found something to mend, 2 the set-up or the database cannot be used.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from typing import Annotated

import typer

from resilience.cli.exit_codes import explained
from resilience.config import settings
from resilience.history import admin
from resilience.history.admin import Health
from resilience.history.schema import migrations, urls

app = typer.Typer(help="The history's database.", no_args_is_help=True)

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")]


@app.command()
def path() -> None:
    """Print where this project's history lives: the file, or the URL of a database server without its password."""
    with explained():
        url = urls.parse(_url())
        sys.stdout.write(f"{urls.path(url) if urls.is_sqlite(url) else urls.shown(url)}\n")


@app.command()
def upgrade() -> None:
    """Bring the history's tables to this version's form; the embedded file is upgraded by itself at the first write."""
    url = _url()
    with explained():
        migrations.upgrade(url)
        sys.stdout.write(f"{migrations.current(url)}\n")


@app.command()
def current() -> None:
    """Print the revision the database has; `none` without tables. Creates nothing."""
    with explained():
        sys.stdout.write(f"{migrations.current(_url()) or 'none'}\n")


@app.command()
def check(*, as_json: Json = False) -> None:
    """Check whether the database is there, whole, upgraded and in a safe place; say how large it is.

    Exit codes: 0 all is well, 1 something should be mended, 2 it cannot be reached.
    """
    with explained():
        health = admin.check(_url())
    if as_json:
        sys.stdout.write(json.dumps(asdict(health)) + "\n")
    else:
        _tell(health)
    raise typer.Exit(1 if health.problems else 0)


@app.command()
def prune(*, as_json: Json = False) -> None:
    """Delete now what the retention (RESILIENCE_RETENTION__...) does not keep; running processes do it every hour."""
    with explained():
        gone = admin.prune(_url(), settings.retention_policy())
    if as_json:
        sys.stdout.write(json.dumps(gone) + "\n")
    else:
        sys.stdout.writelines(f"{name}: {count} deleted\n" for name, count in gone.items())


@app.command()
def vacuum() -> None:
    """Build the database anew without holes; an SQLite file is locked meanwhile and needs twice its space."""
    with explained():
        admin.vacuum(_url())


def _tell(health: Health) -> None:
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
    sys.stdout.writelines(f"{name + ':':<17} {value}\n" for name, value in facts.items() if value)
    sys.stdout.writelines(f"to mend: {problem}\n" for problem in health.problems)


def _url() -> str:
    with explained():
        return settings.Settings().complete().database_url or ""
