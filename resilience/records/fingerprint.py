"""Fingerprints: one short name for all errors of one kind, so that a million rows become a list that a person can read.

Two errors are of one kind if they differ only in numbers, ids, times and quotations. A project may add rules of its own.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Sequence
from functools import lru_cache

from resilience.failure import ErrorCategory, Failure

VERSION = "v1"
"""Version of the rules below, part of every fingerprint. Change it with them: old rows then keep their groups."""

OWN_VERSION = f"{VERSION}+own"
"""Version of fingerprints that a project's own rule took part in."""

_LENGTH = 300
"""Characters of a message that count."""

# Texts come from providers, so every repetition has a limit: no message can make this slow. The order matters, because a
# URL or an id may contain what looks like a number. One \b stands before all the alternatives that begin with a word
# character, so most positions of a text are rejected after one look.
_VARIABLE = re.compile(
    r"\b(?:"
    r"(?P<url>https?://[^\s\"'<>]{1,300})"
    r"|(?P<uuid>[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}\b)"
    r"|(?P<id>(?:req|org|proj|chatcmpl|cmpl|msg|resp|run|asst|call|user)[_-][A-Za-z0-9_-]{4,80}\b)"
    r"|(?P<time>\d{4}-\d\d-\d\d[T ]\d\d:\d\d(?::\d\d(?:\.\d{1,9})?)?(?:Z|[+-]\d\d:?\d\d)?)"
    r"|(?P<hex>0x[0-9a-fA-F]{1,32}\b|(?=[0-9a-f]{0,31}\d)[0-9a-f]{8,64}\b)"
    r"|(?P<duration>(?:\d{1,9}(?:\.\d{1,9})?(?:ms|[smhd]|\s(?:milli)?seconds?|\sminutes?|\shours?)){1,6}\b)"
    r"|(?P<number>\d{1,18}(?:[.,]\d{1,18}){0,6}\b)"
    r")"
    r"|(?P<text>\"[^\"\n]{1,200}\"|'[^'\n]{1,200}')"
)

_ABOUT_OUTPUT = frozenset({ErrorCategory.OUTPUT_INVALID, ErrorCategory.OUTPUT_TRUNCATED})


def fingerprint(failure: Failure, function: str) -> str:
    """Return the fingerprint of a failure: 32 hex digits, equal for failures of one kind.

    Client, model and process take no part, so that a kind can be broken down by them. The function takes part only if the
    answer was invalid, because the function decides the schema of the answer.

    Args:
        failure: the classified failure.
        function: the BAML function.
    """
    parts = (
        VERSION,
        failure.category.value,
        failure.exception_type,
        failure.status,
        failure.provider_code,
        function if failure.category in _ABOUT_OUTPUT else None,
        normalised(failure.message),
    )
    return hashlib.blake2b(json.dumps(parts).encode(), digest_size=16).hexdigest()


def normalised(message: str) -> str:
    """Return the first line of *message*, at most 300 characters, with `<number>`, `<id>`, `<time>` for what varies."""
    line = message.strip().partition("\n")[0][:_LENGTH]
    return _VARIABLE.sub(lambda match: f"<{match.lastgroup}>", line)


OwnFingerprint = Callable[[Failure, str, str], Sequence[str] | str | None] | Sequence[str]
"""A project's rule: the parts of a fingerprint, or a function that returns them for a failure, a function and a client."""

_PLACEHOLDER = re.compile(r"\{\{\s*(\w{1,40})\s*\}\}")
_PLACEHOLDERS = frozenset({"default", "client", "function", "category", "status"})


class Fingerprints:
    """Fingerprints by the rules above, or by a project's own.

    A part may hold placeholders: `{{ default }}` is the fingerprint by the rules above, and `{{ client }}`, `{{ function }}`,
    `{{ category }}` and `{{ status }}` are what they say. `["{{ default }}", "{{ client }}"]` splits each kind by client.

    A function is called in the task of the caller, where it sees the caller's context variables. If it returns None or
    raises, the rules above apply.

    Args:
        own: the project's rule; None for the rules above alone.
        on_error: called with the first exception that the rule raises, so that it is reported once.

    Raises:
        ValueError: a part has an unknown placeholder.
    """

    def __init__(
        self, own: OwnFingerprint | None = None, on_error: Callable[[Exception], None] = lambda _: None
    ) -> None:
        self._own = own
        self._on_error = on_error
        self._failed = False
        if own is not None and not callable(own):
            _check_placeholders(own)
        self._default = lru_cache(maxsize=1024)(fingerprint)  # in an outage the same failures repeat

    def name(self, failure: Failure, function: str, client: str) -> tuple[str, str]:
        """Return the fingerprint, 32 hex digits, and the version of the rules that made it. Never raises.

        Args:
            failure: the classified failure.
            function: the BAML function.
            client: the client that was tried.
        """
        default = self._default(failure, function)
        parts = self._own_parts(failure, function, client)
        if parts is None:
            return default, VERSION
        values = {
            "default": default,
            "client": client,
            "function": function,
            "category": failure.category.value,
            "status": str(failure.status or ""),
        }
        filled = [_PLACEHOLDER.sub(lambda match: values.get(match[1], match[0]), part) for part in parts]
        if filled == [default]:
            return default, VERSION
        return hashlib.blake2b(json.dumps(filled).encode(), digest_size=16).hexdigest(), OWN_VERSION

    def _own_parts(self, failure: Failure, function: str, client: str) -> tuple[str, ...] | None:
        """Return the parts by the project's rule; None if it has none for this failure."""
        if self._own is None:
            return None
        try:
            parts = self._own(failure, function, client) if callable(self._own) else self._own
            if parts is None:
                return None
            return (parts,) if isinstance(parts, str) else tuple(map(str, parts))
        except Exception as exc:  # noqa: BLE001 - a rule for grouping must not cost the caller an answer
            if not self._failed:
                self._failed = True
                self._on_error(exc)
            return None


def _check_placeholders(parts: Sequence[str]) -> None:
    for part in (parts,) if isinstance(parts, str) else parts:
        for name in _PLACEHOLDER.findall(part):
            if name not in _PLACEHOLDERS:
                msg = f"fingerprint={parts!r}: unknown placeholder {name!r}, allowed are {', '.join(sorted(_PLACEHOLDERS))}"
                raise ValueError(msg)
