"""What the words of a transition record mean, and how long the state that it set must hold."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from resilience.records.records import TransitionRecord

SHARED: Final = "shared"
"""The scope of a circuit in a store that processes share."""
RESTORED: Final = "restored"
"""The rule of a transition that restored a circuit which its store had lost."""
COOL_DOWN: Final = "cool_down"
"""The rule of a cool-down, which is no transition."""
_HELD_STATES: Final = frozenset({"open", "forced_open", "disabled"})
_LONGEST_HOLD: Final = 3e9
"""Seconds, a century: no calendar has a time much further away, and a damaged row may name one."""


def remaining_hold(transition: TransitionRecord, now: datetime) -> float | None:
    """Return how much longer the state that a transition set must hold.

    Args:
        transition: the last transition of a circuit.
        now: the present, by the clock of the store, which also stamped the transition.

    Returns:
        Seconds; infinite for an operator's order without an end; None if the state need not hold any longer.
    """
    # A closed or half-open circuit needs no restoring: that is how a new circuit starts, or what it finds out by itself.
    if transition.to_state not in _HELD_STATES:
        return None
    if transition.indefinite:
        return float("inf")
    elapsed = (now - transition.occurred_at).total_seconds()
    left = transition.wait - elapsed if transition.wait is not None else 0.0
    return min(left, _LONGEST_HOLD) if left > 0 else None
