"""`resilience errors`: what failed, one by one, by kind, or along one request."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Final

import typer
from typer.core import TyperGroup

from resilience.cli import options, output
from resilience.cli.exit_codes import explained
from resilience.history import ErrorRecord
from resilience.history.reader.results import ErrorGroup


class _Listing(TyperGroup):
    """A group whose bare name lists."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put `list` before options that name no command."""
        if not args or (args[0] not in self.commands and args[0] not in {"--help", "-h"}):
            args = ["list", *args]
        return super().parse_args(ctx, args)


app = typer.Typer(help="What failed: list (the default), show, top, timeline.", cls=_Listing)

_LISTED: Final = (
    "occurred_at",
    "client",
    "function",
    "attempt",
    "category",
    "status",
    "action",
    "backoff",
    "message",
    "request_id",
    "event_id",
)
_TOP: Final = (
    "errors",
    "total",
    "clients",
    "category",
    "exception_type",
    "last_seen_at",
    "status",
    "title",
    "fingerprint",
)
_TIMELINE: Final = "SELECT * FROM v_request_timeline WHERE request_id = :request_id"


@app.command("list")
def listed(
    *,
    client: options.Client = None,
    function: options.Function = None,
    category: options.Category = None,
    status: Annotated[int | None, typer.Option(help="Only with this HTTP status.")] = None,
    fingerprint: Annotated[str | None, typer.Option(help="Only of this group.")] = None,
    since: options.Since = None,
    until: options.Until = None,
    request_id: options.RequestId = None,
    limit: options.Limit = 50,
    as_json: options.AsJson = False,
    as_csv: options.AsCsv = False,
) -> None:
    """List failed attempts and refusals, newest first."""
    with explained():
        found = options.history().errors(
            client=client,
            function=function,
            category=category,
            status=status,
            fingerprint=fingerprint,
            since=since,
            until=until,
            request_id=request_id,
            limit=limit,
        )
    print_records(found, _LISTED, as_json=as_json, as_csv=as_csv)


@app.command()
def show(
    event_id: Annotated[str, typer.Argument(metavar="EVENT_ID", help="As `errors list --json` has it.")],
    *,
    as_json: options.AsJson = False,
) -> None:
    """Show everything kept of one error; exit 1 when it is not kept."""
    with explained():
        found = options.history().error(event_id)
    if found is None:
        output.note(f"no error {event_id} is kept")
        raise typer.Exit(options.NOTHING)
    (names, (values,)) = output.fields([found])
    if as_json:
        output.show_json(dict(zip(names, values, strict=True)))
    else:
        pairs = [pair for pair in zip(names, values, strict=True) if pair[1] is not None]
        output.show(("field", "value"), pairs)


@app.command()
def top(
    *,
    client: options.Client = None,
    function: options.Function = None,
    category: options.Category = None,
    since: options.Since = "24h",
    until: options.Until = None,
    limit: options.Limit = 20,
    as_json: options.AsJson = False,
    as_csv: options.AsCsv = False,
) -> None:
    """Show the kinds of errors that happened most."""
    with explained():
        found = options.history().groups(
            client=client, function=function, category=category, since=since, until=until, limit=limit
        )
    print_records(found, _TOP, as_json=as_json, as_csv=as_csv)


@app.command()
def timeline(
    request_id: Annotated[
        str, typer.Argument(metavar="REQUEST_ID", help="As rows, log lines and spans have it.")
    ],
    *,
    as_json: options.AsJson = False,
    as_csv: options.AsCsv = False,
) -> None:
    """Tell what happened to one request, step by step; exit 1 when nothing is kept of it."""
    with explained():
        found = options.history().sql(_TIMELINE, {"request_id": request_id}, limit=100_000)
    if not found.rows:
        output.note(f"nothing is kept of request {request_id}")
        raise typer.Exit(options.NOTHING)
    output.show(found.columns, found.rows, as_json=as_json, as_csv=as_csv)


def print_records(
    found: Sequence[ErrorRecord | ErrorGroup | Any], listed: Sequence[str], *, as_json: bool, as_csv: bool
) -> None:
    """Print records: every field for programs, those *listed* for people."""
    names, rows = output.fields(found)
    if not found and not as_json:
        output.note("nothing of that kind is kept")
        return
    if not (as_json or as_csv):
        rows = [[getattr(record, name) for name in listed] for record in found]
        names = list(listed)
    output.show(names, rows, as_json=as_json, as_csv=as_csv)
