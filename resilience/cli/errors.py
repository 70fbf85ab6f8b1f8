"""`resilience errors`: what failed, one by one, by kind, or along one request."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Final

import typer
from typer.core import TyperGroup

from resilience.cli import asking, printing
from resilience.cli.explained import explained
from resilience.history import ErrorRecord
from resilience.history.answers import ErrorGroup


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
    client: asking.Client = None,
    function: asking.Function = None,
    category: asking.Category = None,
    status: Annotated[int | None, typer.Option(help="Only with this HTTP status.")] = None,
    fingerprint: Annotated[str | None, typer.Option(help="Only of this group.")] = None,
    since: asking.Since = None,
    until: asking.Until = None,
    request_id: asking.RequestId = None,
    limit: asking.Limit = 50,
    as_json: asking.AsJson = False,
    as_csv: asking.AsCsv = False,
) -> None:
    """List failed attempts and refusals, newest first."""
    with explained():
        found = asking.history().errors(
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
    as_json: asking.AsJson = False,
) -> None:
    """Show everything kept of one error; exit 1 when it is not kept."""
    with explained():
        found = asking.history().error(event_id)
    if found is None:
        printing.note(f"no error {event_id} is kept")
        raise typer.Exit(asking.NOTHING)
    (names, (values,)) = printing.fields([found])
    if as_json:
        printing.show_json(dict(zip(names, values, strict=True)))
    else:
        pairs = [pair for pair in zip(names, values, strict=True) if pair[1] is not None]
        printing.show(("field", "value"), pairs)


@app.command()
def top(
    *,
    client: asking.Client = None,
    function: asking.Function = None,
    category: asking.Category = None,
    since: asking.Since = "24h",
    until: asking.Until = None,
    limit: asking.Limit = 20,
    as_json: asking.AsJson = False,
    as_csv: asking.AsCsv = False,
) -> None:
    """Show the kinds of errors that happened most."""
    with explained():
        found = asking.history().groups(
            client=client, function=function, category=category, since=since, until=until, limit=limit
        )
    print_records(found, _TOP, as_json=as_json, as_csv=as_csv)


@app.command()
def timeline(
    request_id: Annotated[
        str, typer.Argument(metavar="REQUEST_ID", help="As rows, log lines and spans have it.")
    ],
    *,
    as_json: asking.AsJson = False,
    as_csv: asking.AsCsv = False,
) -> None:
    """Tell what happened to one request, step by step; exit 1 when nothing is kept of it."""
    with explained():
        found = asking.history().sql(_TIMELINE, {"request_id": request_id}, limit=100_000)
    if not found.rows:
        printing.note(f"nothing is kept of request {request_id}")
        raise typer.Exit(asking.NOTHING)
    printing.show(found.columns, found.rows, as_json=as_json, as_csv=as_csv)


def print_records(
    found: Sequence[ErrorRecord | ErrorGroup | Any], listed: Sequence[str], *, as_json: bool, as_csv: bool
) -> None:
    """Print records: every field for programs, those *listed* for people."""
    names, rows = printing.fields(found)
    if not found and not as_json:
        printing.note("nothing of that kind is kept")
        return
    if not (as_json or as_csv):
        rows = [[getattr(record, name) for name in listed] for record in found]
        names = list(listed)
    printing.show(names, rows, as_json=as_json, as_csv=as_csv)
