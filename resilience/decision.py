"""What happens after a failed attempt: again after a wait, the next client, or raise. Pure: decide, then act."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from resilience.failure import ErrorCategory, Failure, Patience, Wait
from resilience.fallback import FallbackPolicy
from resilience.retry import RetryPolicy


@dataclass(frozen=True, slots=True)
class Again:
    """Ask the same client again after `delay` seconds."""

    delay: float


class Denial(StrEnum):
    """What kept a retry from being made that the failure would have had."""

    BUDGET = "budget"
    """The fleet has retried this client enough for now."""
    DEADLINE = "deadline"
    """The wait would have outlasted the call's deadline."""
    RETRY_AFTER = "retry_after"
    """The provider states a longer wait than `RetryPolicy.max_retry_after`."""


@dataclass(frozen=True, slots=True)
class NextClient:
    """Ask the next client now; `denied` says why not the same one again, when it would have been its turn."""

    denied: Denial | None = None


@dataclass(frozen=True, slots=True)
class Raise:
    """Nothing more can be done: the caller hears of it; `denied` says why there is no retry that there would have been."""

    denied: Denial | None = None


Step = Again | NextClient | Raise


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """Where a call stands after a failed attempt.

    Attributes:
        failure: what the attempt's exception turned out to be.
        retries: retries already made on this client.
        output_retries: those of them that followed an unusable answer.
        refusals: waits for this client's circuit, which are no retries: nothing had been asked.
        more: another client may still be asked.
        free: one of them would be admitted by its circuit now.
        remaining: seconds until the call's deadline; None without one.
        budget: the fleet may make another retry on this client.
        draw: a number from 0 to 1 for the jitter.
    """

    failure: Failure
    retries: int = 0
    output_retries: int = 0
    refusals: int = 0
    more: bool = False
    free: bool = False
    remaining: float | None = None
    budget: bool = True
    draw: float = 1.0


def decide(situation: Situation, retry: RetryPolicy, fallback: FallbackPolicy) -> Step:
    """Name what happens next."""
    over = situation.more and fallback.allows(situation.failure.category)
    free = over and situation.free
    denied = None
    if _may_ask_again(situation, retry, free=free):
        delay = _delay(situation, retry)
        if not (free and delay > 0 and _at_once_or_elsewhere(situation)):
            denied = _denial(delay, situation, retry)
            if denied is None:
                return Again(delay)
    return NextClient(denied) if over else Raise(denied)


def _may_ask_again(situation: Situation, retry: RetryPolicy, *, free: bool) -> bool:
    if _used(situation) >= retry.limit_for(situation.failure.category):
        return False
    patience = retry.patience_for(situation.failure)
    if not free:
        return patience is not Patience.NEVER
    return patience is Patience.YES or (patience is Patience.ONCE and situation.retries == 0)


def _used(situation: Situation) -> int:
    match situation.failure.category:
        case ErrorCategory.OUTPUT_INVALID:
            return situation.output_retries
        case ErrorCategory.CIRCUIT_OPEN:
            return situation.refusals
    return situation.retries


def _delay(situation: Situation, retry: RetryPolicy) -> float:
    failure = situation.failure
    wait = failure.traits.wait
    first_at_once = wait is Wait.FIRST_AT_ONCE and situation.retries == 0
    backoff = (
        0.0 if wait is Wait.NONE or first_at_once else retry.backoff(situation.retries + 1, situation.draw)
    )
    if failure.retry_after is None:
        return backoff
    return max(backoff, retry.stated_wait(failure.retry_after, situation.draw))


def _denial(delay: float, situation: Situation, retry: RetryPolicy) -> Denial | None:
    stated = situation.failure.retry_after
    if stated is not None and stated > retry.max_retry_after:
        return Denial.RETRY_AFTER
    if situation.remaining is not None and delay >= situation.remaining:
        return Denial.DEADLINE
    return None if situation.budget else Denial.BUDGET


def _at_once_or_elsewhere(situation: Situation) -> bool:
    """A dropped connection is worth one try at once, but not a wait while another client is free."""
    return situation.failure.traits.wait is Wait.FIRST_AT_ONCE
