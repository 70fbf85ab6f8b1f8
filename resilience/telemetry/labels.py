"""Values of metric labels, the same for OpenTelemetry and for Prometheus.

A label has few values, whatever happens: each combination of values is a time series of its own.
"""

from __future__ import annotations

from typing import Final

from resilience.records.records import Action, ErrorRecord

_HIGHEST_ATTEMPT: Final = 3
OPERATOR: Final = "operator"
"""The reason of every transition that an operator ordered."""


def capped(attempt: int) -> str:
    """Return the label of an attempt's number: `1`, `2`, or `3+` for all later ones."""
    return str(attempt) if attempt < _HIGHEST_ATTEMPT else f"{_HIGHEST_ATTEMPT}+"


def retry_result(record: ErrorRecord) -> str | None:
    """Return what happened to the retry of this failure; None where none was due.

    The SQL of `prometheus/history_metrics.py` decides the same over rows: change both together.

    Returns:
        `scheduled`, `exhausted`, or the cause of a denial with the suffix `_denied`.
    """
    if record.action is Action.RETRY:
        return "scheduled"
    if record.denied is not None:
        return f"{record.denied}_denied"
    return "exhausted" if record.recoverable and record.attempt > 1 else None


def transition_reason(actor: str, reason: str) -> str:
    """Return the reason of a transition. The free text of an operator's order is no label.

    Args:
        actor: who ordered it; empty for a transition of the circuit itself.
        reason: the failure category, or the text of the order.
    """
    return OPERATOR if actor else reason


def failure_rate(successes: int, failures: int) -> float | None:
    """Return the share of failed calls in a circuit's window, 0 to 1; None without calls."""
    calls = successes + failures
    return failures / calls if calls else None
