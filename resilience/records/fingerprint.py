"""One short name for errors of one kind, so that a million rows become a list a person can read."""

from __future__ import annotations

import hashlib
import json
import logging
import re
from collections.abc import Callable, Sequence
from functools import lru_cache

from resilience.failure import ErrorCategory, Failure

VERSION = "v1"
"""Part of every fingerprint. A change of the rules below is a new version; old rows keep their groups."""

OWN_VERSION = f"{VERSION}+own"
"""The version of fingerprints that a project's own rule had a part in."""

_LENGTH = 300

_log = logging.getLogger("resilience")

_VARIABLE = re.compile(  # one \b before all of them: most positions of a text are done after that one look
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
    """Name the kind of a failure: 32 hex digits, equal for failures that differ only in numbers, ids, times and quotations.

    Client, model and process take no part: they are what one breaks a kind down by. The *function* takes part only where
    the answer itself was wrong, because there it decides the schema.
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
    """The first line of *message*, at most 300 characters, with `<number>`, `<id>`, `<time>`... for what varies."""
    line = message.strip().partition("\n")[0][:_LENGTH]
    return _VARIABLE.sub(lambda match: f"<{match.lastgroup}>", line)


OwnFingerprint = Callable[[Failure, str, str], Sequence[str] | str | None] | Sequence[str]
"""A project's rule: the parts of a fingerprint, or a function of the failure, the function and the client that gives them."""

_PLACE = re.compile(r"\{\{\s*(\w{1,40})\s*\}\}")
_PLACES = frozenset({"default", "client", "function", "category", "status"})


class Fingerprints:
    """Names the kinds of failures, by the rules above or by a project's own.

    A part may hold `{{ default }}`, which stands for the name the rules above give, and `{{ client }}`, `{{ function }}`,
    `{{ category }}` and `{{ status }}`: `["{{ default }}", "{{ client }}"]` splits each kind by client. A function is called
    in the caller's task, where it sees the caller's context variables; with None it leaves a failure to the rules above, and
    so does one that fails, with one warning.

    Args:
        own: the project's rule.

    Raises:
        ValueError: a part names a place there is none of.
    """

    def __init__(self, own: OwnFingerprint | None = None) -> None:
        self._own = own
        self._warned = False
        if own is not None and not callable(own):
            _check(own)
        self._default = lru_cache(maxsize=1024)(fingerprint)  # an outage says the same thing again and again

    def name(self, failure: Failure, function: str, client: str) -> tuple[str, str]:
        """The fingerprint, 32 hex digits, and the version of the rules that made it. Never raises."""
        default = self._default(failure, function)
        if self._own is None:
            return default, VERSION
        try:
            parts = self._own(failure, function, client) if callable(self._own) else self._own
            if parts is None:
                return default, VERSION
            given = (parts,) if isinstance(parts, str) else tuple(map(str, parts))
        except Exception as exc:  # noqa: BLE001 - a rule for sorting must not cost the caller an answer
            self._warn(exc)
            return default, VERSION
        stands_for = {
            "default": default,
            "client": client,
            "function": function,
            "category": failure.category.value,
            "status": str(failure.status or ""),
        }
        made = [_PLACE.sub(lambda match: stands_for.get(match[1], match[0]), part) for part in given]
        if made == [default]:
            return default, VERSION
        return hashlib.blake2b(json.dumps(made).encode(), digest_size=16).hexdigest(), OWN_VERSION

    def _warn(self, exc: Exception) -> None:
        if not self._warned:
            self._warned = True
            _log.warning(
                "the fingerprint function failed (%s); errors are grouped without it", type(exc).__name__
            )


def _check(parts: Sequence[str]) -> None:
    for part in (parts,) if isinstance(parts, str) else parts:
        for place in _PLACE.findall(part):
            if place not in _PLACES:
                msg = f"fingerprint={list(parts)!r}: {place!r} is no place; there are {', '.join(sorted(_PLACES))}"
                raise ValueError(msg)
