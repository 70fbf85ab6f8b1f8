"""One attempt on a named client, through the generated client's public surface alone.

A fresh `ClientRegistry` routes the attempt (0.17 us, every version since 0.209; the `client` option is silently ignored before
0.216) and a fresh `Collector` catches what the exception does not say (status, headers, body).
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from dataclasses import replace
from typing import Any

from resilience import errors
from resilience.baml import collector
from resilience.baml.collector import Usage
from resilience.baml.runtime import baml_runtime
from resilience.failure import ErrorCategory, Failure, classify
from resilience.privacy import Content
from resilience.redaction import without_echo

AsyncFunction = Callable[..., Coroutine[Any, Any, Any]]


class Attempt:
    """A BAML function bound to one client: call it as often as there are attempts, one at a time."""

    __slots__ = ("_client", "_collector", "_function", "_options", "_own_registry", "_usage")

    def __init__(self, function: AsyncFunction, client: str, options: Mapping[str, Any]) -> None:
        self._function = function
        self._client = client
        self._options = options
        self._own_registry = options.get("client_registry") is not None
        self._collector: Any = None
        self._usage: Usage | None = None

    async def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Ask the client once.

        Raises:
            AnswerError: BAML took an answer for good that the provider had cut or emptied.
            Exception: whatever BAML raises, unchanged.
        """
        runtime = baml_runtime()
        attempt_collector, self._usage = runtime.Collector("resilience"), None
        self._collector = attempt_collector
        options = {**self._options, "collector": [attempt_collector, *_collectors(self._options)]}
        if not self._own_registry:
            registry = options["client_registry"] = runtime.ClientRegistry()
            registry.set_primary(self._client)
        result = await self._function(*args, baml_options=options, **kwargs)
        trace = collector.trace(attempt_collector)
        self._usage = trace.usage
        spoiled = collector.spoiled(result, trace.body)
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
        trace = collector.trace(self._collector)
        failure = classify(exc, evidence=collector.evidence(exc, trace), now=now)
        if trace.body is None:
            return failure
        return replace(
            failure, message=without_echo(failure.message, collector.content(self._collector).request or "")
        )

    def usage(self) -> Usage:
        """What the last attempt used."""
        if self._usage is None:
            self._usage = collector.trace(self._collector).usage
        return self._usage

    def content(self, exc: Exception | None = None) -> Content:
        """What the last attempt, which raised *exc* or nothing, asked and was answered. Raw: it is for the privacy level to keep."""
        asked, keys = collector.content(self._collector), collector.keys(self.usage().request)
        return Content(
            request=collector.less(asked.request, keys=keys),
            prompt=collector.less(collector.plain(getattr(exc, "prompt", None)), keys=keys),
            output=collector.less(
                collector.plain(getattr(exc, "raw_output", None)) or asked.output, keys=keys
            ),
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
