"""Reads foreign objects without raising: attributes that raise, texts that raise, texts without end.

An exception may come from any library. Classification must survive a property that raises, a `__str__` that raises and
a message of a gigabyte, because an error while reading an error would hide the error itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

MAX_TEXT = 200_000
"""Characters kept of any text; the rules look at far less."""


def get_attribute(target: object, *names: str) -> object:
    """Return the first of the attributes *names* that exists and is not None; None without one.

    A property that raises counts as missing.
    """
    for name in names:
        try:
            value = getattr(target, name, None)
        except Exception:  # noqa: BLE001, S112 - a foreign property may raise anything; it counts as missing
            continue
        if value is not None:
            return value
    return None


def text_of(value: object) -> str:
    """Return `str(value)`, at most `MAX_TEXT` characters; empty for None or when `__str__` raises."""
    if value is None:
        return ""
    try:
        text = value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
    except Exception:  # noqa: BLE001 - as in get_attribute
        return ""
    return text[:MAX_TEXT]


def mapping_of(value: object) -> Mapping[object, object]:
    """Return *value* if it is a mapping, else an empty mapping."""
    return value if isinstance(value, Mapping) else {}


def class_names(exc: BaseException) -> Iterator[tuple[str, str]]:
    """Yield the module and the name of every class of *exc*, the most derived first."""
    for cls in type(exc).__mro__:
        yield str(cls.__module__), cls.__name__
