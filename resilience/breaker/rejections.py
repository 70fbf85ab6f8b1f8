"""The row of refused requests: behaviour corrects words. Pure.

A 4xx says that the request is wrong, and another client would refuse it too. But some providers dress their own trouble as a 4xx. A
client that refuses *every* request, of several different ones, is not answered by better requests. From the fifth refusal in a row on, in
the whole fleet, such a call may fall back. The circuit does not open: the window counts none of them, and a single success ends the row.

*Different* means two functions, or three requests by a digest of their arguments. A process compares only its own: its digests are keyed
by a random key and never leave it. It reports how many different ones it has seen since the last success, and the circuit keeps the
largest number of any process. A sum would count the same wrong request once for each process that makes it.
"""

from __future__ import annotations

from typing import Final

from resilience.breaker.messages import StepRequest
from resilience.breaker.state import CircuitData

IN_A_ROW: Final = 5
"""The refusal in a row, of the whole fleet, from which on calls may fall back."""
FUNCTIONS: Final = 2
"""Different functions that show that no single one is at fault."""
REQUESTS: Final = 3
"""Different requests that show that no single one is at fault."""


def refuses_everything(rejected: int, functions: int, requests: int) -> bool:
    """Return whether a client that refused this row of requests refuses every request.

    Args:
        rejected: refused requests in a row, of the whole fleet.
        functions: different functions among them.
        requests: different requests among them.
    """
    return rejected >= IN_A_ROW and (functions >= FUNCTIONS or requests >= REQUESTS)


def note_kinds(data: CircuitData, request: StepRequest) -> None:
    """Keep how many different functions and requests a process has seen in the row; nothing if a success has ended the row."""
    if data.rejected:
        data.rejected_functions = max(data.rejected_functions, request.rejected_functions)
        data.rejected_requests = max(data.rejected_requests, request.rejected_requests)


def end_row(data: CircuitData) -> None:
    """Forget the row: a call has succeeded, or a new epoch began."""
    data.rejected = data.rejected_functions = data.rejected_requests = 0
