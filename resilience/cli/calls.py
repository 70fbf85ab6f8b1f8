"""`resilience calls`: what became of calls."""

from __future__ import annotations

from typing import Annotated, Final

import typer

from resilience.cli import options
from resilience.cli.errors import print_records
from resilience.cli.exit_codes import explained
from resilience.history import CallOutcome

_LISTED: Final = (
    "started_at",
    "client",
    "function",
    "outcome",
    "client_final",
    "attempts",
    "retries",
    "fallbacks",
    "duration",
    "recovery",
    "request_id",
)


def calls(
    *,
    client: options.Client = None,
    function: options.Function = None,
    outcome: Annotated[CallOutcome | None, typer.Option(help="Only those that ended so.")] = None,
    since: options.Since = None,
    until: options.Until = None,
    request_id: options.RequestId = None,
    limit: options.Limit = 50,
    not_ok: Annotated[bool, typer.Option("--not-ok", help="Only calls whose outcome is not ok.")] = False,
    as_json: options.AsJson = False,
    as_csv: options.AsCsv = False,
) -> None:
    """List calls, newest first; --client is the one that was to answer."""
    with explained():
        found = options.history().calls(
            client=client,
            function=function,
            outcome=outcome,
            since=since,
            until=until,
            request_id=request_id,
            not_ok=not_ok,
            limit=limit,
        )
    print_records(found, _LISTED, as_json=as_json, as_csv=as_csv)
