"""Unwraps what a provider answered into what it told us: codes, sentences, a status, fields; never the model's words."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from resilience.failure import literals

HEAD, TAIL = 48_000, 16_000
"""Characters of a body that are looked at: a stream's error stands at its end."""

_LEVELS = 3
"""Bodies inside bodies: a gateway's JSON holds the provider's JSON as a string, and that of the next gateway."""

_OBJECTS = 300
"""Objects looked at in one body."""

_CODE_KEYS = frozenset(
    [
        "code",
        "type",
        "status",
        "reason",
        "errortype",
        "errorcode",
        "errorclass",
        "name",
        "kind",
        "blockreason",
        "error",
        "quotaid",
        "exceptiontype",
    ]
)
_STATUS_KEYS = frozenset(
    ["code", "status", "statuscode", "httpstatus", "httpstatuscode", "rawstatuscode", "upstreamstatus"]
)
_MESSAGE_KEYS = frozenset(
    [
        "message",
        "msg",
        "error",
        "detail",
        "details",
        "errors",
        "errordescription",
        "description",
        "title",
        "reason",
        "errormessage",
        "errmsg",
        "errormsg",
        "raw",
        "body",
        "upstreambody",
        "cause",
        "statusmessage",
        "statusmsg",
    ]
)
_PATHS = frozenset(
    [
        "error",
        "errors",
        "detail",
        "details",
        "metadata",
        "innererror",
        "response",
        "cause",
        "body",
        "data",
        "raw",
        "fault",
        "statusdetails",
        "violations",
        "incompletedetails",
        "promptfeedback",
        "baseresp",
        "upstreamdetails",
    ]
)
"""Where an error may stand. Whatever else a body holds (choices, input, messages) is the model's or the user's."""

_ANSWER_KEYS = frozenset(
    ["choices", "candidates", "content", "output", "promptfeedback", "donereason", "message", "stopreason"]
)
_CHUNK_KEYS = frozenset({"choices", "candidates"})
"""A stream has thousands of these, and its error stands behind them."""

_ERROR_KEYS = frozenset({"error", "baseresp"})
"""Beside the choices of a completion these are the provider's own: OpenRouter, MiniMax."""

_HTML = re.compile(r"\s*+<(?:!doctype|html|head|body|title|center|h1|\?xml)\b", re.IGNORECASE)
_TITLE = re.compile(r"<(title|h1)[^>]{0,200}>([^<]{1,300})", re.IGNORECASE)
_TAG = re.compile(r"<[^>]{0,300}>")
_NAME = re.compile(r"[^a-z0-9]+")


@dataclass(frozen=True, slots=True)
class ResponseBody:
    """What a body says, unwrapped.

    Attributes:
        codes: the provider's codes and types, outermost first.
        messages: its sentences for people, outermost first.
        status: a status it names as a field, never one out of prose.
        objects: the error objects themselves, for the delays in them.
        answer: the completion, where the body is one.
        prose: the text around the objects; of a page its words.
        title: the title of a page.
    """

    codes: tuple[str, ...] = ()
    messages: tuple[str, ...] = ()
    status: int | None = None
    objects: tuple[Mapping[str, object], ...] = ()
    answer: Mapping[str, object] | None = None
    prose: str = ""
    title: str | None = None

    @property
    def text(self) -> str:
        """All sentences, innermost included, then the prose."""
        return "\n".join((*self.messages, self.prose))


@dataclass(slots=True)
class _Gathered:
    codes: list[str] = field(default_factory=list)
    messages: list[str] = field(default_factory=list)
    objects: list[Mapping[str, object]] = field(default_factory=list)
    answer: Mapping[str, object] | None = None
    status: int | None = None


def fold(name: str) -> str:
    """Make one spelling of `rate_limit_error`, `RateLimitError` and `rate-limit-error`."""
    return _NAME.sub("", name.lower())


def clip(text: str, head: int = HEAD, tail: int = TAIL) -> str:
    """Keep the beginning and the end of a long text."""
    return text if len(text) <= head + tail else f"{text[:head]}\n{text[-tail:]}"


def unwrap(body: str | None) -> ResponseBody:
    """Tell what *body* says. Never raises; takes time in proportion to the text, which is clipped first."""
    if not body:
        return ResponseBody()
    text = clip(body)
    if _HTML.match(text):
        return _page(text)
    into = _Gathered()
    prose = _read(text, into, _LEVELS)
    if (
        not (into.messages or into.codes or into.answer) and '\\"' in text
    ):  # quotes escaped on the way into a log line
        into = _Gathered()
        prose = _read(literals.unescape(text), into, _LEVELS)
    if not into.messages and into.answer is None:  # of an unknown form, or too broken to read
        prose = text
    return ResponseBody(
        codes=tuple(into.codes),
        messages=tuple(into.messages),
        status=into.status,
        objects=tuple(into.objects),
        answer=into.answer,
        prose=prose,
    )


def _page(text: str) -> ResponseBody:
    titles = [found[2].strip() for found in _TITLE.finditer(text)]
    return ResponseBody(
        prose=_TAG.sub(" ", text), title=next((title for title in titles if title), "a page, not an answer")
    )


def _read(text: str, into: _Gathered, levels: int) -> str:
    values, prose = literals.split(text)
    for value in values:
        _visit(value, into, levels)
    return prose


def _visit(value: object, into: _Gathered, levels: int) -> None:
    """Walk an object's errors, outermost first; a string may hold the next body."""
    waiting = [value]
    while waiting and len(into.objects) < _OBJECTS:
        here = waiting.pop(0)
        if isinstance(here, list):
            waiting[:0] = here[:_OBJECTS]
        elif isinstance(here, Mapping):
            waiting[:0] = _object(here, into, levels)
        elif isinstance(here, str):
            _string(here, into, levels)


def _object(here: Mapping[str, object], into: _Gathered, levels: int) -> list[object]:
    keys = set(map(fold, here))
    if into.answer is None and not _is_error(here) and not _ANSWER_KEYS.isdisjoint(keys):
        into.answer = here
    if _ERROR_KEYS.isdisjoint(keys) and not _CHUNK_KEYS.isdisjoint(keys):
        return []
    into.objects.append(here)
    inner: list[object] = []
    for key, value in here.items():
        _entry(fold(key), value, into, inner, levels)
    return inner


def _is_error(here: Mapping[str, object]) -> bool:
    """An error object has a `message` as well, but that is a sentence."""
    return isinstance(here.get("message"), str) or here.get("type") == "error"


def _entry(key: str, value: object, into: _Gathered, inner: list[object], levels: int) -> None:
    if isinstance(value, bool) or value is None:
        return
    if isinstance(value, Mapping | list):
        if key in _PATHS or (key == "message" and isinstance(value, Mapping) and "role" not in value):
            inner.append(value)
        return
    if into.status is None and key in _STATUS_KEYS:
        into.status = _status(value)
    if not isinstance(value, str) or not value.strip():
        return
    if key in _CODE_KEYS and " " not in value.strip():
        into.codes.append(value.strip()[:100])
    elif key in _MESSAGE_KEYS:
        _string(value, into, levels)


def _string(text: str, into: _Gathered, levels: int) -> None:
    if levels > 0 and ("{" in text or "[" in text):
        before = len(into.objects)
        prose = _read(text, into, levels - 1)
        if len(into.objects) > before:
            text = prose
    if text.strip():
        into.messages.append(text.strip())


def _status(value: object) -> int | None:
    """A status from 400 to 599; Azure and LiteLLM write it as a string."""
    if isinstance(value, str) and len(value) == len("429") and value.isascii() and value.isdigit():
        value = int(value)
    return value if isinstance(value, int) and 400 <= value <= 599 else None  # noqa: PLR2004 - RFC 9110, 15.5 and 15.6
