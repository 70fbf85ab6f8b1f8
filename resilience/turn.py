"""One client's turn in a call: its attempts and retries, each admitted by the circuit, settled, and told to the record."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from resilience import telemetry
from resilience.baml import Attempt, Usage
from resilience.breaker import Breaker, BreakerPolicy, Outcome, Permit, verdict
from resilience.clock import Clock
from resilience.decision import Again, NextClient, Situation, Step, decide
from resilience.errors import AttemptTimeoutError, CircuitOpenError
from resilience.failure import ErrorCategory, Failure, classify
from resilience.fallback import FallbackPolicy
from resilience.history import Fingerprints, new_id
from resilience.keeping import Keep, Ledger, Tell
from resilience.privacy import Content, Privacy
from resilience.requests import current_request_id
from resilience.retry import RetryPolicy

AsyncFunction = Callable[..., Coroutine[Any, Any, Any]]

_NO_USAGE: Final = Usage()
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
    privacy: Privacy = field(default_factory=Privacy)
    tell: Tell | None = None
    fingerprints: Fingerprints = field(default_factory=Fingerprints)


@dataclass(slots=True)
class Way:
    """Where one request of the user stands: what its turns read, and what they add to.

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
    ledger: Ledger = field(init=False)
    causes: dict[str, Exception] = field(default_factory=dict)
    tried: list[str] = field(default_factory=list)
    seen: set[ErrorCategory] = field(default_factory=set)
    attempts: int = 0
    retries: int = 0
    used: list[Usage] = field(default_factory=list)
    waits: dict[str, float | None] = field(default_factory=dict)
    started: float = 0.0

    def __post_init__(self) -> None:
        house, call_id = self.house, new_id()
        request_id = current_request_id() or call_id
        trace = telemetry.trace(self.function, self.preferred)
        self.ledger = Ledger(
            house.keep,
            house.clock,
            call_id,
            request_id,
            self.function,
            house.privacy,
            trace,
            house.tell,
            house.fingerprints,
        )

    def retry_after(self) -> float | None:
        """The shortest wait of those the clients stated last; None when none did."""
        return min((wait for wait in self.waits.values() if wait is not None), default=None)

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


@dataclass(slots=True)
class Turn:
    """One client's turn in a call: its attempts, until it answers or the decision leads elsewhere."""

    call: Way
    client: str
    function: AsyncFunction
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    answer: Any = None
    failure: Failure | None = None
    step: Step | None = None
    retries: int = 0
    output_retries: int = 0
    refusals: int = 0

    async def take(self) -> bool:
        """Ask until there is an answer (True) or asking this client again makes no sense (False)."""
        while not await self._attempt():
            if not isinstance(self.step, Again):
                return False
            self._count()
            if self.step.delay > 0:
                await self.call.house.clock.sleep(self.step.delay)
        return True

    def _count(self) -> None:
        category = None if self.failure is None else self.failure.category
        if category is ErrorCategory.CIRCUIT_OPEN:
            self.refusals += 1
            return
        self.retries += 1
        self.call.retries += 1
        self.output_retries += category is ErrorCategory.OUTPUT_INVALID

    async def _attempt(self) -> bool:
        house = self.call.house
        try:
            permit = await house.breaker.admit(self.client) if self.call.shared else None
        except CircuitOpenError as refusal:
            self._refused(refusal)
            return False
        self.call.attempts += 1
        self.call.ledger.trace.asking(self.client)
        started = house.clock.monotonic()
        try:
            self.answer = await self._ask()
        except Exception as exc:  # noqa: BLE001 - every failure of a client is ours to sort; the caller gets it in the end
            self._failed(exc, permit, house.clock.monotonic() - started)
            return False
        except (
            BaseException
        ):  # cancelled, or the interpreter is going: the permit goes back, nothing is counted
            if permit is not None:
                house.breaker.settle(permit, Outcome.IGNORED)
            raise
        seconds = house.clock.monotonic() - started
        self._settle(permit, None, seconds)
        self._answered(seconds)
        return True

    def _answered(self, seconds: float) -> None:
        call, usage = self.call, self._usage()
        call.used.append(usage)
        self._show(None)
        call.ledger.answered(
            self.client, attempt=self.retries + 1, seconds=seconds, usage=usage, alone=call.attempts == 1
        )

    def _usage(self) -> Usage:
        """What the last attempt used, where the function can tell. Never raises."""
        return self.function.usage() if isinstance(self.function, Attempt) else _NO_USAGE

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

    def _settle(
        self, permit: Permit | None, failure: Failure | None, seconds: float, backoff: float = 0.0
    ) -> bool:
        """Tell the circuit; True if it had moved on before."""
        if permit is None:
            return False
        outcome, cooldown = verdict(
            failure, seconds=seconds, policy=self.call.policies.breaker, backoff=backoff
        )
        if failure is None:
            return self.call.house.breaker.settle(permit, outcome)
        reason, again = failure.category.value, isinstance(self.step, Again)
        return self.call.house.breaker.settle(permit, outcome, cooldown=cooldown, reason=reason, retry=again)

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
        self._decide(failure, self.call.house.random())
        self.call.causes.setdefault(self.client, refusal)
        if not isinstance(
            self.step, NextClient
        ):  # a refusal that only leads elsewhere is a fallback, not an error
            self._record(failure)

    def _failed(self, exc: Exception, permit: Permit | None, seconds: float) -> None:
        call = self.call
        judge = self.function.classify if isinstance(self.function, Attempt) else classify
        failure = judge(exc, now=call.house.clock.time())
        call.causes.pop(self.client, None)  # the latest failure is the last in line
        call.causes[self.client] = exc
        call.seen.add(failure.category)
        draw = call.house.random()
        backoff = call.policies.retry.backoff(self.retries + 1, draw)
        # Decided first, so that the failure and its retry are told together.
        self._decide(failure, draw, budget=permit is None or call.house.breaker.may_retry(self.client))
        late = self._settle(permit, failure, seconds, backoff)
        usage = self._usage()
        call.used.append(usage)
        self._show(exc)
        self._record(failure, duration=seconds, late=late, content=self._content(exc), usage=usage)

    def _content(self, exc: Exception | None) -> Content | None:
        """What was asked and answered, where the privacy level keeps it and the function can tell."""
        keeps = self.call.house.privacy.keeps_content
        return self.function.content(exc) if keeps and isinstance(self.function, Attempt) else None

    def _show(self, exc: Exception | None) -> None:
        """Let spans have the content, where somebody asked them to."""
        ledger = self.call.ledger
        if ledger.trace.wants_content and (content := self._content(exc)) is not None:
            ledger.show(content)

    def _decide(self, failure: Failure, draw: float, *, budget: bool = True) -> None:
        call = self.call
        call.waits[self.client] = failure.retry_after
        more = bool(call.candidates())
        situation = Situation(
            failure=failure,
            retries=self.retries,
            output_retries=self.output_retries,
            refusals=self.refusals,
            more=more,
            free=more and call.free(),
            remaining=call.remaining(),
            budget=budget,
            draw=draw,
        )
        self.failure = failure
        self.step = decide(situation, call.policies.retry, call.policies.fallback)

    def _record(
        self,
        failure: Failure,
        *,
        duration: float = 0.0,
        late: bool = False,
        content: Content | None = None,
        usage: Usage = _NO_USAGE,
    ) -> None:
        self.call.ledger.error(
            failure,
            client=self.client,
            attempt=self.retries + 1,
            step=self.step,
            duration=duration,
            late=late,
            state=self.call.house.breaker.state(self.client) if self.call.shared else None,
            content=content,
            usage=usage,
        )
