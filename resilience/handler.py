"""BAMLErrorHandler: the public face of the corridor, with this process's memory of what went wrong."""

from __future__ import annotations

import random
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from types import TracebackType
from typing import Any, Final, Self, TypeVar

from resilience import assembly
from resilience import settings as _settings
from resilience.breaker import BreakerPolicy, View
from resilience.clock import Clock, SystemClock
from resilience.corridor import Call, House, Policies
from resilience.errors import ConfigurationError
from resilience.failure import ErrorCategory
from resilience.fallback import FallbackPolicy
from resilience.history import (
    CallRecord,
    ErrorRecord,
    FallbackRecord,
    Fingerprints,
    History,
    OwnFingerprint,
    PayloadRecord,
    Recent,
    Sink,
    Unmade,
)
from resilience.logs import LogPolicy
from resilience.retry import RetryPolicy
from resilience.settings import Settings

_T = TypeVar("_T")
AsyncFunction = Callable[..., Coroutine[Any, Any, _T]]
Since = datetime | timedelta | float | None

_CLOCK: Final = SystemClock()
_NO_FALLBACK: Final = FallbackPolicy()


@dataclass(frozen=True, slots=True, kw_only=True)
class FunctionPolicies:
    """What one function does differently; None keeps the handler's own policy.

    Attributes:
        retry: replaces the handler's RetryPolicy for this function.
        fallback: replaces the handler's FallbackPolicy for this function.
        breaker: decides which of this function's failures count against a circuit; the circuits themselves, their
            thresholds and times, are shared by all functions and follow the handler's policy.
    """

    retry: RetryPolicy | None = None
    fallback: FallbackPolicy | None = None
    breaker: BreakerPolicy | None = None


class BAMLErrorHandler:
    """Keeps calls alive: retries, shared circuits, fallbacks, and a history of what failed.

    Opens its rooms at the first call and closes them with `aclose()` or at the end of `async with`; without
    either, what is queued is still written at a clean exit. Handlers of one process with equal settings share
    their connections and threads.

    Args:
        retry: how a client is asked again; from `RESILIENCE_RETRY__*` when not given.
        breaker: when a client's circuit opens and closes; from `RESILIENCE_BREAKER__*` when not given.
        fallback: which clients answer when one cannot; from `RESILIENCE_FALLBACK` when not given.
        per_function: by function name, a `FunctionPolicies` or a mapping with the keys `retry`, `fallback`, `breaker`.
        settings: where state and history live; from the environment when not given.
        logs: how the log streams rotate; from `RESILIENCE_LOG__*` when not given.
        sinks: whatever else is to get each event: `write(lines)` is called on the writer thread with `(stream, line)` pairs.
        fingerprint: how kinds of errors are told apart in the history, where the built-in rules are not enough: parts such as
            `["{{ default }}", "{{ client }}"]`, or a function of the failure, the function's and the client's name that gives
            them; see `resilience.history.Fingerprints`.
        clock: time, for tests; see `resilience.testing.ManualClock`.
        random: numbers from 0 to 1 for the jitter, for tests.

    Raises:
        ConfigurationError: a policy from the environment, or a key of *per_function*, that cannot work.
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
        clock: Clock = _CLOCK,
        random: Callable[[], float] = random.random,
    ) -> None:
        self._policies = Policies(
            retry=retry if retry is not None else _settings.retry_policy(),
            fallback=fallback if fallback is not None else _settings.fallback_policy(),
            breaker=breaker if breaker is not None else _settings.breaker_policy(),
        )
        self._per_function = {
            name: _function_policies(name, given, self._policies)
            for name, given in (per_function or {}).items()
        }
        self._settings = (settings or Settings()).complete()
        self._outlets = assembly.Outlets(
            logs=logs if logs is not None else _settings.log_policy(), sinks=tuple(sinks)
        )
        self._fingerprints = Fingerprints(fingerprint)
        self._clock = clock
        self._random = random
        self._recent = Recent()
        self._rooms: assembly.Rooms | None = None
        self._house: House | None = None

    # --- calls --------------------------------------------------------------------------------------------------

    async def call_with_retry(
        self, func: AsyncFunction[_T], client_name: str, function_name: str, *args: Any, **kwargs: Any
    ) -> _T:
        """Call *func* on one client: admitted by its circuit, retried by the policy, recorded.

        Args:
            func: any coroutine function, BAML or not.
            client_name: the client it asks; names the circuit.
            function_name: the function, for policies and records.
            *args: for *func*.
            **kwargs: for *func*.

        Raises:
            Exception: what *func* raised last, the object itself.
            CircuitOpenError: the client was not asked.
            DeadlineExceededError: `RetryPolicy.deadline` came first.
        """
        result: _T
        result, _ = await self.way(lambda _: func, function_name, client_name, alone=True).run(args, kwargs)
        return result

    async def call_with_fallback(
        self,
        func_factory: Callable[[str], AsyncFunction[_T]],
        function_name: str,
        preferred_client: str,
        *args: Any,
        **kwargs: Any,
    ) -> tuple[_T, str]:
        """Call a function on *preferred_client*, and on the fallback policy's clients while that cannot answer.

        Args:
            func_factory: gives the coroutine function that asks the client of a name.
            function_name: the function, for policies and records.
            preferred_client: the client that is asked first.
            *args: for the coroutine function.
            **kwargs: for the coroutine function.

        Returns:
            The answer and the name of the client that gave it.

        Raises:
            Exception: what the client raised, the object itself, when only one client had its turn.
            AllClientsFailedError: several had, and none answered.
            DeadlineExceededError: `RetryPolicy.deadline` came first.
        """
        return await self.way(func_factory, function_name, preferred_client).run(args, kwargs)

    def way(
        self,
        bind: Callable[[str], AsyncFunction[Any]],
        function_name: str,
        client_name: str,
        *,
        alone: bool = False,
        shared: bool = True,
    ) -> Call:
        """A call before its first step, for those who hand on arguments that may have any name: `await way.run(args, kwargs)`.

        Args:
            bind: gives the coroutine function that asks the client of a name.
            function_name: the function, for policies and records.
            client_name: the client that is asked first.
            alone: no other client is asked.
            shared: the clients' circuits take part; not where the clients are the caller's own, whose names mean nothing to us:
                one tenant's outage must not close the way for another's.

        Raises:
            ConfigurationError: *client_name* is no name.
        """
        name: object = client_name
        if not isinstance(name, str) or not name:
            msg = f"the call of {function_name} names the client {client_name!r}: give its name as text"
            raise ConfigurationError(msg)
        policies = self.policies_of(function_name)
        if alone:
            policies = Policies(retry=policies.retry, fallback=_NO_FALLBACK, breaker=policies.breaker)
        return Call(self._enter(), policies, function_name, client_name, bind, shared=shared)

    def policies_of(self, function_name: str) -> Policies:
        """The policies calls of *function_name* go by."""
        return self._per_function.get(function_name, self._policies)

    def named_clients(self) -> dict[str, tuple[str, ...]]:
        """The clients every fallback policy names, by where it stands; for checks against a generated client."""
        named = {"fallback": self._policies.fallback.named()}
        for function, policies in self._per_function.items():
            named[f"per_function[{function!r}].fallback"] = policies.fallback.named()
        return named

    def named_functions(self) -> tuple[str, ...]:
        """The functions *per_function* names."""
        return tuple(self._per_function)

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
        """The latest errors of this handler in this process, newest first; no I/O.

        Args:
            since: an aware datetime, or how long ago as a timedelta or in seconds.
            client: only this client's.
            function: only this function's.
            category: only this kind.
            limit: at most so many.
        """
        kind = None if category is None else ErrorCategory(category)
        return self._recent.errors(since=since, client=client, function=function, category=kind, limit=limit)

    def get_error_summary(self, since: Since = None) -> dict[str, Any]:
        """Counts of this handler's errors: `total_errors, by_category, by_client, by_function, recent_errors`."""
        return self._recent.error_summary(since)

    def get_fallback_summary(self, since: Since = None) -> dict[str, Any]:
        """Counts of fallbacks: `total_fallbacks, successful_fallbacks, success_rate, by_client, recent_fallbacks`."""
        return self._recent.fallback_summary(since)

    def clear_history(self, older_than: Since = None) -> None:
        """Forget this handler's records, or those before *older_than*; SQL keeps its rows."""
        self._recent.clear(older_than)

    @property
    def history(self) -> History:
        """The whole fleet's history, awaited from SQL."""
        return self._open().history

    @property
    def settings(self) -> Settings:
        """Where this handler's state and history live, complete."""
        return self._settings

    @property
    def circuits(self) -> Mapping[str, View]:
        """This process's last view of every circuit it has used."""
        return self._open().breaker.views()

    @property
    def degraded(self) -> bool:
        """Is the shared store away, so that this process decides by its own circuits?"""
        return self._rooms is not None and self._rooms.breaker.degraded

    # --- life ---------------------------------------------------------------------------------------------------

    async def aclose(self) -> None:
        """Write what is queued and close; a later call opens again."""
        with assembly.opening():
            rooms, self._rooms, self._house = self._rooms, None, None
        if rooms is not None:
            await assembly.leave(rooms)

    async def __aenter__(self) -> Self:
        self._open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    def _open(self) -> assembly.Rooms:
        rooms = self._rooms
        return self._enter_rooms() if rooms is None else rooms

    def _enter_rooms(self) -> assembly.Rooms:
        with assembly.opening():  # by one thread alone: each entrance needs its leaving
            if self._rooms is None:
                self._rooms = assembly.enter(
                    self._settings, self._policies.breaker, self._clock, self._outlets
                )
            return self._rooms

    def _enter(self) -> House:
        house = self._house
        if house is None:
            rooms = self._open()

            def keep(record: ErrorRecord | FallbackRecord | CallRecord | PayloadRecord | Unmade) -> None:
                if isinstance(record, ErrorRecord | FallbackRecord):
                    self._recent.add(record)
                rooms.recorder.record(record)

            tell = rooms.recorder.tell if rooms.recorder.logs else None
            house = self._house = House(
                rooms.breaker, self._clock, self._random, keep, rooms.privacy, tell, self._fingerprints
            )
        return house


def connect(settings: Settings | None = None, **policies: Any) -> BAMLErrorHandler:
    """Open a handler for `async with`; *policies* are the keyword arguments of `BAMLErrorHandler`.

    Example:
        async with connect(Settings(log_dir="logs")) as handler:
            client = protect(b, handler)
    """
    return BAMLErrorHandler(settings=settings, **policies)


def _function_policies(name: str, given: FunctionPolicies | Mapping[str, Any], own: Policies) -> Policies:
    if not isinstance(given, FunctionPolicies):
        try:
            given = FunctionPolicies(**given)
        except TypeError:
            msg = f"per_function[{name!r}]={given!r}: give a mapping with some of 'retry', 'fallback', 'breaker'"
            raise ConfigurationError(msg) from None
    for field, kind in (("retry", RetryPolicy), ("fallback", FallbackPolicy), ("breaker", BreakerPolicy)):
        value = getattr(given, field, None)
        if value is not None and not isinstance(value, kind):
            msg = f"per_function[{name!r}].{field}={value!r}: give a {kind.__name__}"
            raise ConfigurationError(msg)
    return Policies(
        retry=given.retry or own.retry,
        fallback=given.fallback or own.fallback,
        breaker=given.breaker or own.breaker,
    )
