"""Two clocks compared."""

from __future__ import annotations

from typing import Final

from resilience.doctor.finding import Finding, ok, warn

_SKEW: Final = 5.0
"""Seconds between two clocks that people reading stamps would notice."""


def skewed(subject: str, other: str, skew: float) -> Finding:
    """Two clocks compared. Circuits only use the store's own, so this is about the stamps people compare."""
    told = f"{other} is {abs(skew):.1f} s {'ahead of' if skew > 0 else 'behind'} this machine"
    if abs(skew) > _SKEW:
        return warn(
            subject, told, "synchronise both with NTP; circuits are not affected, stamps in the history are"
        )
    return ok(subject, told)
