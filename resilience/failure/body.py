"""Unwraps a response body into what the provider says: codes, sentences, a status, error objects; never the model's text.

Bodies nest: a gateway's JSON holds the provider's JSON as a string, which may hold that of another gateway. Only known
places are searched. A completion, an echo of the request or a validation detail may quote the prompt, and a prompt about
"insufficient_quota" must not look like one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from resilience.failure import literals
from resilience.failure.remembered import ByWord, by_text

HEAD, TAIL = 48_000, 16_000
"""Characters at the start and the end of a body that are read: a stream's error is at its end."""

_MAX_LEVELS = 3
"""Bodies inside strings of bodies that are read."""

_MAX_OBJECTS = 300
"""Objects of one body that are read."""

# Keys are compared folded: `error_code`, `errorCode` and `ErrorCode` are "errorcode". Some keys hold a code with one provider
# and a status or a sentence with another; `_entry` looks at the value to decide.
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
_ERROR_PATHS = frozenset(
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
"""Keys below which an error may be. Other parts of a body (choices, input, messages) are the model's or the user's."""

# One of these makes an object a completion, whose finish reason and emptiness are looked at later.
_ANSWER_KEYS = frozenset(
    ["choices", "candidates", "content", "output", "promptfeedback", "donereason", "message", "stopreason"]
)
_CHUNK_KEYS = frozenset({"choices", "candidates"})
"""Keys of a completion, whose content is not read. A stream has thousands of them before its error."""

_ERROR_KEYS = frozenset({"error", "baseresp"})
"""Keys beside `choices` that make an object an error all the same: OpenRouter, MiniMax."""

_CONTAINERS = (dict, list)

_HTML = re.compile(r"\A\s*+<(?:!doctype|html|head|body|title|center|h1|\?xml)\b", re.IGNORECASE)
_TITLE = re.compile(r"<(title|h1)[^>]{0,200}>([^<]{1,300})", re.IGNORECASE)
_TAG = re.compile(r"<[^>]{0,300}>")
_NAME = re.compile(r"[^a-z0-9]+")
_SHORT_NAME = 64
"""Characters of names whose one spelling is remembered."""
_FRAME = re.compile(
    r"""
    ^[ \t]*+at[ ][^\n]{1,400}+$                                   # JavaScript, Java, C#
  | ^[ \t|]*+File[ ]"[^"\n]{1,400}+",[ ]line[ ]\d++[^\n]*+(?:\n[ \t|]+[^\n]*+$)?  # Python, with the line of its source
  | ^[ \t|+]*+Traceback[ ]\(most[ ]recent[ ]call[ ]last\):
    """,
    re.VERBOSE | re.MULTILINE,
)


@dataclass(frozen=True, slots=True)
class ResponseBody:
    """What a response body says.

    Attributes:
        codes: the provider's codes and types, outermost first.
        messages: its sentences for people, outermost first.
        status: a status that the body names in a field; never a number from prose.
        objects: the error objects themselves, for the delays in them.
        answer: the completion, where the body is one.
        prose: the text around the objects; for an HTML page its words.
        title: the title of an HTML page.
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
        """All messages, then the prose, one a line."""
        return "\n".join((*self.messages, self.prose))


@dataclass(slots=True)
class _Collected:
    """What has been read of a body so far."""

    codes: list[str] = field(default_factory=list)
    messages: list[str] = field(default_factory=list)
    objects: list[Mapping[str, object]] = field(default_factory=list)
    answer: Mapping[str, object] | None = None
    status: int | None = None


def fold(name: str) -> str:
    """Return one spelling for `rate_limit_error`, `RateLimitError` and `rate-limit-error`."""
    return _FOLDED[name]


_FOLDED = ByWord(lambda name: _NAME.sub("", name.lower()))


def clip(text: str, head: int = HEAD, tail: int = TAIL) -> str:
    """Return *text*, or its first *head* and last *tail* characters if it is longer."""
    return text if len(text) <= head + tail else f"{text[:head]}\n{text[-tail:]}"


def without_frames(text: str) -> str:
    """Return *text* without the frames of stack traces, whose names and source lines say nothing about the failure."""
    return _FRAME.sub("", text) if "\n" in text and (" at " in text or ", line " in text) else text


def unwrap(body: str | None) -> ResponseBody:
    """Return what *body* says. Never raises. The text is clipped first, so the time is bounded."""
    return _unwrapped(body) if body else ResponseBody()


@by_text
def _unwrapped(body: str) -> ResponseBody:
    text = without_frames(clip(body))
    if _HTML.match(text):
        return _page(text)
    into = _Collected()
    prose = _read(text, into, _MAX_LEVELS)
    nothing_found = not (into.messages or into.codes or into.answer)
    if nothing_found and '\\"' in text:  # a log line has escaped the quotes
        into = _Collected()
        prose = _read(literals.unescape(text), into, _MAX_LEVELS)
    if not into.messages and into.answer is None:  # an unknown form, or too broken to read
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
    """Return what an HTML page says: the error page of a gateway, whose title is its best sentence."""
    titles = (match[2].strip() for match in _TITLE.finditer(text))
    title = next(filter(None, titles), "a page, not an answer")
    return ResponseBody(prose=_TAG.sub(" ", text), title=title)


def _read(text: str, into: _Collected, levels: int) -> str:
    """Collect the objects of *text*. Return the prose around them.

    Args:
        text: a body, or a string inside one.
        into: collects what is found.
        levels: how many bodies inside strings may still be opened.
    """
    values, prose = literals.split(text)
    for value in values:
        _visit(value, into, levels)
    return prose


def _visit(value: object, into: _Collected, levels: int) -> None:
    """Collect the errors of *value*, outermost first. A string may hold the next body.

    The loop replaces recursion: a hostile body must not exhaust the stack.
    """
    pending = [value]
    while pending and len(into.objects) < _MAX_OBJECTS:
        current = pending.pop(0)
        if isinstance(current, list):
            pending[:0] = current[:_MAX_OBJECTS]
        elif isinstance(current, dict):
            pending[:0] = _object(current, into, levels)
        elif isinstance(current, str):
            _string(current, into, levels)


def _object(entry: Mapping[str, object], into: _Collected, levels: int) -> list[object]:
    """Collect what *entry* says itself. Return the objects inside that may hold errors."""
    keys = list(map(_FOLDED.__getitem__, entry))
    if into.answer is None and not _is_error(entry) and not _ANSWER_KEYS.isdisjoint(keys):
        into.answer = entry
    if _ERROR_KEYS.isdisjoint(keys) and not _CHUNK_KEYS.isdisjoint(keys):
        return []
    into.objects.append(entry)
    inner: list[object] = []
    for key, value in zip(keys, entry.values(), strict=True):
        _entry(key, value, into, inner, levels)
    return inner


def _is_error(entry: Mapping[str, object]) -> bool:
    """Return whether *entry* is an error. Completions have a `message` too, but theirs is an object."""
    return isinstance(entry.get("message"), str) or entry.get("type") == "error"


def _entry(key: str, value: object, into: _Collected, inner: list[object], levels: int) -> None:
    """Collect one entry of an error object; its folded *key* and its value say what it is."""
    if isinstance(value, bool) or value is None:
        return
    if isinstance(value, _CONTAINERS):
        # `message` may hold the next error, but with a `role` it is the model's answer or the user's prompt.
        if key in _ERROR_PATHS or (key == "message" and isinstance(value, dict) and "role" not in value):
            inner.append(value)
        return
    if into.status is None and key in _STATUS_KEYS:
        into.status = _status(value)
    if not isinstance(value, str) or not value.strip():
        return
    if key in _CODE_KEYS and _is_code(key, value.strip()):
        into.codes.append(value.strip()[:100])
    elif key in _MESSAGE_KEYS:
        _string(value, into, levels)


def _is_code(key: str, value: str) -> bool:
    """Return whether the *value* of a key that may hold a code is one.

    With a blank it is a sentence, as in `"reason": "You exceeded your quota"`, unless no sentence stands under this key: `"type": "bad input"`.
    """
    return " " not in value or (key not in _MESSAGE_KEYS and len(value) <= _SHORT_NAME)


def _string(text: str, into: _Collected, levels: int) -> None:
    """Collect a sentence, or the body that a gateway quotes inside it."""
    if levels > 0 and ("{" in text or "[" in text):
        before = len(into.objects)
        prose = _read(text, into, levels - 1)
        # A body was inside: only the words around it are the sentence. Empty braces are those of a template, as in `{{- raise_exception(`.
        if any(into.objects[before:]):
            text = prose
    if text.strip():
        into.messages.append(text.strip())


def _status(value: object) -> int | None:
    """Return *value* if it is a status from 400 to 599; Azure and LiteLLM write it as a string."""
    if isinstance(value, str) and len(value) == len("429") and value.isascii() and value.isdigit():
        value = int(value)
    return value if isinstance(value, int) and 400 <= value <= 599 else None  # noqa: PLR2004 - RFC 9110, 15.5 and 15.6
