"""The dictionaries that summarise errors and fallbacks: one shape for this process's memory and for the fleet's history."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from resilience.records.records import ErrorRecord, FallbackRecord

LATEST: Final = 10
"""The number of records in a summary."""


def summarize_errors(
    by_category: Mapping[str, int],
    by_client: Mapping[str, int],
    by_function: Mapping[str, int],
    recent: Sequence[ErrorRecord],
) -> dict[str, Any]:
    """Return `total_errors, by_category, by_client, by_function, recent_errors`.

    Args:
        by_category: number of errors of each category. Every error has one, so the total comes from here.
        by_client: number of errors of each client.
        by_function: number of errors of each function.
        recent: the latest errors, newest first, at most `LATEST`.
    """
    return {
        "total_errors": sum(by_category.values()),
        "by_category": by_category,
        "by_client": by_client,
        "by_function": by_function,
        "recent_errors": recent,
    }


def summarize_fallbacks(
    by_success: Mapping[bool | None, int], recent: Sequence[FallbackRecord]
) -> dict[str, Any]:
    """Return `total_fallbacks, successful_fallbacks, success_rate, recent_fallbacks`.

    The rate goes from 0.0 to 1.0 and leaves out fallbacks with an unknown outcome (None).

    Args:
        by_success: number of fallbacks of each outcome.
        recent: the latest fallbacks, newest first, at most `LATEST`.
    """
    succeeded = by_success.get(True, 0)
    return {
        "total_fallbacks": sum(by_success.values()),
        "successful_fallbacks": succeeded,
        "success_rate": rate(succeeded, by_success.get(False, 0)),
        "recent_fallbacks": recent,
    }


def rate(successes: int, failures: int) -> float:
    """Return the share of *successes*, from 0.0 to 1.0; 0.0 if there is neither."""
    total = successes + failures
    return successes / total if total else 0.0
