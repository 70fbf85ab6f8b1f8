"""One attempt on a client, through the generated client's public surface only.

Two objects of BAML are created for an attempt:

- a `ClientRegistry` that names the client, where BAML's own choice does not stand. Every version since 0.209 honours it. The
  `client` option would be simpler, but versions before 0.216 ignore it silently and ask the function's own client.
- a `Collector`, which sees what the exception does not carry: the real status, the headers, the body, and the client that
  was really asked. It is fresh for each attempt, so that its last log is of this attempt.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import replace
from typing import Any, Final, TypeVar

from resilience import errors
from resilience.baml.collector import (
    Usage,
    callers_collectors,
    clients_of,
    content_of,
    error_of_answer,
    evidence_of_attempt,
    keys_of,
    last_client_of,
    last_error_of,
    non_empty_text,
    read_collector,
    usage_of,
    without_keys,
)
from resilience.baml.rust_runtime import baml_runtime
from resilience.failure import (
    ErrorCategory,
    Failure,
    classify,
    classify_evidence,
    safe_class_name,
    sent_text,
)
from resilience.privacy import Content
from resilience.redaction import SentText

_log = logging.getLogger("resilience")
_reported: Final[set[str]] = set()
"""Clients that have been reported as unbuildable in this process."""

_ABORTED: Final = Failure(
    category=ErrorCategory.CANCELLED,
    recoverable=False,
    counts_against_client=False,
    message="aborted by the caller",
)

T = TypeVar("T")
AsyncFunction = Callable[..., Coroutine[Any, Any, T]]
"""An async function that makes one attempt: a generated client's, or any that a caller hands in."""
Learn = Callable[[frozenset[str]], None]
"""Receives the names of the clients that a finished attempt asked."""
SingleRegistry = Callable[..., Coroutine[Any, Any, Any]]
"""Called with the client, the arguments of the call and `is_named`; see `SingleAttempts.registry`."""


class Attempt:
    """A BAML function bound to one client: call it once per attempt, one attempt at a time.

    Args:
        function: the function of the generated client.
        client: the client it asks.
        options: the caller's BAML options.
        is_named: whether to name *client* to BAML. False leaves the choice to BAML.
        learn: receives the clients that were asked; None where the client is known.
        single: returns a registry in which the client has no retry_policy, or None; None for clients without one.
    """

    __slots__ = ("_client", "_collector", "_function", "_is_named", "_learn", "_options", "_single", "_usage")

    def __init__(
        self,
        function: AsyncFunction[Any],
        client: str,
        options: Mapping[str, Any],
        *,
        is_named: bool = True,
        learn: Learn | None = None,
        single: SingleRegistry | None = None,
    ) -> None:
        self._function = function
        self._client = client
        self._options = options
        self._is_named = is_named
        self._learn = learn
        self._single = single
        self._collector: Any = None
        self._usage: Usage | None = None

    async def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Ask the client once.

        Args:
            *args: positional arguments of the BAML function.
            **kwargs: keyword arguments of the BAML function.

        Returns:
            What BAML made of the answer.

        Raises:
            AnswerError: BAML returned an answer as good that the provider had cut, withheld or left empty.
            Exception: whatever BAML raises, unchanged.
        """
        # Also kept in a local: a blocking attempt that was left may still run when the next one has set its own collector.
        collector = self._collector = baml_runtime().Collector("resilience")
        self._usage = None
        options = self._call_options()
        # Most calls need no registry: BAML's own choice stands as it is.
        if self._single is not None or self._is_named:
            registry = await self._registry(args, kwargs)
            if registry is not None:
                options["client_registry"] = registry
        try:
            result = await self._function(*args, baml_options=options, **kwargs)
        finally:
            if self._learn is not None and (asked := clients_of(collector)):
                self._learn(asked)
        error = error_of_answer(result, collector)
        if error is not None:
            client = self._client if self._learn is None else last_client_of(collector)
            raise error(client, result)
        return result

    def _call_options(self) -> dict[str, Any]:
        options = self._options
        if not options:
            return {"collector": [self._collector]}
        return {**options, "collector": [self._collector, *callers_collectors(options)]}

    async def _registry(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """Return the registry of an attempt that has one; None if BAML's own choice stands after all."""
        if self._single is not None:
            registry = await self._single(self._client, args, kwargs, is_named=self._is_named)
            if registry is not None:
                return registry
        if not self._is_named:
            return None
        registry = baml_runtime().ClientRegistry()
        registry.set_primary(self._client)
        return registry

    def classify(self, exc: Exception, *, now: float | None = None, arguments: object = ()) -> Failure:
        """Classify what the last attempt raised, with the evidence in its Collector.

        Args:
            exc: what it raised.
            now: the time in epoch seconds, for waits that are stated as a date.
            arguments: the arguments of the call. What the failure repeats of them, or of the request, is removed.
        """
        aborted = getattr(self._options.get("abort_controller"), "aborted", False)
        if aborted and not isinstance(exc, errors.AnswerError):
            # An aborted request may surface as any exception; none of them is the client's failure.
            return replace(_ABORTED, exception_type=safe_class_name(exc))
        cut_off = last_error_of(self._collector) if isinstance(exc, errors.AttemptTimeoutError) else None
        evidence = evidence_of_attempt(exc, cut_off or read_collector(self._collector), self._sent(arguments))
        if cut_off is None:
            return classify(exc, evidence=evidence, now=now)
        # An inner layer (a retry_policy, the AWS SDK) had an answer and was cut off while it asked again. A 401 stays a
        # 401, although our limit ended the attempt.
        failure = classify_evidence(replace(evidence, exception=None), now)
        return replace(
            failure, message=f"{exc}; before: {failure.message}", exception_type=type(exc).__name__
        )

    def _sent(self, arguments: object) -> SentText:
        return sent_text(lambda: content_of(self._collector).request, arguments)

    def could_not_be_built(self, exc: Exception) -> bool:
        """Return whether BAML could not make a request for this client: an unset variable, an unknown provider option.

        That is a fault of the client's configuration, so another client may answer. A wrong argument is a fault of the call
        and does not count: BAML raises a class of its own for it.

        Args:
            exc: what the last attempt raised.
        """
        reading = read_collector(self._collector)
        return type(exc).__name__ == "BamlError" and reading.began and not reading.asked

    def usage(self) -> Usage:
        """Return what the last attempt used."""
        if self._usage is None:
            self._usage = usage_of(self._collector)
        return self._usage

    def content(self, exc: Exception | None = None) -> Content:
        """Return the prompt and the answer of the last attempt, without keys but otherwise raw.

        Args:
            exc: what the attempt raised; None if it succeeded. BAML's exceptions carry the prompt and the raw output.
        """
        seen, keys = content_of(self._collector), keys_of(self.usage().request)
        prompt = non_empty_text(getattr(exc, "prompt", None))
        output = non_empty_text(getattr(exc, "raw_output", None)) or seen.output
        return Content(
            request=without_keys(seen.request, keys=keys),
            prompt=without_keys(prompt, keys=keys),
            output=without_keys(output, keys=keys),
        )


class SyncAttempt(Attempt):
    """A blocking BAML function bound to one client, with the rules of `Attempt`.

    Runs on a thread that its caller can leave. The caller then calls `abort`, which closes the connection: without it the
    request would go on for up to 300 s, BAML's own limit.
    """

    __slots__ = ("_controller",)

    def __init__(
        self, function: Callable[..., Any], client: str, options: Mapping[str, Any], **more: Any
    ) -> None:
        super().__init__(as_coroutine(function), client, options, **more)
        self._controller: Any = None

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Ask the client once, on the calling thread.

        Args:
            *args: positional arguments of the BAML function.
            **kwargs: keyword arguments of the BAML function.

        Raises:
            AnswerError: as `Attempt`.
            Exception: whatever BAML raises, unchanged.
        """
        return self.begin()(*args, **kwargs)

    def begin(self) -> Callable[..., Any]:
        """Return the function that makes the next attempt. From now on `abort` ends it, even before a thread has called it.

        Raises:
            ForkedRuntimeError: as `baml_runtime`.
        """
        # One controller per attempt: a controller that is shared by several calls aborts only one of them.
        self._controller = baml_runtime().AbortController()
        return functools.partial(self._run, self._controller)

    def _run(self, controller: Any, /, *args: Any, **kwargs: Any) -> Any:
        if controller.aborted:
            # The thread was late and its caller has left. The next attempt may have begun, whose collector must stay.
            msg = f"the attempt on {self._client} was left before it began"
            raise RuntimeError(msg)
        return _finish(super().__call__(*args, **kwargs))

    def _call_options(self) -> dict[str, Any]:
        return {**super()._call_options(), "abort_controller": self._controller}

    def abort(self) -> None:
        """End the attempt that began last. Does nothing after it has ended."""
        controller = self._controller
        if controller is not None:
            controller.abort()

    @property
    def has_callers_controller(self) -> bool:
        """Whether the caller gave an abort controller of its own."""
        return self._options.get("abort_controller") is not None

    def follow_callers_controller(self) -> None:
        """End the request if the caller's own controller was aborted."""
        if getattr(self._options.get("abort_controller"), "aborted", False):
            self.abort()


def as_coroutine(function: Callable[..., Any]) -> AsyncFunction[Any]:
    """Return a coroutine function that calls a blocking one and never suspends."""

    @functools.wraps(function)
    async def coroutine(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    return coroutine


def _finish(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Run a coroutine that never suspends, without an event loop."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        return stop.value
    coroutine.close()
    msg = "a blocking BAML function suspended"
    raise RuntimeError(msg)


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


def options_of(baml: object) -> dict[str, Any]:
    """Return the options that a generated client carries from `with_options`; empty if there are none.

    Options of a call replace these instead of adding to them, so `protect` merges both. BAML offers no public access: they
    are read from a private attribute, and lost if a version of BAML renames it.
    """
    client_options = getattr(baml, f"_{type(baml).__name__}__options", None)
    options = getattr(client_options, "_DoNotUseDirectlyCallManager__baml_options", None)
    return dict(options) if isinstance(options, Mapping) else {}
