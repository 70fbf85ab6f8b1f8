"""Redacts mappings, however deep: by the names of their values, then by their texts."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Any, Final

from resilience.redaction.text import MASK, OVERLAP, redact

_DEPTH: Final = 8
"""How deep a mapping may nest before the rest is left out."""

_WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
_SECRET_WORDS: Final = frozenset(
    [
        "authorization",
        "auth",
        "apikey",
        "password",
        "passwd",
        "passphrase",
        "passcode",
        "pwd",
        "token",
        "cookie",
        "cookies",
        "session",
        "secret",
        "secrets",
        "credential",
        "credentials",
        "jwt",
        "bearer",
        "signature",
        "sessionid",
        "csrf",
        "csrftoken",
        "xsrf",
        "otp",
        "ssn",
    ]
)
_SECRET_PAIRS: Final = frozenset(
    {
        ("api", "key"),
        ("access", "key"),
        ("account", "key"),
        ("private", "key"),
        ("secret", "key"),
        ("signing", "key"),
        ("encryption", "key"),
        ("subscription", "key"),
        ("pass", "word"),
        ("pass", "phrase"),
    }
)
_COUNTING_WORDS: Final = frozenset(
    ["count", "counts", "limit", "type", "usage", "used", "remaining", "reset", "total"]
)


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


def is_secret(name: str) -> bool:
    """Does a value of this name have to be masked whatever it is?"""
    words = [word.lower() for word in _WORDS.findall(name[:OVERLAP])]
    if not _SECRET_WORDS.isdisjoint(words):
        return _COUNTING_WORDS.isdisjoint(words)
    return any(pair in _SECRET_PAIRS for pair in pairwise(words))
