"""What a step corrects in the data that it reads, before it counts anything. Pure.

A store is outside of our control: its clock may go back, a deploy brings new thresholds, and a value in it may be damaged or planted. So
every step moves times back with the clock, and cuts what it reads to what the current policy could have written.
"""

from __future__ import annotations

from typing import Final

from resilience.breaker import leases, ramp, retry_budget
from resilience.breaker.policy import BreakerPolicy
from resilience.breaker.state import CircuitData, CircuitState
from resilience.breaker.window import BUCKETS

_DAY: Final = 86_400_000
"""Milliseconds. What lies further beyond the policy is no trace of an earlier policy or of a clock."""


def cut_to_policy(data: CircuitData, now: int, policy: BreakerPolicy) -> bool:
    """Cut openings, cool-downs, leases, the ramp, the window and the retry budget to what the policy allows.

    An operator's order has no limit. A time that lies in the past by its meaning is never later than *now*: a window or a ramp that began
    in the future would never end.

    Args:
        data: the circuit, whose clock is adjusted already.
        now: milliseconds of the store's clock.
        policy: the thresholds.

    Returns:
        Whether a time lies so far beyond what is allowed that it is damaged or planted.
    """
    damaged = _is_damaged(data, now, policy)
    if data.state is CircuitState.OPEN:
        data.state_until = min(data.state_until, now + policy.longest_open_ms)
    data.cooldown_until = min(data.cooldown_until, now + policy.longest_cooldown_ms)
    data.leases = leases.shorten(data.leases, now, policy)
    data.closed_at = min(data.closed_at, now)
    data.budget_used = min(data.budget_used, retry_budget.largest_deficit(policy))
    data.budget_used_at = min(data.budget_used_at, now)
    if data.buckets and max(bucket.start for bucket in data.buckets) > now:
        data.buckets = tuple(bucket for bucket in data.buckets if bucket.start <= now)
    data.buckets = data.buckets[-BUCKETS:]
    data.ramp_first = min(data.ramp_first, ramp.AFTER_CLOSING)
    data.ramp_at = min(data.ramp_at, now)
    ramp.end_if_over(data, now)
    return damaged


def _is_damaged(data: CircuitData, now: int, policy: BreakerPolicy) -> bool:
    opened = data.state_until - policy.longest_open_ms if data.state is CircuitState.OPEN else 0
    latest = max(opened, data.cooldown_until - policy.longest_cooldown_ms, data.closed_at, data.ramp_at)
    return max(latest, data.budget_used_at) > now + _DAY
