"""When a circuit opens, for how long, and how it closes again: the thresholds of one client's circuit."""

from __future__ import annotations

from dataclasses import dataclass

from resilience import validation
from resilience.failure import ErrorCategory, Failure


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakerPolicy:
    """The thresholds of a circuit. Durations are seconds, rates are shares from 0 to 1.

    A policy travels with every report, so that a deploy with new thresholds takes effect at once and loses no state.

    Attributes:
        window: how far back results are counted, over the whole fleet, in ten buckets.
        min_calls: a rate is judged only over at least so many calls.
        failure_rate: opens when this share of the window's calls failed, or more.
        consecutive_failures: opens after so many failures in a row within the window.
        slow_call_duration: an attempt that takes longer is slow; None: no attempt is.
        slow_call_rate: opens when this share of the window's calls was slow, or more.
        open_for: how long a circuit stays open the first time.
        open_growth: each further opening lasts so many times longer, until the circuit stays closed for a whole window.
        open_max: no opening lasts longer, jitter aside; also the longest cool-down a rate limit may ask for.
        open_jitter: each opening is longer or shorter by up to this share, so that fleets do not wake in step.
        half_open_probes: how many probes may be under way at once.
        successes_to_close: how many probes must succeed.
        probe_lease: a probe that is not heard of for so long gives its place to another; longer than the slowest call.
        max_staleness: a view older than this is refreshed before it decides; 0 asks the store before every call.
        enabled: False gives every call its permit and counts nothing; retries are then not budgeted either.
        counts: the categories that count against the circuit; None leaves it to `Failure.counts_against_client`.
        retry_ratio: the whole fleet may retry this share of its first tries on a client, in thousandths at least; 0 leaves
            only the floor; None: there is no budget, and every retry that the RetryPolicy allows is made.
        retry_floor: so many retries a minute the whole fleet may make on top, so that one with little traffic may retry too.
        retry_burst: so many unused retries are kept for later at most; a circuit begins with them.

    Raises:
        ValueError: naming the field, its value and the allowed range.
    """

    window: float = 60.0
    min_calls: int = 10
    failure_rate: float = 0.5
    consecutive_failures: int = 5
    slow_call_duration: float | None = None
    slow_call_rate: float = 0.8
    open_for: float = 30.0
    open_growth: float = 2.0
    open_max: float = 300.0
    open_jitter: float = 0.1
    half_open_probes: int = 1
    successes_to_close: int = 1
    probe_lease: float = 60.0
    max_staleness: float = 0.25
    enabled: bool = True
    counts: frozenset[ErrorCategory] | None = None
    retry_ratio: float | None = 0.1
    retry_floor: int = 10
    retry_burst: int = 20

    def __post_init__(self) -> None:
        owner = type(self).__name__
        validation.number(owner, "window", self.window, low=0.1, high=86_400.0)
        validation.number(owner, "failure_rate", self.failure_rate, high=1.0, above=True)
        validation.number(owner, "slow_call_rate", self.slow_call_rate, high=1.0, above=True)
        validation.optional_number(owner, "slow_call_duration", self.slow_call_duration)
        validation.number(owner, "open_for", self.open_for, low=0.01, high=86_400.0)
        validation.number(owner, "open_growth", self.open_growth, low=1.0, high=10.0)
        validation.number(owner, "open_max", self.open_max, low=self.open_for, high=604_800.0)
        validation.number(owner, "open_jitter", self.open_jitter, high=0.9)
        validation.number(owner, "probe_lease", self.probe_lease, low=0.01, high=86_400.0)
        validation.number(owner, "max_staleness", self.max_staleness, high=60.0)
        for field in ("min_calls", "consecutive_failures"):
            validation.integer(owner, field, getattr(self, field), low=1, high=1_000_000)
        for field in ("half_open_probes", "successes_to_close"):
            validation.integer(owner, field, getattr(self, field), low=1, high=1000)
        validation.flag(owner, "enabled", self.enabled)
        if self.retry_ratio is not None:
            validation.number(owner, "retry_ratio", self.retry_ratio, high=1.0)
        validation.integer(owner, "retry_floor", self.retry_floor, high=1_000_000)
        validation.integer(owner, "retry_burst", self.retry_burst, low=1, high=1_000_000)
        if self.counts is not None:
            object.__setattr__(self, "counts", _categories(owner, self.counts))

    def counts_as_failure(self, failure: Failure) -> bool:
        """Does this failure count against the circuit?"""
        return failure.counts_against_client if self.counts is None else failure.category in self.counts

    def slow(self, seconds: float) -> bool:
        """Was an attempt of so many seconds slow?"""
        return self.slow_call_duration is not None and seconds > self.slow_call_duration


def _categories(owner: str, given: object) -> frozenset[ErrorCategory]:
    try:
        return frozenset(ErrorCategory(each) for each in given)  # type: ignore[attr-defined]  # what is no iterable is refused below
    except (TypeError, ValueError):
        known = ", ".join(ErrorCategory)
        msg = f"{owner}.counts={given!r}: give a set of categories out of {known}"
        raise ValueError(msg) from None
