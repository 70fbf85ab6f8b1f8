"""`resilience history import`: insert log lines into the database that it does not have.

A process writes each record to its log file and to the database. The log line is written first, so what a killed process or an
unreachable database left out is still in the files.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Final

import typer

from resilience.cli import options
from resilience.cli.exit_codes import PROBLEMS_FOUND, exit_on_setup_error
from resilience.cli.output import note, print_json, print_line
from resilience.config.settings import Settings
from resilience.history.log_import import import_lines

_MOST_REFUSED: Final = 20

app = typer.Typer(help="Import log lines into the history.", no_args_is_help=True)


@app.callback()
def history() -> None:
    """Keep `import` a subcommand: Typer would drop the name of a single command."""


@app.command("import")
def import_(
    files: Annotated[
        list[Path],
        typer.Argument(help="Log files: errors.jsonl, operations.jsonl, also rotated and compressed ones."),
    ],
    *,
    as_json: options.JsonObject = False,
) -> None:
    """Insert a row for every log line that has none, such as those of a killed process.

    errors.jsonl has failed attempts; operations.jsonl has calls, fallbacks
    and circuit transitions. Importing a file again changes nothing.

    Lines that cannot be read are named on standard error as file:line, the
    first 20 of them.

    Exit codes: 0 success, 1 some lines were refused, 2 the database or a
    file cannot be used.
    """
    refused = _Refused()
    with exit_on_setup_error():
        settings = Settings().complete()
        result = import_lines(str(settings.database_url), files, refused, settings.namespace or "")
    if refused.silent:
        note(f"and {refused.silent} more lines that cannot be read: is this a log of resilience?")
    if as_json:
        print_json(asdict(result))
    else:
        print_line(
            f"{result.new} new, {result.known} known, {result.refused} refused, {result.other} without a row"
        )
    raise typer.Exit(PROBLEMS_FOUND if result.refused else 0)


class _Refused:
    """Prints the lines that cannot be read, up to a limit: the wrong file may have millions.

    Attributes:
        silent: how many were not printed.
    """

    def __init__(self) -> None:
        self._printed = 0
        self.silent = 0

    def __call__(self, where: str, why: str) -> None:
        """Print one line, as compilers do: editors jump to "errors.jsonl:2: ..."."""
        if self._printed >= _MOST_REFUSED:
            self.silent += 1
            return
        self._printed += 1
        note(why, source=where)
