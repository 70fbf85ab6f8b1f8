"""`resilience sql`: read-only SQL on the history.

It works without a database client, with the URL and password that the settings have, on SQLite and PostgreSQL alike. A query
cannot change anything, and has limits of time, rows and memory: it runs on the database that the agents write to. The views
answer the common questions; `--views` prints each with the question and the meaning of its columns.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from typing import Annotated

import typer

from resilience.cli import options, sql_prompt
from resilience.cli.exit_codes import exit_on_setup_error
from resilience.cli.output import note, print_in_form, print_line
from resilience.history.reader import killable
from resilience.history.reader.adhoc_sql import LIMIT, TABLES, TIMEOUT
from resilience.history.schema.views import VIEWS


def sql(
    text: Annotated[
        str | None,
        typer.Argument(
            metavar="QUERY",
            help="One SELECT, WITH, VALUES or EXPLAIN. Without it a terminal gets a prompt; from a pipe, or as -, it is read.",
        ),
    ] = None,
    param: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", help="Value of :NAME in the query. Can be given several times."),
    ] = None,
    timeout: Annotated[
        float, typer.Option(min=0.001, max=3600, help="Seconds after which the query is stopped.")
    ] = TIMEOUT,
    limit: Annotated[int, typer.Option(min=1, max=1_000_000, help="Maximum number of rows.")] = LIMIT,
    *,
    views: Annotated[bool, typer.Option("--views", help="Print the views with their columns.")] = False,
    output: options.Output = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, and nothing else.")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV, and nothing else.")] = False,
    raw: options.Raw = False,
) -> None:
    """Query the history in SQL, read-only. `--views` lists the views to query.

    Example: resilience sql "SELECT * FROM v_mttr"
    """
    form = options.form(output, as_json=as_json, as_csv=as_csv)
    if views:
        _print_views(form)
        return
    answer = partial(_answer, _parameters(param or ()), timeout=timeout, limit=limit, form=form, raw=raw)
    if text is None and sql_prompt.is_wanted():
        _answer_all(answer, form)
        return
    if text in {None, "-"}:
        text = sys.stdin.read()
    if not text:
        msg = 'give a query, for example "SELECT * FROM v_mttr"; --views lists the views and their columns'
        raise typer.BadParameter(msg)
    answer(text)


def _answer_all(answer: Callable[[str], None], form: str) -> None:
    """Answer one query after the other. A wrong one, or one that Ctrl-C stops, does not end the prompt."""
    for query in sql_prompt.queries():
        if query.removesuffix(";") == "views":
            _print_views(form)
            continue
        with suppress(typer.Exit, KeyboardInterrupt):
            answer(query)


def _answer(
    parameters: dict[str, str], query: str, *, timeout: float, limit: int, form: str, raw: bool
) -> None:
    with exit_on_setup_error():
        result = killable.sql(options.database(), query, parameters, timeout=timeout, limit=limit)
    print_in_form(result.columns, result.rows, form, raw=raw)
    if result.truncated:
        first = "this is the first" if limit == 1 else f"these are the first {limit}"
        note(f"there are more rows: {first}; see --limit")


def _parameters(pairs: Iterable[str]) -> dict[str, str]:
    """Split `NAME=VALUE` pairs. Values are bound and never become part of the SQL, so they need no quotes."""
    parameters = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not name or not equals:
            msg = f"--param {pair!r}: give NAME=VALUE"
            raise typer.BadParameter(msg)
        # `--param :client=A` is what a reader of ":client" in the query types first.
        parameters[name.removeprefix(":")] = value
    return parameters


def _print_views(form: str) -> None:
    if form not in {"table", "wide"}:
        columns = ("view", "column", "meaning", "answers", "window", "example")
        rows = [
            (view.name, column, meaning, view.answers, view.window, view.example)
            for view in VIEWS
            for column, meaning in view.columns.items()
        ]
        print_in_form(columns, rows, form)
        return
    print_line(f"tables: {', '.join(TABLES)}; docs/reference.md has their columns")
    print_line("")
    for view in VIEWS:
        width = max(map(len, view.columns))
        print_line(f"{view.name}: {view.answers} ({view.window})")
        for column, meaning in view.columns.items():
            print_line(f"    {column:<{width}}  {meaning}")
        print_line(f"    e.g. {view.example}")
        print_line("")
