"""RetryPolicy: how often one client is asked, and how long to wait in between. tenacity is hidden in here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Final

import tenacity as _t

from resilience import validation
from resilience.failure import ErrorCategory, Failure, RetryMode

_MANDATED: Final = ("max_retries", "initial_delay", "max_delay", "exponential_base", "jitter")
_JITTER_SHARE, _JITTER_MOST = 0.1, 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """How one client is asked again. All times are seconds.

    Attributes:
        max_retries: tries after the first, on each client; 3 means up to 4 attempts a client. Fewer when the whole fleet has
            retried this client enough: see `BreakerPolicy.retry_ratio`.
        initial_delay: the longest wait before the second retry's doubling begins.
        max_delay: no backoff is longer; a wait the provider states may be.
        exponential_base: what the longest wait is multiplied by from one retry to the next.
        jitter: draw the wait evenly between 0 and its longest ("full jitter", AWS Architecture Blog,
            Exponential Backoff And Jitter); without it every wait is the longest.
        deadline: what the whole call may take, with its retries, waits and fallbacks; None is no limit.
        attempt_timeout: what one attempt may take; None leaves it to the client.
        max_retry_after: a stated wait longer than this is not slept out: the next client is asked, or the call
            fails now and its error says `retry_after`.
        max_output_retries: tries again after an answer that does not parse, on each client.
        patience: may the same client be asked again, by category, where this differs from the table of
            `resilience.failure.CATEGORY_RULES`; for example `{ErrorCategory.TIMEOUT: RetryMode.YES}`.

    Raises:
        ValueError: naming the field, its value and the allowed range.
    """

    max_retries: int = 3
    initial_delay: float = 1.0
    max_delay: float = 60.0
    exponential_base: float = 2.0
    jitter: bool = True
    deadline: float | None = None
    attempt_timeout: float | None = None
    max_retry_after: float = 60.0
    max_output_retries: int = 1
    patience: Mapping[ErrorCategory, RetryMode] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        validation.integer("RetryPolicy", "max_retries", self.max_retries, high=1000)
        validation.number("RetryPolicy", "initial_delay", self.initial_delay)
        validation.number("RetryPolicy", "max_delay", self.max_delay, low=self.initial_delay)
        validation.number("RetryPolicy", "exponential_base", self.exponential_base, low=1.0)
        validation.flag("RetryPolicy", "jitter", self.jitter)
        validation.optional_number("RetryPolicy", "deadline", self.deadline)
        validation.optional_number("RetryPolicy", "attempt_timeout", self.attempt_timeout)
        validation.number("RetryPolicy", "max_retry_after", self.max_retry_after)
        validation.integer("RetryPolicy", "max_output_retries", self.max_output_retries, high=1000)
        object.__setattr__(self, "patience", _patience(self.patience))

    def patience_for(self, failure: Failure) -> RetryMode:
        """May the same client be asked again after *failure*?

        The provider's own word (`x-should-retry`) wins, but for an unpaid bill: OpenAI says `true` with every 429,
        and asking again does not pay (BerriAI/litellm#32785).
        """
        if failure.should_retry is False:
            return RetryMode.NEVER
        if failure.should_retry and failure.category is not ErrorCategory.QUOTA_EXHAUSTED:
            return RetryMode.YES
        return self.patience.get(failure.category, failure.traits.patience)

    def limit_for(self, category: ErrorCategory) -> int:
        """The retries one client gets for failures of *category*."""
        return self.max_output_retries if category is ErrorCategory.OUTPUT_INVALID else self.max_retries

    def backoff(self, retry: int, draw: float) -> float:
        """The wait before the *retry*-th retry (from 1), in seconds; *draw* is a number from 0 to 1."""
        longest = _longest(self, retry)
        return draw * longest if self.jitter else longest

    def stated_wait(self, retry_after: float, draw: float) -> float:
        """A stated wait with a little on top, so that a fleet does not come back in one instant."""
        return retry_after + (draw * min(_JITTER_SHARE * retry_after, _JITTER_MOST) if self.jitter else 0.0)


def _longest(policy: RetryPolicy, retry: int) -> float:
    state = _t.RetryCallState(retry_object=None, fn=None, args=(), kwargs={})  # type: ignore[arg-type] # a wait looks at the number alone
    state.attempt_number = retry
    wait = _t.wait_exponential(
        multiplier=policy.initial_delay, max=policy.max_delay, exp_base=policy.exponential_base
    )
    return wait(state)


def _patience(given: Mapping[Any, Any]) -> Mapping[ErrorCategory, RetryMode]:
    try:
        return {ErrorCategory(key): RetryMode(value) for key, value in given.items()}
    except (ValueError, AttributeError) as exc:
        msg = (
            f"RetryPolicy.patience={given!r}: give a mapping of {', '.join(ErrorCategory)} "
            f"to one of {', '.join(RetryMode)} ({exc})"
        )
        raise ValueError(msg) from None


DEFAULT_RETRY_CONFIG: Final[dict[str, Any]] = {
    name: value for name, value in asdict(RetryPolicy()).items() if name in _MANDATED
}
"""The five fields every deployment has set since the AI co-scientist; `RetryPolicy(**DEFAULT_RETRY_CONFIG)` goes back."""
