"""The leases of a half-open circuit: which are live, whether one is free, and which expired ones are still remembered."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from resilience.breaker.policy import BreakerPolicy
from resilience.breaker.state import Lease

# step.lua has the same number.
REMEMBERED: Final = 8
"""How many expired leases are kept, so that the result of a slow probe still counts."""


def live(leases: tuple[Lease, ...], now: int) -> list[Lease]:
    """Return the leases that are unexpired at *now* (milliseconds of the store's clock)."""
    return [lease for lease in leases if lease.expiry > now]


def has_free(live_count: int, successes: int, policy: BreakerPolicy) -> bool:
    """Return whether another lease may be granted.

    Args:
        live_count: leases that are unexpired.
        successes: probes that have succeeded in this half-open.
        policy: how many leases there are at once, and how many successes close the circuit.
    """
    # Successes take up places too. Otherwise each success would make room for one more probe,
    # and more calls than closing needs would reach a client that may still be down. The maximum
    # lets as many probes go as there are leases, even if one success closes the circuit.
    needed = max(policy.half_open_probes, policy.successes_to_close)
    return live_count < policy.half_open_probes and live_count + successes < needed


def grant(leases: tuple[Lease, ...], token: str, now: int, policy: BreakerPolicy) -> tuple[Lease, ...]:
    """Add a lease for *token*, which holds no live one. Forget all but the latest expired leases.

    Expired leases stay in front, oldest first: the slice must drop the oldest.
    """
    expired = [lease for lease in leases if lease.expiry <= now and lease.token != token]
    added = Lease(token, now + round(1000 * policy.probe_lease))
    return (*expired[-REMEMBERED:], *live(leases, now), added)


def shorten(leases: tuple[Lease, ...], now: int, policy: BreakerPolicy) -> tuple[Lease, ...]:
    """Keep as many leases as the current policy can have granted, and let none of them last longer than it allows."""
    latest = now + round(1000 * policy.probe_lease)
    leases = leases[-(REMEMBERED + policy.half_open_probes) :]
    if all(lease.expiry <= latest for lease in leases):
        return leases
    return tuple(replace(lease, expiry=min(lease.expiry, latest)) for lease in leases)
