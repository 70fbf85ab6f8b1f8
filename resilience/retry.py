"""RetryPolicy: how often one client is asked, and how long to wait before each retry.

Whether a failed attempt is retried at all is decided in `execution/decision.py`.

tenacity computes the curve of the backoff; tests hold it against the formula. Its retry loop is not used: it knows neither
circuits nor fallbacks nor the retry budget of a fleet. No type of tenacity appears in a signature.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from resilience import validation
from resilience.failure import CATEGORY_RULES, ErrorCategory, Failure, RetryMode

_MANDATED: Final = ("max_retries", "initial_delay", "max_delay", "exponential_base", "jitter")
_STREAM_RESTARTS: Final = ("anytime", "before_content", "never")
_STATED_JITTER_SHARE: Final = 0.1
"""The largest share of a stated wait that jitter adds to it."""
_STATED_JITTER_MAX: Final = 1.0
"""The longest time that jitter adds to a stated wait, in seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """How one client is asked again. All times are seconds.

    Attributes:
        max_retries: retries after the first attempt, on each client; 3 means up to 4 attempts a client. Fewer are made when
            the fleet has used up the client's retry budget: see `BreakerPolicy.retry_ratio`.
        initial_delay: the longest wait before the first retry. It is multiplied from there on.
        max_delay: upper limit of a backoff. A wait that the provider states may be longer.
        exponential_base: factor applied to the longest wait from one retry to the next.
        jitter: whether the wait is drawn evenly between 0 and its longest ("full jitter", AWS Architecture Blog,
            Exponential Backoff And Jitter). Without it every wait is the longest.
        deadline: limit for the whole call, with its retries, waits and fallbacks; None for no limit.
        attempt_timeout: limit for one attempt; None leaves it to the client. Of a guarded stream it covers the time until the
            first content arrives, so that it never cuts a long answer that is being written.
        first_token_timeout: limit of a guarded stream for the time until the first content of an attempt; None for no limit
            beside `attempt_timeout`. Opening events, pings and keep-alives are no content; the model's thinking is.
        stall_timeout: limit of a guarded stream for the silence between two events with content; None for no limit.
        max_retry_after: the longest stated wait that is slept out. After a longer one the next client is asked, or the
            call fails immediately and its error says `retry_after`.
        max_output_retries: retries after an answer that does not parse, on each client.
        stream_restart: when a guarded stream may be asked for again, on the same or another client. `"anytime"`: also after
            snapshots were shown; the next snapshots start at the beginning again. `"before_content"`: only until a snapshot
            with content was shown. `"never"`: no request after the first.
        retry_modes: when the same client may be asked again, by category, where this differs from the table in
            `resilience.failure.CATEGORY_RULES`; for example `{ErrorCategory.TIMEOUT: RetryMode.ALWAYS}`.

    Raises:
        ValueError: a value is invalid; the message names the field, its value and the allowed range.
    """

    max_retries: int = 3
    initial_delay: float = 1.0
    max_delay: float = 60.0
    exponential_base: float = 2.0
    jitter: bool = True
    deadline: float | None = None
    attempt_timeout: float | None = None
    first_token_timeout: float | None = None
    stall_timeout: float | None = None
    max_retry_after: float = 60.0
    max_output_retries: int = 1
    stream_restart: str = "anytime"
    # Left out of the hash, since a dict has none; without it a policy would not be hashable.
    retry_modes: Mapping[ErrorCategory, RetryMode] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        validation.integer("RetryPolicy", "max_retries", self.max_retries, high=1000)
        validation.number("RetryPolicy", "initial_delay", self.initial_delay)
        validation.number("RetryPolicy", "max_delay", self.max_delay, low=self.initial_delay)
        validation.number("RetryPolicy", "exponential_base", self.exponential_base, low=1.0)
        validation.flag("RetryPolicy", "jitter", self.jitter)
        validation.optional_number("RetryPolicy", "deadline", self.deadline)
        validation.optional_number("RetryPolicy", "attempt_timeout", self.attempt_timeout)
        validation.optional_number("RetryPolicy", "first_token_timeout", self.first_token_timeout)
        validation.optional_number("RetryPolicy", "stall_timeout", self.stall_timeout)
        validation.number("RetryPolicy", "max_retry_after", self.max_retry_after)
        validation.integer("RetryPolicy", "max_output_retries", self.max_output_retries, high=1000)
        if self.stream_restart not in _STREAM_RESTARTS:
            msg = f"RetryPolicy.stream_restart={self.stream_restart!r}: give one of {', '.join(_STREAM_RESTARTS)}"
            raise ValueError(msg)
        # Text is accepted for both, as it comes from settings. The class is frozen, so the field is set from outside.
        object.__setattr__(self, "retry_modes", _retry_modes(self.retry_modes))

    def retry_mode_for(self, failure: Failure) -> RetryMode:
        """Return when the same client may be asked again after *failure*.

        The provider's own `x-should-retry: false` outranks this policy and the table. `true` lifts "never" to "only while no
        other client is free" and changes nothing else: OpenAI sends it with every 429, and a free client answers sooner than
        a busy one. It does not lift an unpaid bill, which no retry pays (BerriAI/litellm#32785).
        """
        if failure.should_retry is False:
            return RetryMode.NEVER
        mode = self.mode_for(failure.category)
        lifted = failure.should_retry and failure.category is not ErrorCategory.QUOTA_EXHAUSTED
        return RetryMode.LAST_RESORT if lifted and mode is RetryMode.NEVER else mode

    def mode_for(self, category: ErrorCategory) -> RetryMode:
        """Return when the same client may be asked again after a failure of *category*: by this policy, else by the table."""
        return self.retry_modes.get(category, CATEGORY_RULES[category].retry_mode)

    def limit_for(self, category: ErrorCategory) -> int:
        """Return the number of retries that one client gets for failures of *category*."""
        return self.max_output_retries if category is ErrorCategory.OUTPUT_INVALID else self.max_retries

    def backoff(self, retry: int, jitter_sample: float) -> float:
        """Return the seconds to wait before a retry.

        Args:
            retry: the number of the retry on this client, from 1.
            jitter_sample: a random number from 0 to 1.
        """
        longest = _longest_wait(self, retry)
        return jitter_sample * longest if self.jitter else longest

    def stated_wait(self, retry_after: float, jitter_sample: float) -> float:
        """Return the seconds to wait where the provider stated a wait: a little longer, never shorter.

        Without the addition all processes of a fleet would come back at the same moment.

        Args:
            retry_after: the stated wait in seconds.
            jitter_sample: a random number from 0 to 1.
        """
        if not self.jitter:
            return retry_after
        return retry_after + jitter_sample * min(_STATED_JITTER_SHARE * retry_after, _STATED_JITTER_MAX)


def _longest_wait(policy: RetryPolicy, retry: int) -> float:
    """Return `min(max_delay, initial_delay * exponential_base ** (retry - 1))`, without an overflow for large *retry*."""
    import tenacity as _t  # noqa: PLC0415 - eleven modules, and most processes start without a retry

    # wait_exponential reads nothing of the state but attempt_number.
    state = _t.RetryCallState(retry_object=None, fn=None, args=(), kwargs={})  # type: ignore[arg-type]
    state.attempt_number = retry
    wait = _t.wait_exponential(
        multiplier=policy.initial_delay, max=policy.max_delay, exp_base=policy.exponential_base
    )
    return wait(state)


def _retry_modes(given: Mapping[Any, Any]) -> Mapping[ErrorCategory, RetryMode]:
    try:
        return {ErrorCategory(category): RetryMode(mode) for category, mode in given.items()}
    except (ValueError, AttributeError) as exc:
        msg = (
            f"RetryPolicy.retry_modes={given!r}: give a mapping of {', '.join(ErrorCategory)} "
            f"to one of {', '.join(RetryMode)} ({exc})"
        )
        raise ValueError(msg) from None


DEFAULT_RETRY_CONFIG: Final[dict[str, Any]] = {
    name: value for name, value in asdict(RetryPolicy()).items() if name in _MANDATED
}
"""The five fields that AI co-scientist deployments set. `RetryPolicy(**DEFAULT_RETRY_CONFIG)` is the default policy."""
