"""The way of one call: fallback outermost, retry inside it, the circuit inside that, then the client, then the record.

One rule stands over all others here: the caller's own result or exception is never replaced, delayed or lost because
the store, the history or a log failed; and a cancellation goes through at once, giving back what it held.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from resilience.decision import NextClient
from resilience.errors import (
    AllClientsFailedError,
    DeadlineExceededError,
)
from resilience.history import CallOutcome, FallbackRecord
from resilience.keeping import Ending
from resilience.turn import House, Policies, Turn, Way

__all__ = ["Call", "House", "Policies"]


@dataclass(slots=True)
class Call(Way):
    """One request of the user on its way."""

    hop: FallbackRecord | None = None
    hop_began: float = 0.0

    async def run(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[Any, str]:
        """Walk the corridor; gives the answer and the client that gave it.

        Raises:
            Exception: the client's own, when only one client had its turn.
            AllClientsFailedError: when several had.
            CircuitOpenError: when the only client was not asked.
            DeadlineExceededError: the policy's deadline came first.
        """
        self.started = self.house.clock.monotonic()
        began = self.house.clock.time()
        outcome, answered = CallOutcome.CANCELLED, None
        self.ledger.begin(began, self.preferred)
        try:
            result, answered = await self._within_deadline(args, kwargs)
            outcome = self._recovered()
        except Exception:
            outcome = CallOutcome.FAILED if self.attempts else CallOutcome.REJECTED
            raise
        else:
            return result, answered
        finally:
            self._end(began, outcome, answered)

    # --- which client -------------------------------------------------------------------------------------------

    async def _within_deadline(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[Any, str]:
        deadline = self.policies.retry.deadline
        if deadline is None:
            return await self._clients(args, kwargs)
        limit = asyncio.timeout(deadline)
        try:
            async with limit:
                return await self._clients(args, kwargs)
        except TimeoutError:
            if not limit.expired():
                raise
        last = next(reversed(self.causes.values()), None)
        raise DeadlineExceededError(self.function, deadline) from last

    async def _clients(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[Any, str]:
        client: str | None = self.preferred
        while client is not None:
            self.tried.append(client)
            turn = Turn(self, client, self.bind(client), args, kwargs)
            answered = await turn.take()
            self._settle_hop(succeeded=answered)
            if answered:
                return turn.answer, client
            client = self._next(turn)
        raise self._error()

    def _next(self, turn: Turn) -> str | None:
        """The client whose turn is next: the first that its circuit would admit, else the first."""
        if not isinstance(turn.step, NextClient) or turn.failure is None:
            return None
        left = self.candidates()
        chosen = next((client for client in left if self._free(client)), left[0])
        self.hop = self.ledger.hop(len(self.tried), turn.client, chosen, turn.failure.category)
        self.hop_began = self.house.clock.monotonic()
        return chosen

    # --- how it ends --------------------------------------------------------------------------------------------

    def _error(self) -> Exception:
        if len(self.causes) == 1:
            return next(iter(self.causes.values()))
        return AllClientsFailedError(self.function, self.causes, self.retry_after())

    def _recovered(self) -> CallOutcome:
        if len(self.tried) > 1:
            return CallOutcome.RECOVERED_FALLBACK
        return CallOutcome.OK if self.ledger.failed_at is None else CallOutcome.RECOVERED_RETRY

    def _settle_hop(self, *, succeeded: bool | None) -> None:
        if self.hop is not None:
            hop, self.hop = self.hop, None
            seconds = self.house.clock.monotonic() - self.hop_began
            self.ledger.hopped(hop, succeeded=succeeded, seconds=seconds)

    def _end(self, began: float, outcome: CallOutcome, answered: str | None) -> None:
        self.causes = {}  # an exception holds its frames, and they hold us
        self._settle_hop(succeeded=None)  # still open only when the call was cut short
        seconds = self.house.clock.monotonic() - self.started
        attempts, retries, fallbacks = self.attempts, self.retries, len(self.tried) - 1
        self.ledger.end(
            Ending(outcome, began, seconds, self.preferred, answered, attempts, retries, fallbacks, self.used)
        )
