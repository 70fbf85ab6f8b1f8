"""`resilience history`: bringing log lines back into the database."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from resilience.cli.exit_codes import explained
from resilience.config.settings import Settings
from resilience.history.log_import import import_lines

app = typer.Typer(help="Bring log lines into the history that are not in it.", no_args_is_help=True)


@app.callback()
def history() -> None:
    """Bring log lines back into the history."""


@app.command("import")
def bring_back(
    files: Annotated[
        list[Path],
        typer.Argument(help="Log files: errors.jsonl, operations.jsonl, also rotated and gzipped ones."),
    ],
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")] = False,
) -> None:
    """Make rows of the log lines that have none, such as those of a process that was killed; as often as you like.

    Give errors.jsonl for failed attempts and operations.jsonl for calls, fallbacks and moves of circuits. Lines that
    cannot be read are named on stderr, file:line; nothing else is lost by them. Exit codes: 0 all is well, 1 lines were
    refused, 2 the database or a file cannot be used.
    """
    with explained():
        done = import_lines(str(Settings().complete().database_url), files, _refuse)
    if as_json:
        sys.stdout.write(json.dumps(asdict(done)) + "\n")
    else:
        sys.stdout.write(
            f"{done.new} new, {done.known} known, {done.refused} refused, {done.other} without rows of their own\n"
        )
    raise typer.Exit(1 if done.refused else 0)


def _refuse(where: str, why: str) -> None:
    sys.stderr.write(f"{where}: {why}\n")
