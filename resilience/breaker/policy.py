"""The thresholds of a circuit breaker: when a circuit opens, for how long, and how it closes again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from resilience import validation
from resilience.failure import ErrorCategory, Failure

MAX_EXPONENT: Final = 64
"""Further growth changes nothing, since every length is capped far below; without a limit the power would overflow a float."""

_OPEN_MAX: Final = 20.0


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakerPolicy:
    """The thresholds of a circuit. Durations are seconds, rates are shares from 0 to 1.

    A policy travels with every request to the store, so a deploy with new thresholds takes effect at once and loses no state.

    Attributes:
        window: how far back results count, over the whole fleet, in ten buckets.
        min_calls: calls in the window below which no rate is judged.
        failure_rate: the circuit opens when this share of the window's calls failed, or more.
        consecutive_failures: the circuit opens after this number of failures in a row within the window.
        slow_call_duration: seconds above which an attempt is slow; None: no attempt is. Of a stream, the time to its first
            content counts.
        slow_call_rate: the circuit opens when this share of the window's calls was slow, or more.
        open_for: seconds that the first opening lasts.
        open_growth: factor applied to the open time on each consecutive opening; reset after a full closed window.
        open_max: maximum seconds of an opening, jitter aside. The default rises to *open_for* where that is longer.
        open_jitter: share by which each opening is longer or shorter at random, so that fleets do not wake in step.
        cooldown_max: maximum seconds of a cool-down: of a wait that the provider states, and of one for billing or credentials.
        half_open_probes: probes that may be in flight at once.
        successes_to_close: probes that must succeed before the circuit closes.
        probe_lease: seconds after which a probe without a result gives its place to another; longer than the slowest call.
        probe_beside: whether a probe runs beside the call that finds it due, which a free backup answers, so that a probe costs
            no caller any time. Only for functions of a protected async client; elsewhere the caller probes.
        max_staleness: seconds after which a view is refreshed before it decides; 0 asks the store before every call. While
            a process has used a closed circuit without any failure in the last 8 times as long, 2 s at most, its view is renewed
            without a call that waits for it.
        enabled: False gives every call its permit and counts nothing; retries are not budgeted then either.
        counts: the categories that count as failures; None leaves it to each failure's category.
        retry_ratio: retries per first try on a client that the whole fleet may make, in steps of 0.001; 0 leaves only the
            floor; None: there is no budget, and every retry that the RetryPolicy allows is made.
        retry_floor: retries a minute that the whole fleet may make in addition, so that a fleet with little traffic may retry.
        retry_burst: maximum number of unused retries kept for later; a circuit starts with them.

    Raises:
        ValueError: naming the field, its value and the allowed range.
    """

    # A threshold that a step judges by must also be in `encode_policy` (stores/redis_protocol.py) and in step.lua:
    # otherwise Redis ignores it, while the other stores obey. Six fields stay in the process: probe_beside,
    # max_staleness, enabled, counts, retry_burst, and slow_call_duration, of which the script knows only whether there is one.
    window: float = 60.0
    min_calls: int = 10
    failure_rate: float = 0.5
    consecutive_failures: int = 5
    slow_call_duration: float | None = None
    slow_call_rate: float = 0.8
    # With these a client that works again is asked at most 22 s later (open_max and its jitter), after an outage of any length. A
    # probe costs the fleet one request, so an outage of an hour costs about three requests a minute. benchmarks/recovery.py has more.
    open_for: float = 10.0
    open_growth: float = 1.5
    open_max: float = _OPEN_MAX
    open_jitter: float = 0.1
    cooldown_max: float = 300.0
    half_open_probes: int = 1
    successes_to_close: int = 1
    probe_lease: float = 60.0
    probe_beside: bool = True
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
        if self.open_for > self.open_max == _OPEN_MAX:  # a policy that only sets open_for is no mistake
            object.__setattr__(self, "open_max", self.open_for)
        validation.number(owner, "open_max", self.open_max, low=self.open_for, high=604_800.0)
        validation.number(owner, "cooldown_max", self.cooldown_max, low=0.01, high=604_800.0)
        # With this limit and that of open_for the shortest opening is 1 ms.
        # One of 0 ms would have no end by time: see `move` in circuit.py.
        validation.number(owner, "open_jitter", self.open_jitter, high=0.9)
        validation.number(owner, "probe_lease", self.probe_lease, low=0.01, high=86_400.0)
        validation.number(owner, "max_staleness", self.max_staleness, high=60.0)
        for field in ("min_calls", "consecutive_failures"):
            validation.integer(owner, field, getattr(self, field), low=1, high=1_000_000)
        for field in ("half_open_probes", "successes_to_close"):
            validation.integer(owner, field, getattr(self, field), low=1, high=1000)
        validation.flag(owner, "enabled", self.enabled)
        validation.flag(owner, "probe_beside", self.probe_beside)
        if self.retry_ratio is not None:
            validation.number(owner, "retry_ratio", self.retry_ratio, high=1.0)
        validation.integer(owner, "retry_floor", self.retry_floor, high=1_000_000)
        validation.integer(owner, "retry_burst", self.retry_burst, low=1, high=1_000_000)
        if self.counts is not None:
            object.__setattr__(self, "counts", _categories(owner, self.counts))

    def counts_as_failure(self, failure: Failure) -> bool:
        """Return whether this failure counts against the circuit."""
        return failure.counts_against_client if self.counts is None else failure.category in self.counts

    def slow(self, seconds: float) -> bool:
        """Return whether an attempt that took *seconds* was slow."""
        return self.slow_call_duration is not None and seconds > self.slow_call_duration

    @property
    def longest_open_ms(self) -> int:
        """The longest opening in milliseconds, jitter included."""
        return round(1000 * self.open_max * (1 + self.open_jitter))

    @property
    def longest_cooldown_ms(self) -> int:
        """The longest cool-down in milliseconds."""
        return round(1000 * self.cooldown_max)

    def open_duration_ms(self, open_count: int, jitter_sample: float) -> int:
        """Return how long an opening lasts, in milliseconds.

        Args:
            open_count: openings in a row, this one included.
            jitter_sample: a random number from 0 to 1 that places the length within its jitter; 0.5 is the middle.
        """
        growth = self.open_growth ** min(open_count - 1, MAX_EXPONENT)
        seconds = min(self.open_max, self.open_for * growth)
        # step.lua multiplies in the same order: floats that are multiplied in another order may round differently.
        return round(1000 * seconds * (1 + self.open_jitter * (2 * jitter_sample - 1)))


def _categories(owner: str, value: object) -> frozenset[ErrorCategory]:
    try:
        return frozenset(ErrorCategory(item) for item in value)  # type: ignore[attr-defined]  # anything not iterable is refused below
    except (TypeError, ValueError):
        known = ", ".join(ErrorCategory)
        msg = f"{owner}.counts={value!r}: give a set of categories out of {known}"
        raise ValueError(msg) from None
