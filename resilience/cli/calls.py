"""`resilience calls`: calls and their outcomes.

A call is one request of the user, whatever number of attempts it took; `resilience errors` lists failed attempts. Calls that
succeeded at once are recorded, too, so that rates can be computed: `--not-ok` leaves them out.
"""

from __future__ import annotations

from functools import partial
from typing import Annotated, Final

import typer

from resilience.cli import completion, empty_results, options
from resilience.cli.exit_codes import exit_on_setup_error
from resilience.cli.records_table import Column, clock, print_records, short, whole_id
from resilience.history import CallOutcome, CallRecord

_COLUMNS: Final = (
    Column("time", lambda call: clock(call.started_at)),
    Column("client", lambda call: call.client, name=True),
    Column("answered by", lambda call: call.client_final, keep=5),
    Column("function", lambda call: call.function, flexible=True),
    Column("outcome", lambda call: call.outcome),
    Column("attempts", lambda call: call.attempts, keep=2),
    Column("fallbacks", lambda call: call.fallbacks, keep=1),
    Column("seconds", lambda call: call.duration, keep=4),
    Column("request", lambda call: short(call.request_id), keep=3),
)


def calls(
    *,
    client: options.Client = None,
    answered_by: Annotated[
        str | None,
        typer.Option(help="Only calls that this client answered.", autocompletion=completion.clients),
    ] = None,
    function: options.Function = None,
    outcome: Annotated[CallOutcome | None, typer.Option(help="Only calls with this outcome.")] = None,
    since: options.Since = None,
    until: options.Until = None,
    request_id: options.RequestId = None,
    tenant: Annotated[str | None, typer.Option(help="Only calls of this tenant.")] = None,
    limit: options.Limit = 50,
    not_ok: Annotated[bool, typer.Option("--not-ok", help="Only calls whose outcome is not ok.")] = False,
    output: options.Output = None,
    as_json: options.AsJson = False,
    as_csv: options.AsCsv = False,
    raw: options.Raw = False,
) -> None:
    """List calls, newest first.

    --client is the client that was asked first or whose answer the caller
    got, --answered-by only the latter.

    Example: resilience calls --not-ok --since 1h
    """
    form = options.form(output, as_json=as_json, as_csv=as_csv)
    options.check_window(since, until)
    with exit_on_setup_error():
        history = options.history()
        read = partial(
            history.calls,
            function=function,
            outcome=outcome,
            since=since,
            until=until,
            request_id=request_id and whole_id(history, "calls", "request_id", request_id),
            tenant=tenant,
            not_ok=not_ok,
            limit=limit,
        )
        records = _of_client(read, client, answered_by)
        asked = {"client": answered_by or client, "function": function}
        print_records(
            records,
            _COLUMNS,
            form,
            raw=raw,
            limit=limit,
            empty=lambda: empty_results.explain(history, options.shown_place(), "calls", "started_at", asked),
        )


def _of_client(
    read: partial[list[CallRecord]], client: str | None, answered_by: str | None
) -> list[CallRecord]:
    """Return the newest calls of a client, as the one that was asked first or as the one that answered."""
    found = read(client=client, answered_by=answered_by)
    if client is None or answered_by is not None:
        return found
    # Two queries, each with its own index, and not one with an OR, which reads and sorts all calls of the client.
    both = {call.call_id: call for call in (*found, *read(answered_by=client))}
    newest = sorted(both.values(), key=lambda call: (call.started_at, call.call_id), reverse=True)
    return newest[: read.keywords["limit"]]
