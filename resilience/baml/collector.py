"""What a Collector caught of an attempt: evidence of a failure, tokens, content. Reading it never raises."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from resilience import errors
from resilience.failure import Evidence
from resilience.privacy import Content
from resilience.redaction import is_secret

_T = TypeVar("_T", str, str | None)
_FINISHED = re.compile(r'"(?:finish_reason|finishReason|stop_reason|stopReason)"\s*:\s*"(\w+)"')
_TRUNCATED: Final = frozenset({"length", "max_tokens", "model_length", "max_output_tokens"})
_REFUSED: Final = frozenset(
    {"content_filter", "content_filtered", "safety", "refusal", "prohibited_content", "guardrail_intervened"}
)
_MARKS: Final = tuple(
    f'"{word}"' for word in (*sorted(_TRUNCATED | _REFUSED), "MAX_TOKENS", "SAFETY", "PROHIBITED_CONTENT")
)
_SHORTEST_KEY: Final = 8
"""Characters below which a header's value is no key, but a word that may stand anywhere."""
_INVENTED: Final = 503
"""The status BAML makes up when the connection was refused or the name not found: nothing was sent."""
_MODEL = re.compile(r'"model"\s*:\s*"([\w./:@+-]{1,100})"')
_MODEL_IN_URL = re.compile(r"/models?/([\w.:@+-]{1,100}?)(?:[/:?]|$)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What an attempt used.

    Attributes:
        provider: the kind of API, in BAML's words (`openai-generic`, `anthropic`, ...), where known.
        input_tokens: tokens of the prompt, where the provider said so.
        output_tokens: tokens of the answer, where the provider said so.
        request: what was sent; holds the prompt and the key, and is here to be asked for the model alone.
    """

    provider: str | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    request: Any = field(default=None, repr=False, compare=False)

    @property
    def model(self) -> str | None:
        """The model that was asked, where the request names it; None when it cannot be read.

        The first `"model"` of the request's body is the protocol's own: inside a prompt its quotes are escaped.
        """
        with contextlib.suppress(Exception):  # as in `_trace`
            if self.request is not None:
                found = _MODEL.search(self.request.body.text()) or _MODEL_IN_URL.search(self.request.url)
                return None if found is None else found[1]
        return None


@dataclass(frozen=True, slots=True)
class Trace:
    """What a Collector holds of an attempt.

    Attributes:
        began: BAML got as far as a function call.
        asked: it got as far as a client.
        status: of a real response.
        headers: of a real response; empty without one, since what BAML makes up has none.
        body: of a real response.
        usage: what the attempt used.
    """

    began: bool = False
    asked: bool = False
    status: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    body: str | None = None
    usage: Usage = Usage()


def trace(collector: Any) -> Trace:
    """Read the Collector; an empty trace if it cannot be read, for nothing here may cost a caller the answer."""
    try:
        return _read(collector)
    except Exception:  # noqa: BLE001 - whatever a version of BAML may raise here, the call is not to fail for it
        return Trace()


def _read(collector: Any) -> Trace:
    log = collector.last if collector is not None else None
    if log is None:
        return Trace()
    calls = log.calls
    if not calls:
        return Trace(began=True)
    last = _latest(calls)
    usage, response = _used(last), getattr(last, "http_response", None)
    if response is None or not response.headers:
        return Trace(began=True, asked=True, usage=usage)
    return Trace(True, True, response.status, response.headers, response.body.text(), usage)  # noqa: FBT003 - began, asked


def clients(collector: Any) -> frozenset[str]:
    """Return the names of the clients that were asked. Empty if none was, or if the Collector cannot be read."""
    with contextlib.suppress(Exception):  # as in `trace`
        return frozenset(call.client_name for call in collector.last.calls if call.client_name)
    return frozenset()


def client(collector: Any) -> str:
    """Return the name of the client that was asked last; empty if it cannot be read."""
    with contextlib.suppress(Exception):  # as in `trace`
        return str(_latest(collector.last.calls).client_name or "")
    return ""


def _used(call: Any) -> Usage:
    tokens = getattr(call, "usage", None)
    return Usage(
        provider=getattr(call, "provider", None),
        input_tokens=getattr(tokens, "input_tokens", None),
        output_tokens=getattr(tokens, "output_tokens", None),
        request=getattr(call, "http_request", None),
    )


def keys(request: Any) -> list[str]:
    """The keys a request was sent with: whatever their form, what a provider repeats of them is not told on."""
    try:
        values = [value.rpartition(" ")[2] for name, value in request.headers.items() if is_secret(name)]
    except Exception:  # noqa: BLE001 - as in trace; nothing was sent, or a version of BAML tells it differently
        return []
    return [value for value in values if len(value) >= _SHORTEST_KEY]


def less(text: _T, *, keys: list[str]) -> _T:
    """*text* without these keys."""
    for key in keys:
        text = text and text.replace(key, "[key]")
    return text


def _latest(calls: Any) -> Any:
    """The last of some calls, which are not in order when there were several (BoundaryML/baml#2441)."""
    return calls[0] if len(calls) == 1 else max(calls, key=lambda call: call.timing.start_time_utc_ms)


def content(collector: Any) -> Content:
    """The request's body and the answer's text; never its headers, which carry the key, nor the body of an error."""
    try:
        log = collector.last
        sent = getattr(_latest(log.calls), "http_request", None)
        return Content(request=None if sent is None else sent.body.text(), output=plain(log.raw_llm_response))
    except Exception:  # noqa: BLE001 - as in trace; nothing was sent, or a version of BAML tells it differently
        return Content()


def plain(value: object) -> str | None:
    """A text that says something; None for anything else."""
    return value if isinstance(value, str) and value else None


def spoiled(result: Any, body: str | None) -> type[errors.AnswerError] | None:
    """Is this answer cut, refused or empty although BAML calls it good?"""
    if result == "":
        return errors.EmptyAnswerError
    reason = _finish_reason(body)
    if reason in _TRUNCATED:
        return errors.OutputTruncatedError
    return errors.ContentRefusedError if reason in _REFUSED else None


def _finish_reason(body: str | None) -> str | None:
    """Why the provider stopped, if that spoils the answer.

    Quotes inside a JSON string are escaped, so the marks are only found where they are values of the protocol.
    """
    if body is None or not any(mark in body for mark in _MARKS):
        return None
    found = _FINISHED.search(body)
    return found[1].lower() if found else None


def evidence(exc: Exception, trace: Trace) -> Evidence:
    """What is told of a failure to those who sort it."""
    sent = keys(trace.usage.request)
    nothing_sent = not trace.headers and getattr(exc, "status_code", None) == _INVENTED
    return Evidence(
        exception=exc,
        status=trace.status,
        headers={name.lower(): less(value, keys=sent) for name, value in trace.headers.items()},
        body=less(trace.body, keys=sent),
        finish_reason=getattr(exc, "finish_reason", None) or _finish_reason(trace.body),
        configuration=trace.began and not trace.asked,
        connected=False if nothing_sent else None,
    )
