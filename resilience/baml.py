"""The only room that knows BAML: one attempt on a named client, the evidence it leaves, and what a client was generated from.

A generated client is driven through its public surface alone, with `baml_options`: a fresh `ClientRegistry`
routes the attempt (0.17 us, every version since 0.209; the `client` option is silently ignored before 0.216) and a
fresh `Collector` catches what the exception does not say (status, headers, body). What BAML raises for which fault was
measured; the rules here are those of that study, and each has a test against the real runtime.
"""

from __future__ import annotations

import contextlib
import importlib
import inspect
import os
import re
import sys
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, TypeVar

from resilience import errors
from resilience.failure import ErrorCategory, Evidence, Failure, classify
from resilience.privacy import Content
from resilience.redaction import is_secret, without_echo

_T = TypeVar("_T", str, str | None)
AsyncFunction = Callable[..., Coroutine[Any, Any, Any]]

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
_STRATEGIES: Final = frozenset({"fallback", "round-robin"})
_CLIENT = re.compile(r"^[ \t]*client\s*<\s*llm\s*>\s*(\w+)\s*\{", re.MULTILINE)
_FUNCTION = re.compile(r"^[ \t]*function\s+(\w+)", re.MULTILINE)
_FUNCTION_CLIENT = re.compile(r'^[ \t]*client\s+"?([\w./:-]+)"?[ \t]*$', re.MULTILINE)
_VARIABLE = re.compile(r"\benv\.(\w+)")
_COMMENT = re.compile(r"^[ \t]*//.*$", re.MULTILINE)
_MODEL = re.compile(r'"model"\s*:\s*"([\w./:@+-]{1,100})"')
_MODEL_IN_URL = re.compile(r"/models?/([\w.:@+-]{1,100}?)(?:[/:?]|$)")


# --- what a client was generated from ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Source:
    """The clients and functions a generated client was made from, read off its inlined BAML source.

    Attributes:
        functions: the default client of each function, by the function's name.
        clients: every declared client, in the order of the files.
        multiplying: clients that retry or fall over by themselves, so that attempts multiply.
        variables: the environment variables each client reads.
    """

    functions: Mapping[str, str] = field(default_factory=dict)
    clients: tuple[str, ...] = ()
    multiplying: tuple[str, ...] = ()
    variables: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


def source_of(baml: object) -> Source:
    """Read the inlined BAML source beside the generated client *baml*; empty for objects that have none."""
    package = type(baml).__module__.rpartition(".")[0]
    if not package:
        return Source()
    try:
        files: Mapping[str, str] = importlib.import_module(f"{package}.inlinedbaml").get_baml_files()
    except (ImportError, AttributeError):
        return Source()
    return parse_source("\n".join(files.values()))


def parse_source(text: str) -> Source:
    """Find the clients and functions in BAML source *text*."""
    text = _COMMENT.sub("", text)
    blocks = {match[1]: _block(text, match.end()) for match in _CLIENT.finditer(text)}
    functions = {}
    for match in _FUNCTION.finditer(text):
        named = _FUNCTION_CLIENT.search(_block(text, text.find("{", match.end()) + 1))
        functions[match[1]] = named[1] if named else ""
    multiplying = tuple(name for name, block in blocks.items() if _multiplies(block))
    variables = {name: tuple(dict.fromkeys(_VARIABLE.findall(block))) for name, block in blocks.items()}
    return Source(functions, tuple(blocks), multiplying, variables)


def _block(text: str, start: int) -> str:
    """The text from *start* to the brace that closes the block it stands in; raw strings hold no braces of ours."""
    depth, at = 1, start
    while depth and at < len(text):
        if text.startswith('#"', at):
            end = text.find('"#', at + 2)
            at = len(text) if end < 0 else end + 2
            continue
        depth += (text[at] == "{") - (text[at] == "}")
        at += 1
    return text[start:at]


def _multiplies(block: str) -> bool:
    provider = re.search(r'^\s*provider\s+"?([\w-]+)', block, re.MULTILINE)
    strategy = provider is not None and provider[1].removeprefix("baml-") in _STRATEGIES
    return strategy or re.search(r"^\s*retry_policy\s+\w", block, re.MULTILINE) is not None


def functions_of(baml: object) -> tuple[str, ...]:
    """The async functions of a generated client (or of a double of one)."""
    return tuple(
        name
        for name in dir(type(baml))
        if not name.startswith("_")
        and inspect.iscoroutinefunction(inspect.getattr_static(type(baml), name, None))
    )


def installed_client() -> Any:
    """Import the project's generated client, `baml_client.b` in its async form.

    Raises:
        MissingClientError: there is none, or it was generated for another version of baml-py.
    """
    try:
        client = importlib.import_module("baml_client.async_client").b
    except ImportError as exc:
        cause = str(exc).strip().splitlines()
        msg = (
            "no BAML client can be imported as `baml_client`: run `baml-cli generate` in the folder that holds "
            f"baml_src and put its output on sys.path ({cause[0] if cause else type(exc).__name__})"
        )
        raise errors.MissingClientError(msg) from exc
    return client


def hush() -> None:
    """Turn BAML's own stdout logging down, which prints prompts and replies, unless the user has set it."""
    if "BAML_LOG" in os.environ or "baml_py" not in sys.modules:
        return
    with contextlib.suppress(Exception):  # an optional courtesy: no version of it may stop a call
        importlib.import_module("baml_py.logging").set_log_level("OFF")


# --- one attempt ------------------------------------------------------------------------------------------------


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


class Attempt:
    """A BAML function bound to one client: call it as often as there are attempts, one at a time."""

    __slots__ = ("_client", "_collector", "_function", "_options", "_own_registry", "_usage")

    def __init__(self, function: AsyncFunction, client: str, options: Mapping[str, Any]) -> None:
        self._function = function
        self._client = client
        self._options = options
        self._own_registry = "client_registry" in options
        self._collector: Any = None
        self._usage: Usage | None = None

    async def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Ask the client once.

        Raises:
            AnswerError: BAML took an answer for good that the provider had cut or emptied.
            Exception: whatever BAML raises, unchanged.
        """
        runtime = _runtime()
        collector, self._usage = runtime.Collector("resilience"), None
        self._collector = collector
        options = {**self._options, "collector": [collector, *_collectors(self._options)]}
        if not self._own_registry:
            registry = options["client_registry"] = runtime.ClientRegistry()
            registry.set_primary(self._client)
        result = await self._function(*args, baml_options=options, **kwargs)
        trace = _trace(collector)
        self._usage = trace.usage
        spoiled = _spoiled(result, trace.body)
        if spoiled is not None:
            raise spoiled(self._client, result)
        return result

    def classify(self, exc: Exception, *, now: float | None = None) -> Failure:
        """Sort what the last attempt raised, by what it left in its Collector; *now* is epoch seconds."""
        aborted = getattr(self._options.get("abort_controller"), "aborted", False)
        if aborted and not isinstance(exc, errors.AnswerError):
            return Failure(
                category=ErrorCategory.CANCELLED,
                recoverable=False,
                counts_against_client=False,
                message="aborted by the caller",
                exception_type=type(exc).__name__,
            )
        trace = _trace(self._collector)
        failure = classify(exc, evidence=_evidence(exc, trace), now=now)
        if trace.body is None:
            return failure
        return replace(
            failure, message=without_echo(failure.message, _content(self._collector).request or "")
        )

    def usage(self) -> Usage:
        """What the last attempt used."""
        if self._usage is None:
            self._usage = _trace(self._collector).usage
        return self._usage

    def content(self, exc: Exception | None = None) -> Content:
        """What the last attempt, which raised *exc* or nothing, asked and was answered. Raw: it is for the privacy level to keep."""
        asked, keys = _content(self._collector), _keys(self.usage().request)
        return Content(
            request=_less(asked.request, keys=keys),
            prompt=_less(_text(getattr(exc, "prompt", None)), keys=keys),
            output=_less(_text(getattr(exc, "raw_output", None)) or asked.output, keys=keys),
        )


class Route:
    """Makes the attempts of one call of one BAML function, a client at a time."""

    __slots__ = ("_function", "_options")

    def __init__(self, function: AsyncFunction, options: Mapping[str, Any]) -> None:
        self._function = function
        self._options = options

    def __call__(self, client: str) -> Attempt:
        """Bind the function to *client*."""
        return Attempt(self._function, client, self._options)


def options_of(baml: object) -> dict[str, Any]:
    """The options a generated client carries from `with_options`, which per-call options would replace."""
    holder = getattr(baml, f"_{type(baml).__name__}__options", None)
    options = getattr(holder, "_DoNotUseDirectlyCallManager__baml_options", None)
    return dict(options) if isinstance(options, Mapping) else {}


def _collectors(options: Mapping[str, Any]) -> list[Any]:
    given = options.get("collector")
    if given is None:
        return []
    return list(given) if isinstance(given, list | tuple) else [given]


@dataclass(frozen=True, slots=True)
class _Trace:
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


def _trace(collector: Any) -> _Trace:
    """Read the Collector; an empty trace if it cannot be read, for nothing here may cost a caller the answer."""
    try:
        return _read(collector)
    except Exception:  # noqa: BLE001 - whatever a version of BAML may raise here, the call is not to fail for it
        return _Trace()


def _read(collector: Any) -> _Trace:
    log = collector.last if collector is not None else None
    if log is None:
        return _Trace()
    calls = log.calls
    if not calls:
        return _Trace(began=True)
    last = _latest(calls)
    usage, response = _used(last), getattr(last, "http_response", None)
    if response is None or not response.headers:
        return _Trace(began=True, asked=True, usage=usage)
    return _Trace(True, True, response.status, response.headers, response.body.text(), usage)  # noqa: FBT003 - began, asked


def _used(call: Any) -> Usage:
    tokens = call.usage
    return Usage(
        provider=call.provider,
        input_tokens=None if tokens is None else tokens.input_tokens,
        output_tokens=None if tokens is None else tokens.output_tokens,
        request=getattr(call, "http_request", None),
    )


def _keys(request: Any) -> list[str]:
    """The keys a request was sent with: whatever their form, what a provider repeats of them is not told on."""
    try:
        values = [value.rpartition(" ")[2] for name, value in request.headers.items() if is_secret(name)]
    except Exception:  # noqa: BLE001 - as in _trace; nothing was sent, or a version of BAML tells it differently
        return []
    return [value for value in values if len(value) >= _SHORTEST_KEY]


def _less(text: _T, *, keys: list[str]) -> _T:
    for key in keys:
        text = text and text.replace(key, "[key]")
    return text


def _latest(calls: Any) -> Any:
    """The last of some calls, which are not in order when there were several (BoundaryML/baml#2441)."""
    return calls[0] if len(calls) == 1 else max(calls, key=lambda call: call.timing.start_time_utc_ms)


def _content(collector: Any) -> Content:
    """The request's body and the answer's text; never its headers, which carry the key, nor the body of an error."""
    try:
        log = collector.last
        sent = getattr(_latest(log.calls), "http_request", None)
        return Content(request=None if sent is None else sent.body.text(), output=_text(log.raw_llm_response))
    except Exception:  # noqa: BLE001 - as in _trace; nothing was sent, or a version of BAML tells it differently
        return Content()


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def _spoiled(result: Any, body: str | None) -> type[errors.AnswerError] | None:
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


def _evidence(exc: Exception, trace: _Trace) -> Evidence:
    keys = _keys(trace.usage.request)
    nothing_sent = not trace.headers and getattr(exc, "status_code", None) == _INVENTED
    return Evidence(
        exception=exc,
        status=trace.status,
        headers={name.lower(): _less(value, keys=keys) for name, value in trace.headers.items()},
        body=_less(trace.body, keys=keys),
        finish_reason=getattr(exc, "finish_reason", None) or _finish_reason(trace.body),
        configuration=trace.began and not trace.asked,
        connected=False if nothing_sent else None,
    )


# --- fork -------------------------------------------------------------------------------------------------------


class _Runtime:
    """Remembers whether this process, or the one it was forked from, has used BAML's async runtime."""

    def __init__(self) -> None:
        self.baml_py: Any = None
        self.stale = False

    def after_fork(self) -> None:
        self.stale = self.stale or self.baml_py is not None


_shared = _Runtime()
os.register_at_fork(after_in_child=_shared.after_fork)


def _runtime() -> Any:
    """The baml_py module, once a call needs it.

    Raises:
        ForkedRuntimeError: a call was made before the fork; its runtime's threads are not in this process, and the call
            would wait for them for ever. A client that was only imported before the fork is fine (60 of 60 forks).
    """
    if _shared.stale:
        msg = (
            "BAML was called before this process was forked, and its runtime cannot answer here: make the first "
            "BAML call after the fork (gunicorn: drop preload_app or call nothing at import; Celery: "
            "worker_process_init), or start workers with the 'spawn' method"
        )
        raise errors.ForkedRuntimeError(msg)
    if _shared.baml_py is None:
        _shared.baml_py = importlib.import_module("baml_py")
    return _shared.baml_py
