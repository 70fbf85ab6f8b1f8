"""One attempt on a client, through the generated client's public surface only.

A `ClientRegistry` names the client of an attempt where BAML's own choice does not stand (0.17 us, every version since 0.209;
the `client` option is silently ignored before 0.216). A `Collector` of its own keeps what the exception does not say: status,
headers, body, and the client that was really asked.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import replace
from typing import Any, Final, TypeVar

from resilience import errors
from resilience.baml import collector
from resilience.baml.collector import Usage
from resilience.baml.routing import Route
from resilience.baml.runtime import baml_runtime
from resilience.baml.source import is_mock
from resilience.failure import ErrorCategory, Failure, classify
from resilience.privacy import Content
from resilience.redaction import without_echo

T = TypeVar("T")
AsyncFunction = Callable[..., Coroutine[Any, Any, T]]
"""An async function that makes one attempt: a generated client's, or any that a caller hands in."""
Learn = Callable[[frozenset[str]], None]
"""Receives the names of the clients that a finished attempt asked."""


class Attempt:
    """A BAML function bound to one client: call it once per attempt, one attempt at a time.

    Args:
        function: the function of the generated client.
        client: the client to name to BAML; None leaves the choice to BAML.
        options: the caller's BAML options.
        learn: receives the clients that were asked; None where the client is known.
    """

    __slots__ = ("_client", "_collector", "_function", "_learn", "_options", "_usage")

    def __init__(
        self,
        function: AsyncFunction[Any],
        client: str | None,
        options: Mapping[str, Any],
        learn: Learn | None = None,
    ) -> None:
        self._function = function
        self._client = client
        self._options = options
        self._learn = learn
        self._collector: Any = None
        self._usage: Usage | None = None

    async def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Ask the client once.

        Raises:
            AnswerError: BAML returned an answer as good that the provider had cut, withheld or left empty.
            Exception: whatever BAML raises, unchanged.
        """
        runtime = baml_runtime()
        own, self._usage = runtime.Collector("resilience"), None
        self._collector = own
        options = {**self._options, "collector": [own, *_collectors(self._options)]}
        if self._client is not None:
            registry = options["client_registry"] = runtime.ClientRegistry()
            registry.set_primary(self._client)
        try:
            result = await self._function(*args, baml_options=options, **kwargs)
        finally:
            if self._learn is not None and (asked := collector.clients(own)):
                self._learn(asked)
        trace = collector.trace(own)
        self._usage = trace.usage
        spoiled = collector.spoiled(result, trace.body)
        if spoiled is not None:
            raise spoiled(self._client or collector.client(own), result)
        return result

    def classify(self, exc: Exception, *, now: float | None = None) -> Failure:
        """Classify what the last attempt raised, with the evidence in its Collector.

        Args:
            exc: what it raised.
            now: the time in epoch seconds, for waits that are stated as a date.
        """
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

    def could_not_be_built(self, exc: Exception) -> bool:
        """Return whether BAML could not make a request for this client: an unset variable, an unknown provider option.

        That is a fault of the client's configuration, not of the call, so another client may well answer. A wrong argument is
        none: BAML raises a class of its own for it.
        """
        trace = collector.trace(self._collector)
        return type(exc).__name__ == "BamlError" and trace.began and not trace.asked

    def usage(self) -> Usage:
        """Return what the last attempt used."""
        if self._usage is None:
            self._usage = collector.trace(self._collector).usage
        return self._usage

    def content(self, exc: Exception | None = None) -> Content:
        """Return prompt and answer of the last attempt, which raised *exc* or nothing. Nothing is redacted yet."""
        asked, keys = collector.content(self._collector), collector.keys(self.usage().request)
        return Content(
            request=collector.less(asked.request, keys=keys),
            prompt=collector.less(collector.plain(getattr(exc, "prompt", None)), keys=keys),
            output=collector.less(
                collector.plain(getattr(exc, "raw_output", None)) or asked.output, keys=keys
            ),
        )


class ClientBinder:
    """Makes the attempts of one call of one BAML function.

    Args:
        function: the function of the generated client.
        options: the caller's BAML options, without `client`.
        route: where the call goes.
        learn: receives the clients that were asked, where the route learns them.
    """

    __slots__ = ("_function", "_learn", "_options", "_route")

    def __init__(
        self,
        function: AsyncFunction[Any],
        options: Mapping[str, Any],
        route: Route,
        learn: Learn | None = None,
    ) -> None:
        self._function = function
        self._options = options
        self._route = route
        self._learn = learn

    def __call__(self, client: str) -> AsyncFunction[Any]:
        """Return the function that asks *client*."""
        if not takes_options(self._function):
            return self._function
        route = self._route
        if client == route.client and not route.is_named:
            return Attempt(self._function, None, self._options, self._learn if route.learns else None)
        return Attempt(self._function, client, self._options)


_log = logging.getLogger("resilience")
_reported: Final[set[str]] = set()


def warn_of_unbuildable(client: str, reason: str) -> None:
    """Log once per process that *client* is skipped, since BAML cannot make a request for it."""
    if client not in _reported:
        _reported.add(client)
        _log.warning("client %s is skipped: BAML cannot build a request for it (%s)", client, reason)


def registry_for(client: str) -> dict[str, Any]:
    """Return the BAML options that name *client*, for versions that do not know the option `client` (before 0.216)."""
    registry = baml_runtime().ClientRegistry()
    registry.set_primary(client)
    return {"client_registry": registry}


def takes_options(function: AsyncFunction[Any]) -> bool:
    """Return whether *function* is one of BAML's, which take `baml_options`.

    Doubles of a client may have functions without it. Mocks take anything, and their tests assert on the arguments.
    """
    if is_mock(function):
        return False
    parameters = inspect.signature(function).parameters.values()
    return any(each.name == "baml_options" or each.kind is each.VAR_KEYWORD for each in parameters)


def options_of(baml: object) -> dict[str, Any]:
    """Return the options that a generated client carries from `with_options`. Options of a call would replace them."""
    holder = getattr(baml, f"_{type(baml).__name__}__options", None)
    options = getattr(holder, "_DoNotUseDirectlyCallManager__baml_options", None)
    return dict(options) if isinstance(options, Mapping) else {}


def _collectors(options: Mapping[str, Any]) -> list[Any]:
    given = options.get("collector")
    if given is None:
        return []
    return list(given) if isinstance(given, list | tuple) else [given]
