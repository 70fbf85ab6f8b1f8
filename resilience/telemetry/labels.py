"""The few words metrics are sorted by, made alike for OpenTelemetry and for Prometheus."""

from __future__ import annotations

from typing import Final

from resilience.records.records import Action, ErrorRecord

_MANY: Final = 3
OPERATOR: Final = "operator"


def capped(attempt: int) -> str:
    """The number of an attempt: few values, however many attempts there are."""
    return str(attempt) if attempt < _MANY else f"{_MANY}+"


def retry_result(record: ErrorRecord) -> str | None:
    """What became of the retry this failure might have had: `scheduled`, `exhausted`, or what denied it; None without one."""
    if record.action is Action.RETRY:
        return "scheduled"
    if record.denied is not None:
        return f"{record.denied}_denied"
    return "exhausted" if record.recoverable and record.attempt > 1 else None


def transition_reason(actor: str, reason: str) -> str:
    """Why a circuit moved; an operator's own words are no label."""
    return OPERATOR if actor else reason


def failure_rate(successes: int, failures: int) -> float | None:
    """The share of failed calls in a circuit's window; None without calls."""
    calls = successes + failures
    return failures / calls if calls else None
