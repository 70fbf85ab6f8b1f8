"""What follows a failed attempt: a retry after a wait, a fallback, or the end of the call.

The decision is a pure function of a value: it waits for nothing, reads no clock and draws no random number. The caller
carries it out. So every rule can be tested without a client, and the same rules hold for every way of running a call.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from resilience.breaker.ramp import REASON as RAMP_REASON
from resilience.failure import BackoffMode, ErrorCategory, Failure, RetryMode
from resilience.retry import RetryPolicy

LONGEST_QUICK_LOSS: Final = 5.0
"""Seconds within which a lost connection is a passing fault of the network. Later it ended a silence of the client."""
_SHORTEST_WAIT: Final = 0.001
"""Seconds to wait at least for a circuit, so that a refusal that states no wait cannot make a busy loop."""


class RetryDenied(StrEnum):
    """Why a retry that the failure allows is not made."""

    BUDGET = "budget"
    """The fleet has used up the client's retry budget."""
    DEADLINE = "deadline"
    """The wait would end after the call's deadline."""
    RETRY_AFTER = "retry_after"
    """The provider states a longer wait than `RetryPolicy.max_retry_after`."""


@dataclass(frozen=True, slots=True)
class Retry:
    """Ask the same client again after `delay` seconds."""

    delay: float


@dataclass(frozen=True, slots=True)
class Fallback:
    """Ask the next client now.

    Attributes:
        denied: why the same client is not asked again, where the failure would have allowed it.
    """

    denied: RetryDenied | None = None


@dataclass(frozen=True, slots=True)
class Fail:
    """Raise the error to the caller.

    Attributes:
        denied: why the same client is not asked again, where the failure would have allowed it.
    """

    denied: RetryDenied | None = None


Decision = Retry | Fallback | Fail


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptState:
    """The state of a call after a failed attempt.

    Attributes:
        failure: what classification made of the attempt's exception.
        retries: retries already made on this client.
        output_retries: those of them that followed an unusable answer.
        refusals: waits for this client's circuit. They are not retries: no request was sent.
        more: whether another client may be asked after this failure.
        free: whether the circuit of one of them would admit an attempt now.
        remaining: seconds until the call's deadline; None without one.
        budget: whether the client's retry budget has a retry left.
        jitter_sample: a random number from 0 to 1.
        stream_began: whether this is a stream for which a request was made.
        content_shown: whether the reader of that stream has seen a snapshot with content.
        silence: seconds that the client brought nothing before the attempt ended.
        is_cooldown_shared: whether the client's circuit holds the cool-down that the failure starts. The circuit then says when
            the wait ends, and paces the callers that wait.
        ends_soon: whether a refusal is by a cool-down that is short.
        is_committed: whether the call waits for that cool-down by its policy although another client is free.
        waited: seconds that the call has waited for the client's circuit since its last request.
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
    stream_began: bool = False
    content_shown: bool = False
    silence: float = 0.0
    is_cooldown_shared: bool = False
    ends_soon: bool = False
    is_committed: bool = False
    waited: float = 0.0

    @property
    def was_silent(self) -> bool:
        """Whether a lost connection ended a long silence. A client that hangs is likely to hang again, so it is a time-out."""
        return self.failure.category is ErrorCategory.NETWORK and self.silence > LONGEST_QUICK_LOSS


def decide(state: AttemptState, retry: RetryPolicy) -> Decision:
    """Return what to do next.

    The failure's `RetryMode` says whether the same client comes before a free one. A retry that would be allowed may still
    be denied, by the provider's stated wait, the deadline or the retry budget; the decision carries the reason.

    Args:
        state: the state of the call after the attempt.
        retry: how the client is asked again.
    """
    if not _may_restart(state, retry):
        return Fail()
    has_free_client = state.more and state.free
    denied = None
    if _may_retry(state, retry, has_free_client=has_free_client):
        delay = _delay(state, retry)
        # A dropped connection is worth one retry at once, but no wait while another client is free.
        immediate_only = has_free_client and _backoff_mode(state) is BackoffMode.IMMEDIATE_FIRST
        if delay <= 0 or not immediate_only:
            denied = _denied(delay, state, retry)
            if denied is None:
                return Retry(delay)
    return Fallback(denied) if state.more else Fail(denied)


def _may_restart(state: AttemptState, retry: RetryPolicy) -> bool:
    """Return whether another request may follow. Only for a stream this can be no: its reader may work with differences."""
    if retry.stream_restart == "never":
        return not state.stream_began
    return retry.stream_restart == "anytime" or not state.content_shown


def _may_retry(state: AttemptState, retry: RetryPolicy, *, has_free_client: bool) -> bool:
    if _used_retries(state) >= retry.limit_for(state.failure.category):
        return False
    mode = _retry_mode(state, retry)
    if not has_free_client:
        return mode is not RetryMode.NEVER
    if state.content_shown:  # its reader waits, and this client has just failed in the middle of an answer
        return False
    return mode is RetryMode.ALWAYS or (mode is RetryMode.ONCE and state.retries == 0)


def _retry_mode(state: AttemptState, retry: RetryPolicy) -> RetryMode:
    """Return when the same client may be asked again, by the policy and by what this call has seen."""
    if state.was_silent:
        return retry.mode_for(ErrorCategory.TIMEOUT)
    if state.is_committed:
        return RetryMode.ALWAYS
    mode = retry.retry_mode_for(state.failure)
    return RetryMode.LAST_RESORT if state.ends_soon and mode is RetryMode.NEVER else mode


def _backoff_mode(state: AttemptState) -> BackoffMode:
    return BackoffMode.EXPONENTIAL if state.was_silent else state.failure.rules.backoff


def _used_retries(state: AttemptState) -> int:
    """Return what counts towards the limit. Unusable answers and refusals have counts of their own."""
    match state.failure.category:
        case ErrorCategory.OUTPUT_INVALID:
            return state.output_retries
        case ErrorCategory.CIRCUIT_OPEN:
            # A closed circuit that lets its traffic back in admits every call within two seconds: no policy forbids that wait.
            if state.failure.provider_code == RAMP_REASON:
                return -1
            # Waits for a cool-down are limited by time, see `_denied`: at its end the circuit admits a few callers after the
            # other, so the last of them are refused several times.
            return 0 if state.ends_soon else state.refusals
    return state.retries


def _delay(state: AttemptState, retry: RetryPolicy) -> float:
    """Return the seconds to wait before a retry: the backoff, but never less than a stated wait."""
    failure = state.failure
    mode = _backoff_mode(state)
    immediate = mode is BackoffMode.NONE or (mode is BackoffMode.IMMEDIATE_FIRST and state.retries == 0)
    backoff = 0.0 if immediate else retry.backoff(state.retries + 1, state.jitter_sample)
    if failure.retry_after is None:
        return backoff
    # The circuit spreads the end of a cool-down over the fleet. A second jitter would make the caller late for its own turn.
    if state.is_cooldown_shared or failure.category is ErrorCategory.CIRCUIT_OPEN:
        return max(failure.retry_after, _SHORTEST_WAIT)
    return max(backoff, retry.stated_wait(failure.retry_after, state.jitter_sample))


def _denied(delay: float, state: AttemptState, retry: RetryPolicy) -> RetryDenied | None:
    stated = state.failure.retry_after
    if stated is not None and state.waited + stated > retry.max_retry_after:
        return RetryDenied.RETRY_AFTER
    if state.remaining is not None and delay >= state.remaining:
        return RetryDenied.DEADLINE
    # A cool-down keeps callers away from the client and lets a few in at its end, so it needs no budget. The budget would only
    # fail the calls that wait.
    return None if state.budget or state.is_cooldown_shared else RetryDenied.BUDGET


_BY_CATEGORY: Final = frozenset(
    {
        ErrorCategory.NETWORK,
        ErrorCategory.TIMEOUT,
        ErrorCategory.CIRCUIT_OPEN,
        # BAML returns a cut answer as a success. For the guard it is a failure, so the next member is asked.
        ErrorCategory.OUTPUT_TRUNCATED,
    }
)
_BY_CLASS: Final = frozenset({"BamlClientHttpError", "BamlTimeoutError", "AttemptTimeoutError"})
"""The exceptions on which BAML asks the next member of a `fallback` strategy. A failed validation is none of them."""


def falls_back_in_baml(failure: Failure) -> bool:
    """Return whether BAML itself would ask the next member of a `fallback` strategy after *failure*.

    It does after every HTTP error, 400 and 401 included, and after a lost connection. Versions before 0.218 raise the latter
    as a failed validation, so the category counts too.
    """
    return failure.category in _BY_CATEGORY or failure.exception_type in _BY_CLASS
