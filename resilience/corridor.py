"""The way of one call: fallback outermost, retry inside it, the circuit inside that, then the client, then the record.

One rule stands over all others here: the caller's own result or exception is never replaced, delayed or lost because
the store, the history or a log failed; and a cancellation goes through at once, giving back what it held.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Final

from resilience.breaker import Breaker, BreakerPolicy, Outcome, Permit, verdict
from resilience.clock import Clock
from resilience.decision import Again, NextClient, Situation, Step, decide
from resilience.errors import (
    AllClientsFailedError,
    AttemptTimeoutError,
    CircuitOpenError,
    DeadlineExceededError,
)
from resilience.failure import ErrorCategory, Failure, classify
from resilience.fallback import FallbackPolicy
from resilience.history import (
    Action,
    CallOutcome,
    CallRecord,
    ErrorRecord,
    FallbackRecord,
    fingerprint,
    new_id,
)
from resilience.retry import RetryPolicy

AsyncFunction = Callable[..., Coroutine[Any, Any, Any]]
Keep = Callable[[ErrorRecord | FallbackRecord | CallRecord], None]

COOLING: Final = frozenset({ErrorCategory.RATE_LIMIT.value})
"""Refusals for these reasons end by themselves soon: worth a wait when no other client is free."""


@dataclass(frozen=True, slots=True)
class Policies:
    """The three policies one function's calls go by."""

    retry: RetryPolicy
    fallback: FallbackPolicy
    breaker: BreakerPolicy


@dataclass(frozen=True, slots=True)
class House:
    """What every call of a handler needs and none changes."""

    breaker: Breaker
    clock: Clock
    random: Callable[[], float]
    keep: Keep


@dataclass(slots=True)
class Call:
    """One request of the user on its way.

    Attributes:
        house: the rooms it passes through.
        policies: the policies of its function.
        function: the function's name, for records and messages.
        preferred: the client that is to answer.
        bind: gives the coroutine function that asks one client.
        shared: take part in the fleet's circuits; off for a registry of the caller's own, whose clients we cannot name.
    """

    house: House
    policies: Policies
    function: str
    preferred: str
    bind: Callable[[str], AsyncFunction]
    shared: bool = True
    id: str = field(default_factory=new_id)
    causes: dict[str, Exception] = field(default_factory=dict)
    tried: list[str] = field(default_factory=list)
    seen: set[ErrorCategory] = field(default_factory=set)
    attempts: int = 0
    retries: int = 0
    retry_after: float | None = None
    started: float = 0.0
    hop: FallbackRecord | None = None

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
        raise DeadlineExceededError(self.function, deadline) from next(reversed(self.causes.values()), None)

    async def _clients(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[Any, str]:
        client: str | None = self.preferred
        while client is not None:
            self.tried.append(client)
            asked = _Turn(self, client, self.bind(client), args, kwargs)
            if await asked.take():
                self._settle_hop(succeeded=True)
                return asked.answer, client
            self._settle_hop(succeeded=False)
            client = self._next(asked)
        raise self._error()

    def _next(self, turn: _Turn) -> str | None:
        """The client whose turn is next: the first that its circuit would admit, else the first."""
        if not isinstance(turn.step, NextClient) or turn.failure is None:
            return None
        left = self.candidates()
        chosen = next((client for client in left if self._free(client)), left[0])
        self.hop = FallbackRecord(
            event_id=new_id(),
            occurred_at=self.now(),
            request_id=self.id,
            call_id=self.id,
            function=self.function,
            from_client=turn.client,
            to_client=chosen,
            reason=turn.failure.category,
        )
        return chosen

    def candidates(self) -> tuple[str, ...]:
        """The clients that may still have their turn."""
        return self.policies.fallback.candidates(self.preferred, self.seen, self.tried)

    def free(self) -> bool:
        """Would another client be admitted now?"""
        return any(self._free(client) for client in self.candidates())

    def _free(self, client: str) -> bool:
        return not self.shared or self.house.breaker.free(client)

    def remaining(self) -> float | None:
        """Seconds until the deadline; None without one."""
        deadline = self.policies.retry.deadline
        return None if deadline is None else self.started + deadline - self.house.clock.monotonic()

    # --- how it ends --------------------------------------------------------------------------------------------

    def _error(self) -> Exception:
        if len(self.causes) == 1:
            return next(iter(self.causes.values()))
        return AllClientsFailedError(self.function, self.causes, self.retry_after)

    def _recovered(self) -> CallOutcome:
        if len(self.tried) > 1:
            return CallOutcome.RECOVERED_FALLBACK
        return CallOutcome.RECOVERED_RETRY if self.retries else CallOutcome.OK

    def _settle_hop(self, *, succeeded: bool) -> None:
        if self.hop is not None:
            hop, self.hop = self.hop, None
            self.house.keep(replace(hop, succeeded=succeeded))

    def _end(self, began: float, outcome: CallOutcome, answered: str | None) -> None:
        self.causes = {}  # an exception holds its frames, and they hold us
        if self.hop is not None:
            self.house.keep(self.hop)
        self.house.keep(
            CallRecord(
                call_id=self.id,
                request_id=self.id,
                started_at=datetime.fromtimestamp(began, UTC),
                duration=self.house.clock.monotonic() - self.started,
                function=self.function,
                client=self.preferred,
                client_final=answered,
                outcome=outcome,
                attempts=self.attempts,
                retries=self.retries,
                fallbacks=len(self.tried) - 1,
            )
        )

    def now(self) -> datetime:
        """The time for a record."""
        return datetime.fromtimestamp(self.house.clock.time(), UTC)


@dataclass(slots=True)
class _Turn:
    """One client's turn in a call: its attempts, until it answers or the decision leads elsewhere."""

    call: Call
    client: str
    function: AsyncFunction
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    answer: Any = None
    failure: Failure | None = None
    step: Step | None = None
    retries: int = 0
    output_retries: int = 0

    async def take(self) -> bool:
        """Ask until there is an answer (True) or asking this client again makes no sense (False)."""
        while True:
            if await self._attempt():
                return True
            if not isinstance(self.step, Again):
                return False
            self.retries += 1
            self.call.retries += 1
            if self.failure is not None and self.failure.category is ErrorCategory.OUTPUT_INVALID:
                self.output_retries += 1
            if self.step.delay > 0:
                await self.call.house.clock.sleep(self.step.delay)

    async def _attempt(self) -> bool:
        house = self.call.house
        try:
            permit = await house.breaker.admit(self.client) if self.call.shared else None
        except CircuitOpenError as refusal:
            self._refused(refusal)
            return False
        self.call.attempts += 1
        started = house.clock.monotonic()
        try:
            self.answer = await self._ask()
        except Exception as exc:  # noqa: BLE001 - every failure of a client is ours to sort, and goes to the caller in the end
            self._failed(exc, permit, house.clock.monotonic() - started)
            return False
        except BaseException:  # cancelled, or the interpreter is going: the permit goes back, nothing is counted
            self._settle(permit, Outcome.IGNORED)
            raise
        if permit is not None:
            outcome, _ = verdict(None, seconds=house.clock.monotonic() - started, policy=self.call.policies.breaker, backoff=0.0)
            house.breaker.settle(permit, outcome)
        return True

    async def _ask(self) -> Any:
        seconds = self.call.policies.retry.attempt_timeout
        if seconds is None:
            return await self.function(*self.args, **self.kwargs)
        limit = asyncio.timeout(seconds)
        try:
            async with limit:
                return await self.function(*self.args, **self.kwargs)
        except TimeoutError as exc:
            if not limit.expired():
                raise
            raise AttemptTimeoutError(self.client, seconds) from exc

    def _settle(self, permit: Permit | None, outcome: Outcome) -> None:
        if permit is not None:
            self.call.house.breaker.settle(permit, outcome)

    # --- after a failure ----------------------------------------------------------------------------------------

    def _refused(self, refusal: CircuitOpenError) -> None:
        failure = Failure(
            category=ErrorCategory.CIRCUIT_OPEN,
            recoverable=True,
            counts_against_client=False,
            retry_after=refusal.retry_after,
            provider_code=refusal.reason,
            message=str(refusal),
            exception_type=type(refusal).__name__,
            should_retry=True if refusal.reason in COOLING and not self.call.free() else None,
        )
        self._decide(failure)
        self.call.causes.setdefault(self.client, refusal)
        if not isinstance(self.step, NextClient):  # a refusal that only leads elsewhere is a fallback, not an error
            self._record(failure, duration=0.0, late=False)

    def _failed(self, exc: Exception, permit: Permit | None, duration: float) -> None:
        judge = getattr(self.function, "classify", classify)
        failure: Failure = judge(exc, now=self.call.house.clock.time())
        self.call.causes.pop(self.client, None)
        self.call.causes[self.client] = exc
        self.call.seen.add(failure.category)
        draw = self._decide(failure)
        late = False
        if permit is not None:
            retry = self.call.policies.retry
            outcome, cooldown = verdict(
                failure,
                seconds=duration,
                policy=self.call.policies.breaker,
                backoff=retry.backoff(self.retries + 1, draw),
            )
            late = self.call.house.breaker.settle(permit, outcome, cooldown=cooldown, reason=failure.category)
        self._record(failure, duration=duration, late=late)

    def _decide(self, failure: Failure) -> float:
        call = self.call
        if failure.retry_after is not None:
            call.retry_after = min(failure.retry_after, call.retry_after or failure.retry_after)
        more = bool(call.candidates())
        draw = call.house.random()
        situation = Situation(
            failure=failure,
            retries=self.retries,
            output_retries=self.output_retries,
            more=more,
            free=more and call.free(),
            remaining=call.remaining(),
            draw=draw,
        )
        self.failure = failure
        self.step = decide(situation, call.policies.retry, call.policies.fallback)
        return draw

    def _record(self, failure: Failure, *, duration: float, late: bool) -> None:
        call = self.call
        call.house.keep(
            ErrorRecord(
                event_id=new_id(),
                occurred_at=call.now(),
                request_id=call.id,
                call_id=call.id,
                function=call.function,
                client=self.client,
                attempt=self.retries + 1,
                category=failure.category,
                recoverable=failure.recoverable,
                status=failure.status,
                provider_code=failure.provider_code,
                provider_request_id=failure.provider_request_id,
                message=failure.message,
                exception_type=failure.exception_type,
                fingerprint=fingerprint(failure, call.function),
                retry_after=failure.retry_after,
                backoff=self.step.delay if isinstance(self.step, Again) else None,
                duration=duration,
                action=_action(self.step),
                late=late,
            )
        )


def _action(step: Step | None) -> Action:
    if isinstance(step, Again):
        return Action.RETRY
    return Action.FALLBACK if isinstance(step, NextClient) else Action.RAISE
