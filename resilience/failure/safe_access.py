"""Reads foreign objects without raising: attributes that raise, texts that raise, texts without end.

An exception may come from any library. Classification must survive a property that raises, a `__str__` that raises and
a message of a gigabyte, because an error while reading an error would hide the error itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TypeVar

_T = TypeVar("_T")

_MAX_DEPTH = 40
"""Containers inside one another that are copied."""
MAX_TEXT = 200_000
"""Characters kept of any text; the rules look at far less."""


def get_attribute(target: object, *names: str) -> object:
    """Return the first of the attributes *names* that exists and is not None; None without one.

    A property that raises counts as missing.
    """
    for name in names:
        try:
            value = getattr(target, name, None)
        except BaseException:  # noqa: BLE001, S112 - a foreign property may raise anything, SystemExit too; it counts as missing
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
    except BaseException:  # noqa: BLE001 - as in get_attribute
        return ""
    return text[:MAX_TEXT]


def bounded(value: object, room: int = MAX_TEXT) -> object:
    """Return a copy of a parsed body that JSON can write, with about *room* characters at most.

    A body of 60 MB that a library has parsed would take seconds to write, and only its beginning is read. A cycle ends at the depth.

    Args:
        value: mappings, lists, texts and numbers; of anything else the text is taken.
        room: characters that the copy may have, keys and brackets included.
    """
    return _bounded(value, [room], _MAX_DEPTH)


def _bounded(value: object, room: list[int], depth: int) -> object:
    if value is None or isinstance(value, bool | int | float):
        room[0] -= 8
        return value
    if not isinstance(value, Mapping | list | tuple):
        return _bounded_text(value, room)
    if not depth:
        return None  # not its text, which may have no end
    if isinstance(value, Mapping):
        names = ((_bounded_text(key, room), inner) for key, inner in value.items())
        return {name: _bounded(inner, room, depth - 1) for name, inner in _while_room(names, room)}
    return [_bounded(inner, room, depth - 1) for inner in _while_room(value, room)]


def _while_room(values: Iterable[_T], room: list[int]) -> Iterator[_T]:
    for value in values:
        yield value
        if room[0] <= 0:
            return


def _bounded_text(value: object, room: list[int]) -> str:
    # Cut before it is read as text: `str` of a text is the text itself, and `text_of` cuts all others.
    text = (value if isinstance(value, str) else text_of(value))[: max(room[0], 0)]
    room[0] -= len(text) + 4
    return text


def mapping_of(value: object) -> Mapping[object, object]:
    """Return *value* if it is a mapping, else an empty mapping."""
    return value if isinstance(value, Mapping) else {}


def class_names(exc: BaseException) -> Iterator[tuple[str, str]]:
    """Yield the module and the name of every class of *exc*, the most derived first."""
    for cls in type(exc).__mro__:
        yield str(cls.__module__), cls.__name__
