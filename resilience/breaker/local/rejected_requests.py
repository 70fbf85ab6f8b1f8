"""The requests that a client refused as wrong, as one process sees them: the row, and how different they were. Pure.

`breaker/rejections.py` has the rule. Names and digests stay here; only their counts are sent.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from resilience.breaker.local.batching import ResultRun
from resilience.breaker.messages import Outcome, StepReply
from resilience.breaker.rejections import refuses_everything

_KEPT: Final = 16  # more different ones prove nothing further
_SUCCESSES: Final = (Outcome.SUCCESS, Outcome.SLOW_SUCCESS)


class RejectedRequests:
    """The row of refused requests of one circuit. The caller holds the lock of the `LocalCircuits`.

    Attributes:
        row: refused requests in a row, by the last reply and the results of this process since.
        functions: different functions among those of this process.
        requests: digests of different requests among those of this process.
    """

    __slots__ = ("_shared", "functions", "requests", "row")

    def __init__(self) -> None:
        self.row = 0
        self.functions: set[str] = set()
        self.requests: set[bytes] = set()
        self._shared = (0, 0, 0)  # the row of the last reply, its functions and requests

    def note(self, function: str, request: bytes) -> bool:
        """Note a refused request that is not yet counted. Return whether the client refuses every request.

        Args:
            function: the name of the function.
            request: a digest of its arguments.
        """
        if len(self.functions) < _KEPT:
            self.functions.add(function)
        if len(self.requests) < _KEPT:
            self.requests.add(request)
        _, functions, requests = self._shared
        return refuses_everything(
            self.row + 1, max(functions, len(self.functions)), max(requests, len(self.requests))
        )

    def add_result(self, outcome: Outcome) -> None:
        """Count a result of this process."""
        if outcome is Outcome.REJECTED:
            self.row += 1
        elif outcome in _SUCCESSES:
            self._end()

    def update(self, reply: StepReply, unsent: Iterable[ResultRun]) -> None:
        """Follow a reply.

        Args:
            reply: the reply.
            unsent: the results of this process that the reply does not contain.
        """
        # Fewer than before: a call of another process has succeeded, and what was seen before that proves nothing any more.
        if reply.rejected < self._shared[0]:
            self._end()
        self._shared = (reply.rejected, reply.rejected_functions, reply.rejected_requests)
        self.row = reply.rejected
        for run in unsent:
            if run.outcome is Outcome.REJECTED:
                self.row += run.count
            elif run.outcome in _SUCCESSES:
                self.row = 0

    def _end(self) -> None:
        self.row, self._shared = 0, (0, 0, 0)
        self.functions.clear()
        self.requests.clear()
