"""Redacts mappings, however deep: by the names of their values, then by their texts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from resilience.redaction.names import is_secret
from resilience.redaction.text import MASK, redact

_DEPTH: Final = 8
"""How deep a mapping may nest before the rest is left out."""


def redact_mapping(mapping: Mapping[Any, Any], rule: Callable[[str], str] = redact) -> dict[str, Any]:
    """Copy *mapping* with every secret masked, however deep.

    A value under a name such as `authorization`, `api_key`, `x-api-key`, `password`, `accessToken`, `cookie`, `session` or
    `secret` becomes `[secret]`, counts of tokens stay. Other texts pass *rule*. A value that is no plain value (an
    exception, a client, bytes) becomes its type's name: its own text may hold a prompt or a key.
    """
    return _mapping(mapping, rule, _DEPTH)


def _mapping(mapping: Mapping[Any, Any], rule: Callable[[str], str], depth: int) -> dict[str, Any]:
    return {
        redact(str(name)): MASK if is_secret(str(name)) else _plain(value, rule, depth)
        for name, value in mapping.items()
    }


def _plain(value: Any, rule: Callable[[str], str], depth: int) -> Any:
    if isinstance(value, str):
        return rule(value)
    if value is None or isinstance(value, (bool, int, float)):
        return value
    if depth and isinstance(value, Mapping):
        return _mapping(value, rule, depth - 1)
    if depth and isinstance(value, (list, tuple, set, frozenset)):
        return [_plain(item, rule, depth - 1) for item in value]
    return f"[{type(value).__name__}]"
