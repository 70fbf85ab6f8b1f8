"""Looks at objects of unknown make without ever being hurt: attributes that raise, texts that raise, texts without end."""

from __future__ import annotations

from collections.abc import Iterator

LONGEST = 200_000
"""Characters kept of any text; the rules look at far less."""


def peek(target: object, *names: str) -> object:
    """The first of the attributes *names* that is there and not None; else None. A property that raises is not there."""
    for name in names:
        try:
            value = getattr(target, name, None)
        except Exception:  # noqa: BLE001, S112 - foreign properties may raise anything, and that is no news to us
            continue
        if value is not None:
            return value
    return None


def text_of(value: object) -> str:
    """`str(value)`, bounded; empty where it is None or its `__str__` raises."""
    if value is None:
        return ""
    try:
        text = value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
    except Exception:  # noqa: BLE001 - as above
        return ""
    return text[:LONGEST]


def classes(exc: BaseException) -> Iterator[tuple[str, str]]:
    """Module and name of every class of *exc*, the most derived first."""
    for cls in type(exc).__mro__:
        yield str(cls.__module__), cls.__name__
