"""The command line: parse, one call into a room, print."""

from __future__ import annotations

import json
import sys
from typing import Annotated

import typer
from rich.console import Console

from resilience.cli import config
from resilience.cli.explained import explained
from resilience.cli.simulate import simulate
from resilience.demo import fleet, table
from resilience.history import schema
from resilience.settings import Settings

app = typer.Typer(help=__doc__, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
db = typer.Typer(help="The history's database.", no_args_is_help=True)
app.add_typer(db, name="db")
app.add_typer(config.app, name="config")
app.command()(simulate)


@app.command()
def demo(
    seconds: Annotated[
        float, typer.Option(min=2.0, max=3600.0, help="How long the agents begin new work.")
    ] = 14.0,
    processes: Annotated[int, typer.Option(min=1, max=64, help="Agent processes.")] = 4,
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")] = False,
    real: Annotated[
        bool, typer.Option("--real", help="Ask the provider your environment names, without an outage.")
    ] = False,
) -> None:
    """Run a fleet of agent processes through an outage; exit 0 only if every call got an answer."""
    console = Console(quiet=as_json)
    with table.shown(console) as show, explained():
        run = fleet.play(seconds, processes, show, real=real)
    if as_json:
        sys.stdout.write(json.dumps(run.summary.as_dict()) + "\n")
    else:
        table.tell(console, run)
    raise typer.Exit(0 if run.whole else 1)


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
