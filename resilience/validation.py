"""Checks of configuration values, with one wording for all errors: field, value, what is allowed."""

from __future__ import annotations

import math


def number(
    owner: str, field: str, value: object, *, low: float = 0.0, high: float = math.inf, above: bool = False
) -> None:
    """Require a finite number with `low <= value <= high`, or `low < value` if *above*. A bool is not a number.

    Raises:
        ValueError: naming owner, field, value and the allowed range.
    """
    ok = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    if ok and isinstance(value, (int, float)) and (low < value if above else low <= value) and value <= high:
        return
    msg = f"{owner}.{field}={value!r}: give a number {_range(low, high, above=above)}"
    raise ValueError(msg)


def integer(owner: str, field: str, value: object, *, low: int = 0, high: int | None = None) -> None:
    """Require a whole number with `low <= value <= high`.

    Raises:
        ValueError: naming owner, field, value and the allowed range.
    """
    if (
        isinstance(value, int)
        and not isinstance(value, bool)
        and low <= value
        and (high is None or value <= high)
    ):
        return
    allowed = f">= {low}" if high is None else f"from {low} to {high}"
    msg = f"{owner}.{field}={value!r}: give a whole number {allowed}"
    raise ValueError(msg)


def flag(owner: str, field: str, value: object) -> None:
    """Require True or False.

    Raises:
        ValueError: naming owner, field and value.
    """
    if isinstance(value, bool):
        return
    msg = f"{owner}.{field}={value!r}: give True or False"
    raise ValueError(msg)


def optional_number(owner: str, field: str, value: object, *, low: float = 0.0, above: bool = True) -> None:
    """Require None or a number above *low*, or from *low* on if not *above*.

    Raises:
        ValueError: naming owner, field, value and the allowed range.
    """
    if value is not None:
        number(owner, field, value, low=low, above=above)


def _range(low: float, high: float, *, above: bool) -> str:
    floor = f"{'>' if above else '>='} {low:g}"
    return floor if math.isinf(high) else f"{floor} and <= {high:g}"
