"""Convert the text of a variable to the value of a field, by the field's annotation."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable, Mapping
from typing import Any, Final

from resilience.config import sources
from resilience.errors import ConfigurationError


def value(loaded: Mapping[str, str], variable: str, annotation: str) -> Any:
    """Return the value of *variable*.

    Args:
        loaded: the texts of all variables.
        variable: the variable to read.
        annotation: annotation of the dataclass field that it sets, as text.

    Raises:
        ConfigurationError: the text is not of this type; the message names variable, remedy and origin.
    """
    text = loaded[variable].strip()
    if "None" in annotation and text.lower() in {"", "none"}:
        return None
    # A field with an annotation that no reader knows fails here in every test that loads its policy.
    kind = next(kind for kind in _READERS if annotation.startswith(kind))
    try:
        return _READERS[kind](text)
    except (ValueError, KeyError):
        msg = f"{variable}={text!r}: give {_REMEDIES[kind]} (set by {sources.origin_of(loaded, variable)})"
        raise ConfigurationError(msg) from None


def _imported(path: str) -> Any:
    """Return the object that `module:name` names."""
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


# By the beginning of the annotation: `float | None` is read as float, `Mapping[ErrorCategory, ...]` as pairs. The policies
# convert names to their enums themselves.
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
_REMEDIES: Final = {
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
