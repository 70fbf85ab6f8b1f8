"""`resilience sql`: a query of one's own, which can only read."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Annotated

import typer

from resilience.cli import options, output
from resilience.cli.exit_codes import explained
from resilience.history.reader.adhoc_sql import LIMIT, TIMEOUT
from resilience.history.schema.views import VIEWS


def sql(
    text: Annotated[
        str | None,
        typer.Argument(
            metavar="QUERY", help="One SELECT, WITH, VALUES or EXPLAIN; - reads it from standard input."
        ),
    ] = None,
    param: Annotated[
        list[str] | None, typer.Option(metavar="NAME=VALUE", help="What :NAME in the query stands for.")
    ] = None,
    timeout: Annotated[float, typer.Option(min=0.001, max=3600, help="Seconds it may take.")] = TIMEOUT,
    limit: Annotated[int, typer.Option(min=1, max=1_000_000, help="Rows it gives at most.")] = LIMIT,
    *,
    views: Annotated[bool, typer.Option("--views", help="Print the views and their columns.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON and nothing else.")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV and nothing else.")] = False,
) -> None:
    """Ask the history in SQL; it can change nothing. `--views` says what there is to ask."""
    if views:
        _show_views(as_json=as_json, as_csv=as_csv)
        return
    if text is None:
        msg = 'give a query, for example "SELECT * FROM v_mttr"; --views lists what there is to ask'
        raise typer.BadParameter(msg)
    with explained():
        asked = sys.stdin.read() if text == "-" else text
        found = options.history().sql(asked, _params(param or ()), timeout=timeout, limit=limit)
    output.show(found.columns, found.rows, as_json=as_json, as_csv=as_csv)
    if found.truncated:
        output.note(f"there are more rows: these are the first {limit}; see --limit")


def _params(given: Iterable[str]) -> dict[str, str]:
    params = {}
    for pair in given:
        name, equals, value = pair.partition("=")
        if not name or not equals:
            msg = f"--param {pair!r}: give NAME=VALUE"
            raise typer.BadParameter(msg)
        params[name.removeprefix(":")] = value
    return params


def _show_views(*, as_json: bool, as_csv: bool) -> None:
    if as_json or as_csv:
        columns = ("view", "column", "meaning", "answers", "window", "example")
        rows = [
            (view.name, column, meaning, view.answers, view.window, view.example)
            for view in VIEWS
            for column, meaning in view.columns.items()
        ]
        output.show(columns, rows, as_json=as_json, as_csv=as_csv)
        return
    for view in VIEWS:
        width = max(map(len, view.columns))
        lines = "".join(f"    {column:<{width}}  {meaning}\n" for column, meaning in view.columns.items())
        sys.stdout.write(f"{view.name}: {view.answers} ({view.window})\n{lines}    e.g. {view.example}\n\n")
