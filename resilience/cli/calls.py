"""`resilience calls`: calls and their outcomes.

A call is one request of the user, whatever number of attempts it took; `resilience errors` lists failed attempts. Calls that
succeeded at once are recorded, too, so that rates can be computed: `--not-ok` leaves them out.
"""

from __future__ import annotations

from typing import Annotated, Final

import typer

from resilience.cli import options
from resilience.cli.errors import print_records
from resilience.cli.exit_codes import exit_on_setup_error
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
"""Fields that fit a terminal; `--json` and `--csv` print all."""


def calls(
    *,
    client: options.Client = None,
    function: options.Function = None,
    outcome: Annotated[CallOutcome | None, typer.Option(help="Only calls with this outcome.")] = None,
    since: options.Since = None,
    until: options.Until = None,
    request_id: options.RequestId = None,
    limit: options.Limit = 50,
    not_ok: Annotated[bool, typer.Option("--not-ok", help="Only calls whose outcome is not ok.")] = False,
    as_json: options.AsJson = False,
    as_csv: options.AsCsv = False,
) -> None:
    """List calls, newest first.

    --client is the client that was asked first, not the one that answered.

    Example: resilience calls --not-ok --since 1h
    """
    with exit_on_setup_error():
        records = options.history().calls(
            client=client,
            function=function,
            outcome=outcome,
            since=since,
            until=until,
            request_id=request_id,
            not_ok=not_ok,
            limit=limit,
        )
    print_records(records, _LISTED, as_json=as_json, as_csv=as_csv)
