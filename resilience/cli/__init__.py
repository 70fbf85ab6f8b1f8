"""The command line: parse, one call into a room, print."""

from __future__ import annotations

import sys

import typer

from resilience.cli import circuit, config
from resilience.cli.demo import demo
from resilience.cli.explained import explained
from resilience.cli.simulate import simulate
from resilience.history import schema
from resilience.settings import Settings

app = typer.Typer(help=__doc__, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
db = typer.Typer(help="The history's database.", no_args_is_help=True)
app.add_typer(db, name="db")
app.add_typer(config.app, name="config")
app.add_typer(circuit.app, name="circuit")
app.command()(demo)
app.command()(simulate)


@db.command()
def path() -> None:
    """Print where this project's history lives: the file, or the URL of a database server."""
    url = _database_url()
    sys.stdout.write(f"{url.removeprefix('sqlite:///')}\n")


@db.command()
def upgrade() -> None:
    """Bring the history's tables to this version's form; the embedded file is upgraded by itself at the first write."""
    url = _database_url()
    with explained():
        schema.upgrade(url)
        sys.stdout.write(f"{schema.current(url)}\n")


def _database_url() -> str:
    with explained():
        url = Settings().complete().database_url
    return url or ""
