"""The command line: parse, one call into a room, print."""

from __future__ import annotations

import logging
from functools import partial

import typer

from resilience.cli import circuit, config, db, errors, history
from resilience.cli.calls import calls
from resilience.cli.demo import demo
from resilience.cli.doctor import doctor
from resilience.cli.exit_codes import Warnings
from resilience.cli.explore import explore
from resilience.cli.metrics import metrics
from resilience.cli.simulate import simulate
from resilience.cli.sql import sql

app = typer.Typer(
    help="Show circuits, history, metrics and settings of a fleet; give orders; find what is wrong.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


@app.callback()
def resilience(context: typer.Context) -> None:
    """Before each command: let its process tell what it warns of."""
    told, logger = Warnings(), logging.getLogger("resilience")
    logger.addHandler(told)
    context.call_on_close(partial(logger.removeHandler, told))


app.add_typer(db.app, name="db")
app.add_typer(config.app, name="config")
app.add_typer(circuit.app, name="circuit")
app.add_typer(errors.app, name="errors")
app.add_typer(history.app, name="history")
app.command()(calls)
app.command()(demo)
app.command()(doctor)
app.command()(metrics)
app.command()(explore)
app.command()(simulate)
app.command()(sql)
