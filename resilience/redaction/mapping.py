"""Redact nested mappings: values with a secret name, and the texts of all others."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from resilience.redaction.names import is_secret
from resilience.redaction.text import MASK, redact

_DEPTH: Final = 8
"""Levels of nesting; deeper values are left out."""


def redact_mapping(mapping: Mapping[Any, Any], rule: Callable[[str], str] = redact) -> dict[str, Any]:
    """Return a copy of *mapping* with all secrets masked, to a depth of eight levels.

    A value with a name such as `authorization`, `api_key`, `x-api-key`, `password`, `accessToken`, `cookie`, `session` or
    `secret` becomes `[secret]`; counts of tokens stay. A value that is not plain (an exception, a client, bytes) becomes its
    type's name, since its text may hold a prompt or a key.

    Args:
        mapping: any mapping; names are redacted too.
        rule: redacts each other text.
    """
    return _mapping(mapping, rule, _DEPTH)


def _mapping(mapping: Mapping[Any, Any], rule: Callable[[str], str], depth: int) -> dict[str, Any]:
    return {
        redact(str(name)): MASK if is_secret(str(name)) else _redacted(value, rule, depth)
        for name, value in mapping.items()
    }


def _redacted(value: Any, rule: Callable[[str], str], depth: int) -> Any:
    if isinstance(value, str):
        return rule(value)
    if value is None or isinstance(value, (bool, int, float)):
        return value
    if depth and isinstance(value, Mapping):
        return _mapping(value, rule, depth - 1)
    if depth and isinstance(value, (list, tuple, set, frozenset)):
        return [_redacted(item, rule, depth - 1) for item in value]
    # Not `str(value)`: the text of an exception or a client may hold a prompt or a key.
    return f"[{type(value).__name__}]"
