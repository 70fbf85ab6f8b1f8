"""`BAMLErrorHandler`: retries, circuit breakers and fallbacks for calls, and this process's recent errors."""

from __future__ import annotations

import os
import random
import weakref
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, Never, Self, TypeVar

from resilience import isolation, runtime
from resilience.baml import AsyncFunction
from resilience.breaker import BreakerPolicy, CircuitView, Operation
from resilience.clock import Clock, SystemClock
from resilience.config import settings as _settings
from resilience.config.hints import reject_unknown, require_types
from resilience.config.settings import Settings
from resilience.driver_imports import import_drivers
from resilience.errors import ConfigurationError
from resilience.execution.async_driver import call_async
from resilience.execution.async_probes import Probes
from resilience.execution.context import CallServices, Policies
from resilience.execution.planned_call import PlannedCall
from resilience.failure import ErrorCategory, OwnRule, OwnRules
from resilience.fallback import FallbackPolicy
from resilience.function_policies import FunctionPolicies, resolve_policies
from resilience.handler_arguments import exception_classes, warn_about_classify, warn_about_fingerprint
from resilience.history import (
    DeferredRecord,
    ErrorRecord,
    FallbackRecord,
    Fingerprints,
    OwnFingerprint,
    Recent,
    Sink,
)
from resilience.logs import LogPolicy
from resilience.records.records import Record
from resilience.retry import RetryPolicy
from resilience.sync_handler import SyncHandler, require_async

if TYPE_CHECKING:
    from resilience.history import History

_T = TypeVar("_T")
Since = datetime | timedelta | float | None

_CLOCK: Final = SystemClock()
_NO_FALLBACK: Final = FallbackPolicy()


class BAMLErrorHandler:
    """Retries, shared circuit breakers and fallbacks for calls, and a history of what failed.

    A handler opens its connections at the first call and closes them with `aclose()` or at the end of `async with`. Without
    either, queued records are still written at a clean exit. Handlers with equal settings share connections and threads.

    Args:
        retry: how a client is asked again; from `RESILIENCE_RETRY__*` when not given.
        breaker: when a client's circuit opens and closes; from `RESILIENCE_BREAKER__*` when not given.
        fallback: which clients are asked when one fails; from `RESILIENCE_FALLBACK` when not given.
        per_function: by function name, a `FunctionPolicies` or a mapping with the keys `retry`, `fallback`, `breaker`.
        settings: where circuits and history are stored; from the environment when not given.
        logs: how the log streams rotate; from `RESILIENCE_LOG__*` when not given.
        sinks: further receivers of events: `write(lines)` is called on the writer thread with `(stream, line)` pairs.
        fingerprint: how the history groups errors. Either parts such as `["{{ default }}", "{{ client }}"]`, or a function of
            the failure, the function name and the client name that returns such parts; see `resilience.history.Fingerprints`.
        pass_through: exception classes of yours that steer a program and are no failures: they reach the caller at once, and
            no circuit counts them. Those of LangGraph, Celery, Prefect, Dagster, Temporal and others are known.
        classify: a function of an exception and its `Failure` that returns its `ErrorCategory`, or None; it outranks ours.
        clock: the time, for tests; see `resilience.testing.ManualClock`.
        random: returns a number from 0 to 1 for the jitter, for tests.
        **unknown: none; other arguments are refused.

    Raises:
        ConfigurationError: a policy from the environment, or a key of *per_function*, is invalid.
        TypeError: an unknown argument, or a value of another type; the text says what to write instead, where that is known.
    """

    def __init__(
        self,
        *,
        retry: RetryPolicy | None = None,
        breaker: BreakerPolicy | None = None,
        fallback: FallbackPolicy | None = None,
        per_function: Mapping[str, FunctionPolicies | Mapping[str, Any]] | None = None,
        settings: Settings | None = None,
        logs: LogPolicy | None = None,
        sinks: Sequence[Sink] = (),
        fingerprint: OwnFingerprint | None = None,
        pass_through: tuple[type[BaseException], ...] = (),
        classify: OwnRule | None = None,
        clock: Clock = _CLOCK,
        random: Callable[[], float] = random.random,
        **unknown: Never,
    ) -> None:
        reject_unknown("BAMLErrorHandler", unknown, BAMLErrorHandler.__init__.__kwdefaults__ or ())
        require_types(
            "BAMLErrorHandler", retry=retry, breaker=breaker, fallback=fallback, settings=settings, logs=logs
        )
        self._policies = Policies(
            retry=retry if retry is not None else _settings.retry_policy(),
            fallback=fallback if fallback is not None else _settings.fallback_policy(),
            breaker=breaker if breaker is not None else _settings.breaker_policy(),
        )
        self._per_function = {
            name: resolve_policies(name, given, self._policies)
            for name, given in (per_function or {}).items()
        }
        self._settings = (given := settings or Settings()).complete()
        self._reload_settings = given.complete
        import_drivers(self._settings)
        self._outputs = runtime.Outputs(
            logs=logs if logs is not None else _settings.log_policy(), sinks=tuple(sinks)
        )
        self._fingerprints = Fingerprints(fingerprint, on_error=warn_about_fingerprint)
        self._pass_through = exception_classes(pass_through)
        self._own_rules = OwnRules(classify or self._settings.classify, warn_about_classify)
        self._clock, self._random = clock, random
        # In memory, so that `get_error_history` answers without I/O, also where the history cannot be written.
        self._recent = Recent()
        self._runtime: runtime.Runtime | None = None
        self._finalizer: weakref.finalize[..., Any] | None = None
        self._services: CallServices | None = None
        self._probes = Probes()

    # --- calls --------------------------------------------------------------------------------------------------

    async def call_with_retry(
        self, func: AsyncFunction[_T], client_name: str, function_name: str, *args: Any, **kwargs: Any
    ) -> _T:
        """Call *func* on one client, guarded by its circuit, retried by the policy and recorded.

        Args:
            func: any coroutine function, BAML or not.
            client_name: the client that *func* asks; it names the circuit.
            function_name: the name of the function, for policies and records.
            *args: positional arguments of *func*.
            **kwargs: keyword arguments of *func*.

        Raises:
            TypeError: *func* is a blocking function; it was not called.
            Exception: the exception object that *func* raised last.
            CircuitOpenError: the circuit refused the first attempt.
            DeadlineExceededError: `RetryPolicy.deadline` passed.
        """
        result: _T
        require_async(func, "call_with_retry")
        call = self.prepare_call(lambda _: func, function_name, client_name, allow_fallback=False)
        result, _ = await call_async(call, args, kwargs)
        return result

    async def call_with_fallback(
        self,
        func_factory: Callable[[str], AsyncFunction[_T]],
        function_name: str,
        preferred_client: str,
        *args: Any,
        **kwargs: Any,
    ) -> tuple[_T, str]:
        """Call a function on *preferred_client*, then on the clients of the fallback policy until one answers.

        Args:
            func_factory: returns the coroutine function that asks the named client.
            function_name: the name of the function, for policies and records.
            preferred_client: the client that is asked first.
            *args: positional arguments of the coroutine function.
            **kwargs: keyword arguments of the coroutine function.

        Returns:
            The result and the name of the client that gave it.

        Raises:
            Exception: the client's own exception object, when only one client was asked.
            AllClientsFailedError: several clients were asked, and none answered.
            DeadlineExceededError: `RetryPolicy.deadline` passed.
        """

        def bind(client: str) -> AsyncFunction[_T]:
            return require_async(func_factory(client), "call_with_fallback")

        return await call_async(self.prepare_call(bind, function_name, preferred_client), args, kwargs)

    def prepare_call(
        self,
        bind: Callable[[str], Callable[..., Any]],
        function_name: str,
        client_name: str,
        *,
        members: Sequence[str] = (),
        allow_fallback: bool = True,
        unguarded: str | None = None,
    ) -> PlannedCall:
        """Return a call that has not started; start it with `call_async` or `call_sync`.

        For callers that pass on arguments of any name, which could collide with the parameters of `call_with_fallback`.

        Args:
            bind: returns the function that asks the named client: a coroutine function for `call_async`, a blocking one for
                `call_sync`.
            function_name: the name of the function, for policies and records.
            client_name: the client that is asked first.
            members: clients that a `fallback` strategy of BAML asks next, before those of the fallback policy.
            allow_fallback: whether clients of the fallback policy may be asked.
            unguarded: a client whose circuit takes no part, because its name means nothing to the fleet: a client of the
                caller's own (an outage of one tenant must not refuse another tenant's calls), or one not known yet.

        Raises:
            ConfigurationError: *client_name* is empty or not a string.
        """
        name: object = client_name
        if not isinstance(name, str) or not name:
            msg = f"the call of {function_name} names the client {client_name!r}: give its name as text"
            raise ConfigurationError(msg)
        policies = self.policies_of(function_name)
        if not allow_fallback:
            policies = Policies(retry=policies.retry, fallback=_NO_FALLBACK, breaker=policies.breaker)
        services = self._services or self._open_services()
        return PlannedCall(services, policies, function_name, client_name, bind, tuple(members), unguarded)

    def is_free(self, client: str) -> bool:
        """Return whether the circuit of *client* would admit an attempt now. No I/O."""
        return self._open().breaker.is_call_permitted(client)

    def policies_of(self, function_name: str) -> Policies:
        """Return the policies that apply to calls of *function_name*."""
        return self._per_function.get(function_name, self._policies)

    def named_clients(self) -> dict[str, tuple[str, ...]]:
        """Return the clients named by each fallback policy, by the policy's place, to check them against a generated client."""
        named = {"fallback": self._policies.fallback.named()}
        for function, policies in self._per_function.items():
            named[f"per_function[{function!r}].fallback"] = policies.fallback.named()
        return named

    def named_functions(self) -> tuple[str, ...]:
        """Return the names of the functions in *per_function*."""
        return tuple(self._per_function)

    @property
    def sync(self) -> SyncHandler:
        """The same handler for programs without an event loop: blocking calls, `with`, and `close`."""
        return SyncHandler(self)

    # --- what happened ------------------------------------------------------------------------------------------

    def get_error_history(
        self,
        *,
        since: Since = None,
        client: str | None = None,
        function: str | None = None,
        category: ErrorCategory | str | None = None,
        limit: int = 100,
    ) -> list[ErrorRecord]:
        """Return the latest errors of this handler in this process, newest first. No I/O.

        Args:
            since: an aware datetime, or how long ago as a timedelta or in seconds.
            client: only errors of this client.
            function: only errors of this function.
            category: only errors of this category.
            limit: maximum number of errors.
        """
        wanted = None if category is None else ErrorCategory(category)
        return self._recent.errors(
            since=since, client=client, function=function, category=wanted, limit=limit
        )

    def get_error_summary(self, since: Since = None) -> dict[str, Any]:
        """Return counts of this handler's errors: `total_errors, by_category, by_client, by_function, recent_errors`."""
        return self._recent.error_summary(since)

    def get_fallback_summary(self, since: Since = None) -> dict[str, Any]:
        """Return counts of fallbacks: `total_fallbacks, successful_fallbacks, success_rate, by_client, recent_fallbacks`."""
        return self._recent.fallback_summary(since)

    def clear_history(self, older_than: Since = None) -> None:
        """Clear this handler's records in memory, or those before *older_than*; SQL keeps its rows."""
        self._recent.clear(older_than)

    @property
    def history(self) -> History:
        """The history of the whole fleet, read from SQL."""
        return self._open().history

    @property
    def settings(self) -> Settings:
        """The settings of this handler, with every default filled in."""
        return self._settings

    @property
    def circuits(self) -> Mapping[str, CircuitView]:
        """The latest view of every circuit that this process has used, by client."""
        return self._open().breaker.views()

    @property
    def degraded(self) -> bool:
        """Whether the shared store is away, so that this process decides by local circuits."""
        return self._runtime is not None and self._runtime.breaker.degraded

    async def reset_circuits(self, *clients: str, reason: str = "") -> tuple[str, ...]:
        """Close circuits for the whole fleet and clear how often they opened, as `resilience circuit reset` does.

        Args:
            *clients: the clients whose circuits are reset; all that the store knows if none is named.
            reason: why, for the history.

        Returns:
            The clients whose circuits were reset.

        Raises:
            StoreError: the store cannot be used.
        """
        breaker = self._open().breaker
        names = clients or tuple(await breaker.peek())
        for client in names:
            await breaker.operate(client, Operation.RESET, actor=f"pid {os.getpid()}", reason=reason)
        return names

    # --- open and close -----------------------------------------------------------------------------------------

    def open(self) -> None:
        """Open the connections now instead of at the first call, and read every circuit in the background."""
        self._open().breaker.start()

    async def aclose(self) -> None:
        """Write all queued records and close; a later call opens again."""
        await self._probes.aclose()  # first: the circuits take the leases back
        if (opened := self._detach()) is not None:
            await runtime.release(opened)

    def close(self) -> None:
        """Close as `aclose` does, blocking the calling thread."""
        self._probes.close()
        if (opened := self._detach()) is not None:
            runtime.release_blocking(opened)

    def _detach(self) -> runtime.Runtime | None:
        with runtime.open_lock():  # closed later: calls that come meanwhile open a runtime of their own
            opened, self._runtime, self._services = self._runtime, None, None
            if opened is not None and self._finalizer is not None:
                self._finalizer.detach()
        return opened

    async def __aenter__(self) -> Self:
        self.open()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.aclose()

    def _open(self) -> runtime.Runtime:
        return self._runtime or self._acquire_runtime()

    def _acquire_runtime(self) -> runtime.Runtime:
        with runtime.open_lock():  # one thread at a time: each acquire needs exactly one release
            if self._runtime is None:
                if isolation.opened(self):
                    self._settings = self._reload_settings()
                policy = self._policies.breaker
                self._runtime = runtime.acquire(self._settings, policy, self._clock, self._outputs)
                # A handler that is forgotten without a close leaves no thread and no connection behind.
                self._finalizer = weakref.finalize(self, runtime.forget, self._runtime)
                self._finalizer.atexit = False
            return self._runtime

    def _open_services(self) -> CallServices:
        services = self._services  # made once per opening: a call then costs one attribute look-up
        if services is None:
            opened = self._open()
            write, log = opened.recorder.record, opened.recorder.log if opened.recorder.logs else None

            def record(record: Record | DeferredRecord) -> None:
                if isinstance(record, ErrorRecord | FallbackRecord):
                    self._recent.add(record)
                write(record)

            services = self._services = CallServices(
                breaker=opened.breaker,
                clock=self._clock,
                random=self._random,
                record=record,
                privacy=opened.privacy,
                log=log,
                record_clean=write,
                log_start=log if self._outputs.logs.call_start else None,
                fingerprints=self._fingerprints,
                pass_through=self._pass_through,
                own_rules=self._own_rules,
                probes=self._probes,
                namespace=opened.recorder.namespace,
            )
        return services


def connect(settings: Settings | None = None, **policies: Any) -> BAMLErrorHandler:
    """Return a handler to use in `async with`; *policies* are the keyword arguments of `BAMLErrorHandler`."""
    return BAMLErrorHandler(settings=settings, **policies)
