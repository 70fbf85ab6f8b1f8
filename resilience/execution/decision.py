"""What happens after a failed attempt: again after a wait, the next client, or raise. Pure: decide, then act."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from resilience.failure import BackoffMode, ErrorCategory, Failure, RetryMode
from resilience.retry import RetryPolicy


@dataclass(frozen=True, slots=True)
class Retry:
    """Ask the same client again after `delay` seconds."""

    delay: float


class RetryDenied(StrEnum):
    """What kept a retry from being made that the failure would have had."""

    BUDGET = "budget"
    """The fleet has retried this client enough for now."""
    DEADLINE = "deadline"
    """The wait would have outlasted the call's deadline."""
    RETRY_AFTER = "retry_after"
    """The provider states a longer wait than `RetryPolicy.max_retry_after`."""


@dataclass(frozen=True, slots=True)
class Fallback:
    """Ask the next client now; `denied` says why not the same one again, when it would have been its turn."""

    denied: RetryDenied | None = None


@dataclass(frozen=True, slots=True)
class Fail:
    """Nothing more can be done: the caller hears of it; `denied` says why there is no retry that there would have been."""

    denied: RetryDenied | None = None


Decision = Retry | Fallback | Fail


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptState:
    """Where a call stands after a failed attempt.

    Attributes:
        failure: what the attempt's exception turned out to be.
        retries: retries already made on this client.
        output_retries: those of them that followed an unusable answer.
        refusals: waits for this client's circuit, which are no retries: nothing had been asked.
        more: whether another client may be asked after this failure.
        free: whether the circuit of one of them would admit an attempt now.
        remaining: seconds until the call's deadline; None without one.
        budget: the fleet may make another retry on this client.
        jitter_sample: a number from 0 to 1 for the jitter.
    """

    failure: Failure
    retries: int = 0
    output_retries: int = 0
    refusals: int = 0
    more: bool = False
    free: bool = False
    remaining: float | None = None
    budget: bool = True
    jitter_sample: float = 1.0


def decide(state: AttemptState, retry: RetryPolicy) -> Decision:
    """Return what happens next."""
    free = state.more and state.free
    denied = None
    if _may_ask_again(state, retry, free=free):
        delay = _delay(state, retry)
        if not (free and delay > 0 and _at_once_or_elsewhere(state)):
            denied = _denial(delay, state, retry)
            if denied is None:
                return Retry(delay)
    return Fallback(denied) if state.more else Fail(denied)


def _may_ask_again(state: AttemptState, retry: RetryPolicy, *, free: bool) -> bool:
    if _used(state) >= retry.limit_for(state.failure.category):
        return False
    patience = retry.patience_for(state.failure)
    if not free:
        return patience is not RetryMode.NEVER
    return patience is RetryMode.YES or (patience is RetryMode.ONCE and state.retries == 0)


def _used(state: AttemptState) -> int:
    match state.failure.category:
        case ErrorCategory.OUTPUT_INVALID:
            return state.output_retries
        case ErrorCategory.CIRCUIT_OPEN:
            return state.refusals
    return state.retries


def _delay(state: AttemptState, retry: RetryPolicy) -> float:
    failure = state.failure
    wait = failure.traits.wait
    first_at_once = wait is BackoffMode.FIRST_AT_ONCE and state.retries == 0
    backoff = (
        0.0
        if wait is BackoffMode.NONE or first_at_once
        else retry.backoff(state.retries + 1, state.jitter_sample)
    )
    if failure.retry_after is None:
        return backoff
    return max(backoff, retry.stated_wait(failure.retry_after, state.jitter_sample))


def _denial(delay: float, state: AttemptState, retry: RetryPolicy) -> RetryDenied | None:
    stated = state.failure.retry_after
    if stated is not None and stated > retry.max_retry_after:
        return RetryDenied.RETRY_AFTER
    if state.remaining is not None and delay >= state.remaining:
        return RetryDenied.DEADLINE
    return None if state.budget else RetryDenied.BUDGET


def _at_once_or_elsewhere(state: AttemptState) -> bool:
    """A dropped connection is worth one try at once, but not a wait while another client is free."""
    return state.failure.traits.wait is BackoffMode.FIRST_AT_ONCE


_TRANSPORT: Final = frozenset({ErrorCategory.NETWORK, ErrorCategory.TIMEOUT, ErrorCategory.CIRCUIT_OPEN})
_HTTP_ERRORS: Final = frozenset({"BamlClientHttpError", "BamlTimeoutError"})
"""The exceptions on which BAML asks the next member of a `fallback` strategy. A failed validation is none of them."""


def falls_back_in_baml(failure: Failure) -> bool:
    """Return whether BAML itself would ask the next member of a `fallback` strategy after *failure*.

    It does after every HTTP error, 400 and 401 included, and after a lost connection. Versions before 0.218 raise the latter
    as a failed validation, so the category counts too.
    """
    return failure.category in _TRANSPORT or failure.exception_type in _HTTP_ERRORS
