"""The command line. Each command parses its options, calls one function of the library and prints the result.

One module holds one command, or one group of commands. Three modules are shared: `options` has what several commands accept,
`output` prints, and `exit_codes` turns errors into exit codes. Rules that are about circuits or the history, and not about
a terminal, belong to `resilience.admin`, `resilience.history` or `resilience.doctor`: programs use them without a terminal.

Exit codes: 0 success; 1 the command worked and the news is bad, such as a failed check or a record that does not exist;
2 the command could not work, because of its arguments, the settings or the database.
"""

from __future__ import annotations

import logging
from functools import partial

import typer

from resilience.cli import circuit, config, db, errors, history
from resilience.cli.calls import calls
from resilience.cli.demo import demo
from resilience.cli.doctor import doctor
from resilience.cli.exit_codes import WarningHandler
from resilience.cli.explore import explore
from resilience.cli.metrics import metrics
from resilience.cli.simulate import simulate
from resilience.cli.sql import sql

# No pretty exceptions: Rich prints the local variables of every frame, which may hold prompts and keys. No completion: the
# options that install it would edit the shell's start-up files.
app = typer.Typer(
    help="Show the circuits, history, metrics and settings of a fleet, override circuits, and diagnose a set-up.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


@app.callback()
def resilience(context: typer.Context) -> None:
    """Print the library's warnings on standard error while a command runs.

    The handler is removed at the end: a program may run a command in its own process, as tests do.
    """
    handler, logger = WarningHandler(), logging.getLogger("resilience")
    logger.addHandler(handler)
    context.call_on_close(partial(logger.removeHandler, handler))


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
