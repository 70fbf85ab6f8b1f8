"""`resilience config show`: what is in effect here, and where it was set."""

from __future__ import annotations

import dataclasses
import json
import sys
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from resilience.cli.exit_codes import explained
from resilience.config.effective import effective_settings

app = typer.Typer(help="The settings and where they come from.", no_args_is_help=True)


@app.callback()
def config() -> None:
    """Settings come from keyword arguments, the environment, .env, resilience.toml, [tool.resilience]: the first that says something wins."""


@app.command()
def show(
    *,
    changed: Annotated[bool, typer.Option("--changed", help="Leave out what has its default.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON array and nothing else.")] = False,
) -> None:
    """Print every setting as processes started here have it, with its source; secrets are masked."""
    with explained():
        found = [each for each in effective_settings() if not changed or each.source != "default"]
    if as_json:
        sys.stdout.write(json.dumps([dataclasses.asdict(each) for each in found], indent=2) + "\n")
        return
    table = Table(box=None, pad_edge=False)
    for title in ("setting", "value", "from"):
        table.add_column(title, overflow="fold")
    for each in found:
        value = each.value if isinstance(each.value, str) else json.dumps(each.value)
        table.add_row(each.name, Text(value), Text(each.source))
    wide = None if sys.stdout.isatty() else 400  # in a pipe a line is a line
    Console(width=wide).print(table)
