"""`resilience calls`: what became of calls."""

from __future__ import annotations

from typing import Annotated, Final

import typer

from resilience.cli import asking
from resilience.cli.errors import print_records
from resilience.cli.explained import explained
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
    client: asking.Client = None,
    function: asking.Function = None,
    outcome: Annotated[CallOutcome | None, typer.Option(help="Only those that ended so.")] = None,
    since: asking.Since = None,
    until: asking.Until = None,
    request_id: asking.RequestId = None,
    limit: asking.Limit = 50,
    unclean: Annotated[
        bool, typer.Option("--unclean", help="Only those that were not answered at once.")
    ] = False,
    as_json: asking.AsJson = False,
    as_csv: asking.AsCsv = False,
) -> None:
    """List calls, newest first; --client is the one that was to answer."""
    with explained():
        found = asking.history().calls(
            client=client,
            function=function,
            outcome=outcome,
            since=since,
            until=until,
            request_id=request_id,
            unclean=unclean,
            limit=limit,
        )
    print_records(found, _LISTED, as_json=as_json, as_csv=as_csv)
