"""Ids, codes and class names that pass into records: in a strict form, without secrets and without an echo, or not at all.

A provider writes its request ids and codes itself, so it could put a prompt or a card number there. An application may make classes at
run time and name them by data.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from typing import Final

from resilience.failure import codes
from resilience.failure.body import ResponseBody, fold
from resilience.failure.taxonomy import Evidence
from resilience.redaction import SentText, redact_whole

_ID_HEADERS: Final = (
    "x-request-id",
    "request-id",
    "x-amzn-requestid",
    "apim-request-id",
    "x-oai-request-id",
    "cf-ray",
)
_ID_FIELDS: Final = ("request_id", "requestId", "requestID")
_ID_FIELDS_SET: Final = frozenset(_ID_FIELDS)
_MAX_IDS: Final = 8
"""Ids of one response that are looked at, until one has the form of an id."""
_ID: Final = re.compile(r"[\w.:/=-]{1,128}", re.ASCII)
_CODE: Final = re.compile(r"[A-Za-z][\w.-]{0,63}", re.ASCII)
_CLASS: Final = re.compile(r"[^\W\d]\w{0,79}")
_MAX_DIGITS: Final = 2
"""Digits in the name of a class that was made at run time: `Error404` becomes its base class, `S3Error` stays."""
_SEPARATORS: Final = str.maketrans("_.:/=-", "      ")


def request_id_of(evidence: Evidence, body: ResponseBody) -> str | None:
    """Return the provider's id of the request, of a header or of the body; None without one that may be recorded."""
    named = [evidence.headers[name] for name in _ID_HEADERS if evidence.headers.get(name)]
    named += [
        value
        for entry in body.objects
        if not _ID_FIELDS_SET.isdisjoint(entry)
        for name in _ID_FIELDS
        if isinstance(value := entry.get(name), str)
    ]
    return next(filter(None, (safe_id(value, evidence.sent) for value in named[:_MAX_IDS])), None)


def safe_id(value: str, sent: SentText | None) -> str | None:
    """Return *value* if it has the form of an id and holds nothing of what was sent; None otherwise.

    Args:
        value: what the provider calls the id of the request.
        sent: what was sent; None where that is unknown.
    """
    value = value.strip()
    return value if _ID.fullmatch(value) and _is_clean(value, sent) else None


def safe_code(candidates: Iterable[str], sent: SentText | None) -> str | None:
    """Return the first of *candidates* that is a listed code, or has the form of one and holds nothing of what was sent.

    Args:
        candidates: codes of the provider, the most telling first.
        sent: what was sent; None where that is unknown.
    """
    bare = (codes.without_namespace(code) for code in candidates)
    return next((code for code in bare if _is_code(code, sent)), None)


def safe_class_name(exc: BaseException, sent: SentText | None = None) -> str:
    """Return the name of the class of *exc*, or of the nearest base class whose name may be recorded.

    Args:
        exc: any exception.
        sent: what was sent; None where that is unknown.
    """
    for cls in type(exc).__mro__:
        name = cls.__name__
        # The name of a class that its module defines was written by a programmer. It cannot hold data.
        if _is_defined(cls):
            safe = _CLASS.fullmatch(name) and _is_clean(name, None)
        else:  # made at run time, as botocore does: the signs of a key or a number became underscores, so no rule would find it
            safe = (
                _CLASS.fullmatch(name)
                and sum(map(str.isdecimal, name)) <= _MAX_DIGITS
                and _is_clean(name, sent)
            )
        if safe:
            return name
    return "BaseException"


def _is_code(code: str, sent: SentText | None) -> bool:
    if not _CODE.fullmatch(code):
        return False
    known = any(fold(code) in table for table in codes.ALL)
    return known or _is_clean(code, sent)


def _is_clean(text: str, sent: SentText | None) -> bool:
    """Return whether *text* has no secret, no personal number and no echo, whatever joins its parts."""
    # The rules for numbers want blanks or dashes between groups; in a code anything may stand there. Both readings must be clean.
    spaced = text.translate(_SEPARATORS)
    return (
        redact_whole(text) == text
        and (spaced == text or redact_whole(spaced) == spaced)
        and not (sent is not None and sent.is_echo(text))
    )


def _is_defined(cls: type) -> bool:
    module = sys.modules.get(str(cls.__module__))
    return module is not None and vars(module).get(cls.__name__) is cls
