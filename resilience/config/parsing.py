"""From the texts that settings are written down as to the values they mean."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable, Mapping
from typing import Any, Final

from resilience.config import sources
from resilience.errors import ConfigurationError


def value(found: Mapping[str, str], variable: str, kind: str) -> Any:
    """What the text of *variable* means.

    Args:
        found: what is written down.
        variable: whose text to read.
        kind: the annotation of the dataclass field it sets.

    Raises:
        ConfigurationError: the text means nothing of this kind; names the variable, the remedy and the place.
    """
    text = found[variable].strip()
    if "None" in kind and text.lower() in {"", "none"}:
        return None
    mark = next(mark for mark in _READERS if kind.startswith(mark))
    try:
        return _READERS[mark](text)
    except (ValueError, KeyError):
        msg = f"{variable}={text!r}: give {_WORDS[mark]} (set by {sources.place(found, variable)})"
        raise ConfigurationError(msg) from None


def _imported(path: str) -> Any:
    """What `module:name` names."""
    module, _, name = path.partition(":")
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError):
        raise ValueError(path) from None


def _flag(text: str) -> bool:
    return {
        "true": True,
        "1": True,
        "yes": True,
        "on": True,
        "false": False,
        "0": False,
        "no": False,
        "off": False,
    }[text.lower()]


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _pairs(text: str) -> dict[str, str]:
    return {key.strip(): value.strip() for key, value in (pair.split("=", 1) for pair in _names(text))}


_READERS: Final[Mapping[str, Callable[[str], Any]]] = {
    "str": str,
    "bool": _flag,
    "int": int,
    "float": float,
    "tuple": _names,
    "frozenset": lambda text: frozenset(_names(text)),
    "Mapping": _pairs,
    "Sequence": json.loads,
    "Callable": _imported,
}
_WORDS: Final = {
    "str": "a text",
    "bool": "true or false",
    "int": "a whole number",
    "float": "a number",
    "tuple": "names separated by commas",
    "frozenset": "categories separated by commas",
    "Mapping": "pairs such as timeout=yes,network=never",
    "Sequence": 'a JSON list such as [["employee", "EMP-[0-9]{1,9}", "[employee]"]]',
    "Callable": "module:function, of a module that can be imported",
}
