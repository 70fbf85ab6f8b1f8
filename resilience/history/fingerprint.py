"""One short name for errors of one kind, so that a million rows become a list a person can read."""

from __future__ import annotations

import hashlib
import json
import re

from resilience.failure import ErrorCategory, Failure

VERSION = "v1"
"""Part of every fingerprint. A change of the rules below is a new version; old rows keep their groups."""

_LENGTH = 300

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
