"""Checks of what comes out of a store and goes on to the history. Pure."""

from __future__ import annotations

from typing import Final

from resilience.breaker.messages import Transition
from resilience.breaker.state import LARGEST, LONGEST_TEXT

LATEST_MS: Final = 253_370_764_800_000
"""The begin of the year 9999, in milliseconds since 1970. Times are kept in types that end with that year."""
_MOST_CALLS: Final = 2**31 - 1
"""What a column of whole numbers holds."""


def checked_transition(transition: Transition) -> Transition:
    """Return *transition* if a circuit can have made it: then every history can keep it.

    Raises:
        ValueError: a number is out of range, or a text is longer than any that is written.
        TypeError: a field is of another type.
    """
    limits = (
        (transition.epoch, LARGEST),
        (transition.at_ms, LATEST_MS),
        (transition.wait_ms + 1, LARGEST),
        (transition.calls, _MOST_CALLS),
        (transition.failures, _MOST_CALLS),
    )
    if not all(0 <= number <= limit for number, limit in limits):
        msg = "a number of a transition is out of range"
        raise ValueError(msg)
    texts: tuple[object, ...] = (transition.client, transition.reason, transition.actor)
    for text in texts:
        if not isinstance(text, str) or len(text) > LONGEST_TEXT:
            msg = "a text of a transition is none, or longer than any that is written"
            raise ValueError(msg)
    return transition
