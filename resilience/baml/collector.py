"""What BAML's Collector saw of an attempt: evidence of a failure, tokens, content. Reading it never raises.

The exception alone misleads: a refused connection has status 503, a reset one 2, and headers are never on it. The
Collector holds the real response. What it offers differs between versions of baml-py, so every read is guarded: an
attribute that is missing costs some evidence, never the caller's answer.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Final, TypeVar
from urllib.parse import parse_qsl, unquote, urlsplit

from resilience import errors
from resilience.failure import ErrorCategory, Evidence
from resilience.failure.evidence import BAML_INVENTED_STATUS
from resilience.failure.exceptions import is_baml
from resilience.failure.finish_reasons import bad_finish_reason, category_of_reason
from resilience.privacy import Content
from resilience.redaction import SentText, is_secret, remember_secrets

_T = TypeVar("_T", str, str | None)
_SHORTEST_KEY: Final = 8
"""Characters; a shorter value of a secret header is no key but a word that may be anywhere in a text."""
_MODEL = re.compile(r'"model"\s*:\s*"([\w./:@+-]{1,100})"')
_MODEL_IN_URL = re.compile(r"/(?:models?|deployments)/([\w.@+%-]{1,100}?)(?:[/:?]|$)")
"""Google names the model in the path, Azure the deployment; Bedrock escapes the colon of a version (`%3A0`)."""
_KEY_PARAMETERS: Final = frozenset({"key", "sig", "code"})
"""Parameters of an address that hold a key although their name alone does not say so: Google, Azure."""
_ANSWER_ERRORS: Final[Mapping[ErrorCategory, type[errors.AnswerError]]] = {
    ErrorCategory.OUTPUT_TRUNCATED: errors.OutputTruncatedError,
    ErrorCategory.CONTENT_POLICY: errors.ContentRefusedError,
}
"""The error for an answer that BAML accepted, by the category of its finish reason; `AnswerError` for all others."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What an attempt used.

    Attributes:
        provider: the kind of API in BAML's words (`openai-generic`, `anthropic` ...), where known.
        input_tokens: tokens of the prompt, where the provider stated them.
        output_tokens: tokens of the answer, where the provider stated them.
        request: BAML's request object. It holds the prompt and the key; only `model` reads it.
    """

    provider: str | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    request: Any = field(default=None, repr=False, compare=False)

    @property
    def model(self) -> str | None:
        """The model that was asked for, where the request names it; None when it cannot be read.

        It is read only on demand, since most calls never need it. The first `"model"` of the request's body is the
        protocol's own: inside a prompt its quotes are escaped.
        """
        with contextlib.suppress(Exception):  # as in read_collector
            if self.request is not None:
                match = _MODEL.search(self.request.body.text()) or _MODEL_IN_URL.search(self.request.url)
                return None if match is None else unquote(match[1])
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class CollectorReading:
    """What a Collector holds of an attempt.

    Attributes:
        began: whether BAML began the function call.
        asked: whether it got as far as a client.
        status: the status of a real response.
        headers: the headers of a real response; empty without one.
        body: the body of a real response.
        usage: what the attempt used.
    """

    began: bool = False
    asked: bool = False
    status: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    body: str | None = None
    usage: Usage = Usage()


def read_collector(collector: Any) -> CollectorReading:
    """Return what *collector* holds; an empty reading if it cannot be read."""
    try:
        return _read(collector)
    except Exception:  # noqa: BLE001 - a version of BAML may raise anything here, and the call must not fail for it
        return CollectorReading()


def _read(collector: Any) -> CollectorReading:
    log = collector.last if collector is not None else None
    if log is None:
        return CollectorReading()
    calls = log.calls
    if not calls:
        return CollectorReading(began=True)
    return _read_call(_latest(calls))


def last_error_of(collector: Any) -> CollectorReading | None:
    """Return the last request that ended with an error status, when the attempt made several; None without one.

    A retry_policy of BAML or a strategy makes several requests in one attempt. When the attempt ends while BAML sleeps or
    asks again, the last finished request says what is wrong. A status of success is no error: such a
    response was still arriving.
    """
    with contextlib.suppress(Exception):  # as in read_collector
        readings = [_read_call(call) for call in sorted(collector.last.calls, key=_started)]
        failed = (
            reading for reading in reversed(readings) if (reading.status or 0) >= HTTPStatus.BAD_REQUEST
        )
        return next(failed, None)
    return None


def _read_call(call: Any) -> CollectorReading:
    usage, response = _usage(call), getattr(call, "http_response", None)
    # Without a response BAML makes one up, with a status such as 0 or 500. Only a real one has headers.
    if response is None or not response.headers:
        return CollectorReading(began=True, asked=True, usage=usage)
    return CollectorReading(
        began=True,
        asked=True,
        status=response.status,
        headers=response.headers,
        body=response.body.text(),
        usage=usage,
    )


@dataclass(frozen=True, slots=True)
class ObservedStream:
    """The events of the stream that an attempt began last.

    Attributes:
        calls: number of requests of the attempt so far.
        provider: the kind of API in BAML's words, where known.
        events: BAML's event objects, each with a `text`; empty before the first event.
    """

    calls: int = 0
    provider: str | None = None
    events: Sequence[Any] = ()


def stream_of(collector: Any) -> ObservedStream:
    """Return the events that *collector* has seen so far; none if it cannot be read.

    Until the first event BAML's object for the request is of a class without `sse_responses`.
    """
    with contextlib.suppress(Exception):  # as in read_collector
        calls = collector.last.calls
        call = _latest(calls)
        return ObservedStream(len(calls), call.provider, call.sse_responses() or ())
    return ObservedStream()


def clients_of(collector: Any) -> frozenset[str]:
    """Return the names of the clients that were asked; empty if none was, or if *collector* cannot be read."""
    with contextlib.suppress(Exception):  # as in read_collector
        return frozenset(call.client_name for call in collector.last.calls if call.client_name)
    return frozenset()


def last_client_of(collector: Any) -> str:
    """Return the name of the client that was asked last; empty if it cannot be read."""
    with contextlib.suppress(Exception):  # as in read_collector
        return str(_latest(collector.last.calls).client_name or "")
    return ""


def usage_of(collector: Any) -> Usage:
    """Return what the request that began last has used; an empty usage if *collector* cannot be read."""
    with contextlib.suppress(Exception):  # as in read_collector
        return _usage(_latest(collector.last.calls))
    return Usage()


def _usage(call: Any) -> Usage:
    tokens = getattr(call, "usage", None)
    return Usage(
        provider=getattr(call, "provider", None),
        input_tokens=getattr(tokens, "input_tokens", None),
        output_tokens=getattr(tokens, "output_tokens", None),
        request=getattr(call, "http_request", None),
    )


def _latest(calls: Any) -> Any:
    """Return the call that started last. Several are not in order (BoundaryML/baml#2441)."""
    return calls[0] if len(calls) == 1 else max(calls, key=_started)


def _started(call: Any) -> int:
    return int(call.timing.start_time_utc_ms)


def keys_of(request: Any) -> list[str]:
    """Return the keys that *request* was sent with, so that they can be removed from what the provider repeats.

    From now on they are masked in every text of this process.
    """
    try:
        pairs = [*request.headers.items(), *parse_qsl(urlsplit(request.url).query)]
        values = [
            value.rpartition(" ")[2] for name, value in pairs if is_secret(name) or name in _KEY_PARAMETERS
        ]
    except Exception:  # noqa: BLE001 - as in read_collector; nothing was sent, or this version of BAML has no headers
        return []
    keys = [value for value in values if len(value) >= _SHORTEST_KEY]
    remember_secrets(keys)
    return keys


def without_keys(text: _T, *, keys: list[str]) -> _T:
    """Return *text* with each of *keys* replaced by `[key]`."""
    for key in keys:
        text = text and text.replace(key, "[key]")
    return text


def content_of(collector: Any) -> Content:
    """Return the body of the request and the text of the answer.

    Left out are the headers, which carry the key, and the body of an error.
    """
    try:
        log = collector.last
        request = getattr(_latest(log.calls), "http_request", None)
        return Content(
            request=None if request is None else request.body.text(),
            output=non_empty_text(log.raw_llm_response),
        )
    except Exception:  # noqa: BLE001 - as in read_collector; nothing was sent, or this version of BAML has no body
        return Content()


def output_of(collector: Any) -> str | None:
    """Return the text that BAML made its answer of; None without one, or if *collector* cannot be read."""
    with contextlib.suppress(Exception):  # as in read_collector
        return non_empty_text(collector.last.raw_llm_response)
    return None


def non_empty_text(value: object) -> str | None:
    """Return *value* if it is a text that is not empty, else None."""
    return value if isinstance(value, str) and value else None


def answer_error(result: Any, body: str | None) -> type[errors.AnswerError] | None:
    """Return the error for an answer that BAML accepted although it is cut, withheld or empty; None for a good one.

    BAML closes open brackets, so an answer that stops at the token limit can parse and come back as a result.

    Args:
        result: what BAML made of the answer.
        body: the body of the response; None if it is unknown.
    """
    # Before the check for emptiness: a refusal and an answer that is all thinking are empty too.
    category = category_of_reason(bad_finish_reason(body))
    if category is not None:
        return _ANSWER_ERRORS.get(category, errors.AnswerError)
    return errors.EmptyAnswerError if result == "" else None


def error_of_answer(result: Any, collector: Any) -> type[errors.AnswerError] | None:
    """Return what `answer_error` says of the answer that *collector* has seen.

    It runs on every answered call, and reads the body alone. A body that BAML made up says nothing; only a real response has
    headers. They cost more than the body, so they are read only where the body says that the answer is bad.

    Args:
        result: what BAML made of the answer.
        collector: the Collector of the attempt.
    """
    response = body = None
    with contextlib.suppress(Exception):  # as in read_collector
        response = _latest(collector.last.calls).http_response
        body = None if response is None else response.body.text()
    error = answer_error(result, body)
    if error is None or body is None or _is_real(response):
        return error
    return answer_error(result, None)


def _is_real(response: Any) -> bool:
    with contextlib.suppress(Exception):  # as in read_collector
        return bool(response.headers)
    return False


def evidence_of_attempt(exc: Exception, reading: CollectorReading, sent: SentText | None = None) -> Evidence:
    """Return the evidence of a failed attempt: its exception, what the Collector saw, without keys, and what was *sent*."""
    keys = keys_of(reading.usage.request)
    # Of BAML's exceptions alone: where a mock stands in for BAML, the status of an SDK's exception is a real one.
    invented = is_baml(exc) and getattr(exc, "status_code", None) == BAML_INVENTED_STATUS
    nothing_sent = invented and not reading.headers
    return Evidence(
        exception=exc,
        status=reading.status,
        headers={name.lower(): without_keys(value, keys=keys) for name, value in reading.headers.items()},
        body=without_keys(reading.body, keys=keys),
        finish_reason=getattr(exc, "finish_reason", None) or bad_finish_reason(reading.body),
        configuration=reading.began and not reading.asked,
        connected=False if nothing_sent else None,
        sent=sent,
    )


def callers_collectors(options: Mapping[str, Any]) -> list[Any]:
    """Return the caller's own collectors; BAML accepts one or a list."""
    given = options.get("collector")
    if given is None:
        return []
    return list(given) if isinstance(given, list | tuple) else [given]
