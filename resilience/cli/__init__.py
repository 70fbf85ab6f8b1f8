"""The command line. Each command parses its options, calls one function of the library and prints the result.

One module holds one command, or one group of commands, and is imported when it runs. Shared modules: `options` has what several
commands accept, `output` prints, `location_options` has those that name a place, and `exit_codes` turns errors into exit codes. Rules
that are about circuits or the history, and not about a terminal, belong to `resilience.admin`, `resilience.history` or
`resilience.doctor`: programs use them without a terminal.

Exit codes: 0 success; 1 the command worked and the news is bad, such as a failed check or a record that does not exist;
2 the command could not work, because of its arguments, the settings or the database.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping
from functools import partial
from io import TextIOWrapper
from typing import Annotated, Final

import typer

from resilience.cli import location_options
from resilience.cli.lazy_group import LazyCommand, LazyGroup, in_package
from resilience.cli.output import WarningHandler, print_line
from resilience.version import package_version

COMMANDS: Final[Mapping[str, LazyCommand]] = {
    "status": in_package(
        "status",
        "status",
        "Show how the fleet is: what is broken, since when, whether callers notice, and what to do next.",
    ),
    "circuit": in_package("circuit", "app", "List the fleet's circuits, and override them."),
    "errors": in_package(
        "errors", "app", "Show failed attempts: list (the default), show, top, unknown, timeline."
    ),
    "explain-error": in_package(
        "explain_error",
        "explain_error",
        "Read a response body or an error text from standard input; print its category and why.",
        placed=False,
    ),
    "calls": in_package("calls", "calls", "List calls, newest first."),
    "sql": in_package("sql", "sql", "Query the history in SQL, read-only."),
    "metrics": in_package(
        "metrics",
        "metrics",
        "Print the metrics of the whole fleet as Prometheus text, read from the history and the circuits.",
    ),
    "explore": in_package(
        "explore",
        "explore",
        "Browse the history on 127.0.0.1 until Ctrl-C: tables, views and canned queries, read-only.",
    ),
    "doctor": in_package(
        "doctor", "doctor", "Check store, history, logs, clients and forks with this project's settings."
    ),
    "config": in_package("config", "app", "Show the settings."),
    "db": in_package("db", "app", "Manage the history's database."),
    "history": in_package("history", "app", "Import log lines into the history."),
    "demo": in_package("demo", "demo", "Run a fleet of agent processes through an outage.", placed=False),
    "simulate": in_package(
        "simulate",
        "simulate",
        "Simulate LLM providers on this machine until Ctrl-C, then print the requests they received.",
        placed=False,
    ),
}


class _Commands(LazyGroup):
    """The commands of `resilience`."""

    SOURCES = COMMANDS


# No pretty exceptions: Rich prints the local variables of every frame, which may hold prompts and keys.
app = typer.Typer(
    cls=_Commands,
    help="Show the circuits, history, metrics and settings of a fleet, override circuits, and diagnose a set-up.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


def _print_version(wanted: bool) -> None:  # noqa: FBT001 - the signature of a callback of Typer
    if wanted:
        print_line(f"resilience {package_version()}")
        raise typer.Exit


@app.callback()
def resilience(
    context: typer.Context,
    *,
    at: location_options.At = None,  # noqa: ARG001 - its callback works on the place
    namespace: location_options.Namespace = None,  # noqa: ARG001 - as above
    version: Annotated[  # noqa: ARG001 - its callback prints and ends
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Print the library's warnings on standard error while a command runs.

    The handler is removed at the end, and the environment restored: a program may run a command in its own process, as
    tests do.
    """
    for stream in (sys.stdout, sys.stderr):
        # A name such as Zürich must not end a command whose terminal or locale is ASCII.
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    handler, logger = WarningHandler(), logging.getLogger("resilience")
    logger.addHandler(handler)
    context.call_on_close(partial(logger.removeHandler, handler))
