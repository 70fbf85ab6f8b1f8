"""Cool-downs: a time in which a client is not asked, beside the circuit's state. Pure.

The end of a cool-down only moves later. A *stated* cool-down is the provider's own word and applies whatever its epoch. A *doubling*
one is our guess. It is ignored if it comes from an older epoch, and while a cool-down for the same reason is running.

Each cool-down for one reason is longer than the one before, until a call succeeds: a doubling one twice as long, a stated one
`open_growth` times. A provider that still refuses after the wait that it stated needs more time. Calls that were in flight together
count once: a refusal counts as a repetition only if no cool-down for its reason is running, and if an attempt was admitted since the
last one. Otherwise it gets the length of the cool-down that it belongs to.
"""

from __future__ import annotations

from resilience.breaker import ramp
from resilience.breaker.messages import Cooldown
from resilience.breaker.policy import MAX_EXPONENT, BreakerPolicy
from resilience.breaker.state import CircuitData


def cool_down(data: CircuitData, now: int, epoch: int, cooldown: Cooldown, policy: BreakerPolicy) -> None:
    """Start or extend the cool-down of *data*; never shorten it.

    Args:
        data: the circuit.
        now: milliseconds of the store's clock.
        epoch: the epoch of the permit whose attempt asked for it.
        cooldown: its length and reason.
        policy: the thresholds.
    """
    same = cooldown.reason == data.cooldown_reason
    running = same and data.cooldown_until > now
    if cooldown.doubling and (running or epoch != data.epoch):
        return
    count = data.cooldown_count if same else 0
    nothing_admitted = data.ramp_first > 0 and not data.ramp_at
    repeats = cooldown.doubling or not (running or nothing_admitted)
    growth = 2.0 if cooldown.doubling else policy.open_growth
    seconds = cooldown.seconds * growth ** min(count if repeats else max(0, count - 1), MAX_EXPONENT)
    until = now + round(1000 * min(seconds, cooldown.max_seconds))
    if until <= now:
        return
    data.cooldown_count = count + 1 if repeats else max(1, count)
    if until > data.cooldown_until:
        data.cooldown_until, data.cooldown_reason = until, cooldown.reason
        ramp.begin(data, ramp.AFTER_COOLDOWN)
