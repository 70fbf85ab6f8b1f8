"""Counts of what this process read and did not believe, because no version of this package wrote it.

A damaged or planted value harms no caller: it is skipped, or cut to what is allowed. It must not go unnoticed all the same, because
whatever writes to a store or a log can start calls, stop calls and hide them. So it is counted for `instances` and for metrics.
"""

from __future__ import annotations

from collections import Counter
from typing import Final

from resilience import lifecycle

CIRCUIT: Final = "circuit"
"""A value of a circuit that was ignored, or cut to what the policy allows."""
TRANSITION: Final = "transition"
"""An entry in the store's log of transitions that was skipped."""
LOG_LINE: Final = "log_line"
"""A log line of a killed process that could not be read."""
KINDS: Final = (CIRCUIT, TRANSITION, LOG_LINE)

counts: Final[Counter[str]] = Counter()
"""How often this process met each kind of damage."""

# The parent has counted these. In the child they would count a second time.
lifecycle.call_in_child(counts.clear)
