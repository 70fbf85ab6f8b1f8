"""`resilience errors`: failed attempts one by one, by group, and along one request.

In an incident the questions come in this order: which errors are frequent (`top`), which single errors are behind that (`list`),
what exactly happened in one of them (`show`), and what the caller saw in the end (`timeline`). Each command prints the ids that
the next one takes.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from typer.core import TyperGroup

from resilience.cli import empty_results, options
from resilience.cli.exit_codes import NOT_FOUND, exit_on_setup_error
from resilience.cli.output import note, print_in_form, print_json, print_rows, record_rows
from resilience.cli.records_table import Column, clock, print_records, short, whole_id

if TYPE_CHECKING:
    from resilience.history import SyncHistory


class _ListByDefault(TyperGroup):
    """A group that runs `list` when no subcommand is named.

    `resilience errors --client A` is what an operator types first in an incident, as `resilience calls`. A callback with
    `invoke_without_command` would have to declare the eleven options of `list` a second time.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._helps: bool = False

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Insert `list` before options, and before a word that is no subcommand: `list` then reports that word.

        The options of the place may stand before a subcommand. A shell that completes the first word gets the subcommands.

        Args:
            ctx: the context of Click.
            args: the words after `errors`.

        Returns:
            The words that Click did not use.
        """
        first = 0
        while first < len(args) and args[first].partition("=")[0] in {"--at", "--namespace"}:
            first += 1 if "=" in args[first] else 2
        word = args[first] if first < len(args) else None
        # Nothing is inserted where an option lacks its value, which `list` would become, nor where a subcommand is completed.
        unfinished = first > len(args) or (word is None and ctx.resilient_parsing)
        if not unfinished and word not in self.commands and word not in {"--help", "-h"}:
            args = [*args[:first], "list", *args[first:]]
        return super().parse_args(ctx, args)

    def shell_complete(self, ctx: Any, incomplete: str) -> list[Any]:
        """Complete subcommands, and the options of `list`."""
        own = super().shell_complete(ctx, incomplete)
        known = {item.value for item in own}
        listed = self.commands["list"].shell_complete(ctx, incomplete)
        return [*own, *(item for item in listed if item.value not in known)]

    def get_params(self, ctx: Any) -> list[Any]:
        """Return the parameters of the group. While the help is printed, those of `list` follow."""
        own = super().get_params(ctx)
        if not self._helps:
            return own
        listed: list[Any] = [copy.copy(option) for option in self.commands["list"].get_params(ctx)]
        for option in listed:
            option.rich_help_panel = "Options of list"
        return [*own, *(option for option in listed if option.name not in {each.name for each in own})]

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Print the help, with the options that need no subcommand."""
        self._helps = True
        try:
            super().format_help(ctx, formatter)
        finally:
            self._helps = False


app = typer.Typer(
    help="Show failed attempts: list (the default), show, top, unknown, timeline.", cls=_ListByDefault
)

_LISTED: Final = (
    Column("time", lambda error: clock(error.occurred_at)),
    Column("client", lambda error: error.client, name=True),
    Column("function", lambda error: error.function, keep=4),
    Column("try", lambda error: error.attempt, keep=1),
    Column("category", lambda error: error.category),
    Column("status", lambda error: error.status, keep=6),
    Column("action", lambda error: error.action, keep=3),
    Column("message", lambda error: error.message, flexible=True),
    Column("request", lambda error: short(error.request_id), keep=2),
    Column("id", lambda error: short(error.event_id), keep=8),
)
_TOP: Final = (
    Column("errors", lambda group: group.errors),
    Column("total", lambda group: group.total, keep=2),
    Column("clients", lambda group: group.clients, keep=3),
    Column("category", lambda group: group.category),
    Column("exception", lambda group: group.exception_type, keep=1),
    Column("last seen", lambda group: clock(group.last_seen_at), keep=5),
    Column("status", lambda group: group.status, keep=4),
    Column("title", lambda group: group.title, flexible=True),
    Column("group", lambda group: short(group.fingerprint)),
)
# The view has the steps of one request from several tables; `sql` passes the id as a bound parameter.
_TIMELINE: Final = "SELECT * FROM v_request_timeline WHERE request_id = :request_id"


@app.command("list")
def list_(
    *,
    client: options.Client = None,
    function: options.Function = None,
    category: options.Category = None,
    status: Annotated[int | None, typer.Option(help="Only errors with this HTTP status.")] = None,
    fingerprint: Annotated[
        str | None, typer.Option(help="Only errors of this group; see `errors top`.")
    ] = None,
    since: options.Since = None,
    until: options.Until = None,
    request_id: options.RequestId = None,
    limit: options.Limit = 50,
    output: options.Output = None,
    as_json: options.AsJson = False,
    as_csv: options.AsCsv = False,
    raw: options.Raw = False,
) -> None:
    """List failed attempts and refused calls, newest first.

    Example: resilience errors --client Primary --since 15m
    """
    form = options.form(output, as_json=as_json, as_csv=as_csv)
    options.check_window(since, until)
    with exit_on_setup_error():
        history = options.history()
        records = history.errors(
            client=client,
            function=function,
            category=category,
            status=status,
            fingerprint=fingerprint and whole_id(history, "error_groups", "fingerprint", fingerprint),
            since=since,
            until=until,
            request_id=request_id and whole_id(history, "calls", "request_id", request_id),
            limit=limit,
        )
        print_records(
            records, _LISTED, form, raw=raw, limit=limit, empty=_why_empty(history, client, function)
        )


@app.command()
def show(
    event_id: Annotated[
        str,
        typer.Argument(
            metavar="EVENT_ID", help="Id of the error, from `errors list` or a log line, or its end."
        ),
    ],
    *,
    as_json: options.AsJson = False,
) -> None:
    """Show every field of one error. Exit with 1 if the history does not have it.

    Fields without a value are left out, except in JSON.
    """
    with exit_on_setup_error():
        history = options.history()
        record = history.error(whole_id(history, "errors", "event_id", event_id))
    if record is None:
        note(f"no error with event id {event_id}")
        raise typer.Exit(NOT_FOUND)
    (names, (values,)) = record_rows([record])
    if as_json:
        print_json(dict(zip(names, values, strict=True)))
    else:
        pairs = [pair for pair in zip(names, values, strict=True) if pair[1] is not None]
        print_rows(("field", "value"), pairs)


@app.command()
def top(
    *,
    client: options.Client = None,
    function: options.Function = None,
    category: options.Category = None,
    since: options.Since = "24h",
    until: options.Until = None,
    limit: options.Limit = 20,
    output: options.Output = None,
    as_json: options.AsJson = False,
    as_csv: options.AsCsv = False,
    raw: options.Raw = False,
) -> None:
    """Show groups of similar errors, the most frequent first.

    Errors with the same fingerprint are one group. `errors` counts the window
    of --since, `total` counts all time.

    Example: resilience errors top --since 7d
    """
    form = options.form(output, as_json=as_json, as_csv=as_csv)
    options.check_window(since, until)
    with exit_on_setup_error():
        history = options.history()
        groups = history.groups(
            client=client, function=function, category=category, since=since, until=until, limit=limit
        )
        print_records(groups, _TOP, form, raw=raw, limit=limit, empty=_why_empty(history, client, function))


@app.command()
def unknown(
    *,
    client: options.Client = None,
    function: options.Function = None,
    since: options.Since = "7d",
    until: options.Until = None,
    limit: options.Limit = 20,
    output: options.Output = None,
    as_json: options.AsJson = False,
    as_csv: options.AsCsv = False,
    raw: options.Raw = False,
) -> None:
    """Show the kinds of errors that no rule understood, the most frequent first.

    Also those that a rule read as the request's fault although the client
    refused every request. Unknown errors are retried and count against the
    circuit. `errors show` prints one error, and `explain-error` says why it has
    its category. RESILIENCE_CLASSIFY=module:function adds a rule of your own.

    Example: resilience errors unknown --since 30d
    """
    form = options.form(output, as_json=as_json, as_csv=as_csv)
    options.check_window(since, until)
    with exit_on_setup_error():
        history = options.history()
        groups = history.groups(
            client=client,
            function=function,
            misread=True,
            since=since,
            until=until,
            limit=limit,
        )
        print_records(groups, _TOP, form, raw=raw, limit=limit, empty=_why_empty(history, client, function))


@app.command()
def timeline(
    request_id: Annotated[
        str,
        typer.Argument(
            metavar="REQUEST_ID", help="Id of the request, from a row, a log line or a span, or its end."
        ),
    ],
    *,
    output: options.Output = None,
    as_json: options.AsJson = False,
    as_csv: options.AsCsv = False,
    raw: options.Raw = False,
) -> None:
    """Show the steps of one request in order. Exit with 1 if the history has none.

    The steps are call, error, fallback and end. A refusal by a circuit is an
    error, too.
    """
    form = options.form(output, as_json=as_json, as_csv=as_csv)
    with exit_on_setup_error():
        history = options.history()
        whole = whole_id(history, "calls", "request_id", request_id)
        result = history.sql(_TIMELINE, {"request_id": whole}, limit=100_000)
    if not result.rows:
        note(f"no steps of request {request_id}")
        raise typer.Exit(NOT_FOUND)
    print_in_form(result.columns, result.rows, form, raw=raw)


def _why_empty(history: SyncHistory, client: str | None, function: str | None) -> Callable[[], str]:
    """Return a function that says what an empty list of errors means."""
    filters = {"client": client, "function": function}
    return lambda: empty_results.explain(history, options.shown_place(), "errors", "occurred_at", filters)
