"""The guarded client that `protect()` returns."""

from __future__ import annotations

import copy
import functools
import inspect
import sys
from collections.abc import Callable, Mapping
from typing import Any, NoReturn, SupportsIndex, cast

from resilience import baml as _baml
from resilience.client_checks import check_names
from resilience.execution.async_driver import call_async
from resilience.execution.planned_call import PlannedCall
from resilience.execution.sync_driver import call_sync
from resilience.guarded_stream import GuardedStream, GuardedStreams, GuardedSyncStream
from resilience.handler import BAMLErrorHandler
from resilience.retry import RetryPolicy

_Preparation = Callable[..., tuple[PlannedCall, tuple[Any, ...]]]
"""Makes a call from the positional arguments and the options of one use of a function."""


class Protected:
    """A generated client whose functions are guarded; everything else is the client's own.

    A guarded function is made at its first use and then kept in the instance, so that further uses find it without
    `__getattr__`. Each call looks whether the client still has the function that the guard was made of: tests replace functions
    of a client, or of its class, and put them back.

    Args:
        plain: the client whose functions are called; options are given to each call, as BAML would merge them.
        configured: the same client with the options of `with_options`, for everything that is not guarded.
        handler: the handler that calls go through.
        router: finds the client of each call; shared by all copies, so that each learns what another has learnt.
        options: the options of `with_options`.
    """

    def __init__(
        self,
        plain: Any,
        configured: Any,
        handler: BAMLErrorHandler,
        router: _baml.Router,
        options: Mapping[str, Any],
    ) -> None:
        self._plain = plain
        self._configured = configured
        self._handler = handler
        self._router = router
        self._options = options

    def __getattr__(self, name: str) -> Any:
        if name in {
            "_plain",
            "_configured",
        }:  # copies and pickles ask before these are set; this would recurse
            raise AttributeError(name)
        value = getattr(self._configured, name)
        if name.startswith("_"):
            return value
        guarded = self._guard(name)
        if guarded is not None:
            value = self.__dict__[name] = guarded
        elif name == "stream" and not _baml.is_mock(self._plain):
            is_guarded = functools.partial(_baml.is_stream_function, self._plain)
            value = self.__dict__[name] = GuardedStreams(self._plain.stream, self._guard_stream, is_guarded)
        return value

    @property  # type: ignore[misc]  # so that isinstance(protect(b), type(b)) holds, as for mocks with a spec
    def __class__(self) -> type:
        return type(self._plain)

    def __dir__(self) -> list[str]:
        return dir(self._plain)

    def __repr__(self) -> str:
        return f"protect({self._plain!r})"

    def __copy__(self) -> Protected:
        return Protected(self._plain, self._configured, self._handler, self._router, self._options)

    def __deepcopy__(self, memo: dict[int, Any]) -> Protected:
        # The handler holds connections and threads, and the router what was learnt: a copy shares both.
        plain = copy.deepcopy(self._plain, memo)
        configured = copy.deepcopy(self._configured, memo)
        return Protected(plain, configured, self._handler, self._router, copy.copy(self._options))

    def __reduce_ex__(self, _protocol: SupportsIndex) -> NoReturn:
        msg = (
            f"{self!r} cannot be pickled: its handler has connections and threads of this process; "
            "call protect(b) in the other process instead"
        )
        raise TypeError(msg)

    @property
    def resilience_handler(self) -> BAMLErrorHandler:
        """The handler that calls go through."""
        return self._handler

    def with_handler(self, handler: BAMLErrorHandler | None) -> Protected:
        """Return the same client with another handler. To guard it twice would multiply attempts."""
        if handler is None or handler is self._handler:
            return self
        check_names(handler, self._router.declarations, _baml.functions_of(self._plain))
        return Protected(self._plain, self._configured, handler, self._router, self._options)

    def with_options(self, *args: Any, **options: Any) -> Protected:
        """Return the same client with call options, still guarded.

        Takes what the client's own `with_options` takes, and `client` also where BAML does not know it yet (before 0.216).

        Raises:
            TypeError: BAML's own, for an unknown option.
        """
        given = dict(options)
        signature = inspect.signature(self._plain.with_options)
        if "client" in options and "client" not in signature.parameters:
            options.update(_baml.registry_for(options.pop("client")))
        # BAML merges the options for everything that is not guarded, and raises its own error for an unknown one.
        configured = self._configured.with_options(*args, **options)
        by_place = dict(zip(signature.parameters, args, strict=False))
        chosen = {name: value for name, value in {**by_place, **given}.items() if value is not None}
        return Protected(self._plain, configured, self._handler, self._router, {**self._options, **chosen})

    def _guard(self, name: str) -> Callable[..., Any] | None:
        """Return the guarded form of the function that the client has now; None if it has no function of that name."""
        if _baml.is_async_function(self._plain, name):
            return self._guard_async(name, getattr(self._plain, name))
        if _baml.is_sync_function(self._plain, name):
            return self._guard_sync(name, getattr(self._plain, name))
        return None

    def _replaced(self, name: str) -> Callable[..., Any]:
        """Return the function that has replaced the one a guard was made of, guarded where it is one of BAML's kind."""
        guarded = self._guard(name)
        return guarded if guarded is not None else cast("Callable[..., Any]", getattr(self._plain, name))

    def _guard_async(self, name: str, function: _baml.AsyncFunction[Any]) -> _baml.AsyncFunction[Any]:
        # A double that counts its calls must not see more of them than its test makes.
        plain = self._plain
        beside = not _baml.is_mock(plain)
        prepare = self._preparation(name, function, probes_beside=beside)

        # The signature of BAML's function stays visible to `help()`, to inspect and to frameworks that read it.
        @functools.wraps(function)
        async def guarded(*args: Any, baml_options: Mapping[str, Any] | None = None, **kwargs: Any) -> Any:
            if getattr(plain, name) != function:
                given = {} if baml_options is None else {"baml_options": baml_options}
                return await self._replaced(name)(*args, **given, **kwargs)
            call, arguments = prepare(args, baml_options)
            result, _ = await call_async(call, arguments, kwargs)
            return result

        return guarded

    def _guard_sync(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        plain, prepare = self._plain, self._preparation(name, function)

        @functools.wraps(function)
        def guarded(*args: Any, baml_options: Mapping[str, Any] | None = None, **kwargs: Any) -> Any:
            # Before BAML is touched: a sync call in such a child would hang here and crash the parent.
            _baml.refuse_forked_client()
            if getattr(plain, name) != function:
                given = {} if baml_options is None else {"baml_options": baml_options}
                return self._replaced(name)(*args, **given, **kwargs)
            call, arguments = prepare(args, baml_options)
            result, _ = call_sync(call, arguments, kwargs)
            return result

        return guarded

    def _guard_stream(
        self, name: str, function: Callable[..., Any]
    ) -> Callable[..., GuardedStream[Any, Any] | GuardedSyncStream[Any, Any]]:
        blocking = _baml.is_sync_function(self._plain, name)
        asked = _baml.async_stream_function(self._plain, name) if blocking else function
        prepare = self._preparation(name, asked)
        limits = _stream_limits(self._handler.policies_of(name).retry)
        parser = getattr(getattr(self._plain, "parse", None), name, None)
        signature = inspect.signature(function)

        def guarded(
            *args: Any, baml_options: Mapping[str, Any] | None = None, **kwargs: Any
        ) -> GuardedStream[Any, Any] | GuardedSyncStream[Any, Any]:
            # A missing argument is a TypeError here, as in BAML, and not when the stream is read.
            signature.bind(
                *args, **({} if baml_options is None else {"baml_options": baml_options}), **kwargs
            )

            async def run(progress: _baml.StreamProgress) -> Any:
                parse = _parse_with(parser, {**self._options, **(baml_options or {})})
                make = functools.partial(_baml.StreamAttempt, progress=progress, limits=limits, parse=parse)
                call, arguments = prepare(args, baml_options, make, progress)
                result, _ = await call_async(call, arguments, kwargs)
                return result

            if not blocking:
                return GuardedStream(run, _baml.baml_runtime().BamlStream)
            _baml.refuse_forked_client()
            return GuardedSyncStream(run, _baml.baml_runtime().BamlSyncStream)

        return guarded

    def _preparation(
        self, name: str, function: Callable[..., Any], *, probes_beside: bool = False
    ) -> _Preparation:
        """Return what makes the call of one use of *function*, from its positional arguments and its options."""
        before_options = _before_options(function)
        build = getattr(getattr(self._plain, "request", None), name, None)
        bound = _baml.bound_function(function, self._router, build)
        probes_beside = probes_beside and bound.takes_options

        def prepare(
            args: tuple[Any, ...],
            baml_options: Mapping[str, Any] | None,
            make: Callable[..., _baml.Attempt] | None = None,
            stream: _baml.StreamProgress | None = None,
        ) -> tuple[PlannedCall, tuple[Any, ...]]:
            if len(args) == before_options + 1:
                *positional, baml_options = args
                args = tuple(positional)
            options = self._options if not baml_options else {**self._options, **baml_options}
            route = self._router.route(name, options, self._handler.is_free)
            # The client of an attempt is named by a registry of ours, over which BAML would set the option `client`. With a
            # registry of the caller's own the option stays, and BAML makes it that registry's primary client.
            if (route.has_circuit or route.learns) and "client" in options:
                options = {key: value for key, value in options.items() if key != "client"}
            # Not call_with_fallback: a BAML function may have an argument with the name of one of its parameters.
            binder = _baml.ClientBinder(bound, options, route, make)
            call = self._handler.prepare_call(
                binder,
                name,
                route.client,
                members=route.members,
                allow_fallback=route.allows_fallback,
                unguarded=None if route.has_circuit else route.client,
            )
            call.stream = stream
            if probes_beside:
                call.bind_probe = binder.for_probe
            call.abort_controller = options.get("abort_controller")
            return call, args

        return prepare


def _stream_limits(retry: RetryPolicy) -> _baml.StreamLimits:
    limits = (retry.first_token_timeout, retry.attempt_timeout)
    first_token = min((limit for limit in limits if limit is not None), default=None)
    return _baml.StreamLimits(first_token=first_token, stall=retry.stall_timeout)


def _parse_with(parser: Callable[..., Any] | None, options: Mapping[str, Any]) -> Callable[[str], Any] | None:
    """Return *parser* with those of the *options* that change how a text is parsed; None without a parser."""
    if parser is None:
        return None
    given = {name: options[name] for name in ("tb", "env") if options.get(name) is not None}
    return functools.partial(parser, baml_options=given)


def _before_options(function: Callable[..., Any]) -> int:
    """Return how many arguments may be given by position before `baml_options`, which may be given by position too."""
    parameters = inspect.signature(function).parameters
    given = parameters.get("baml_options")
    if (
        given is None or given.kind is given.KEYWORD_ONLY
    ):  # a double may have it so, behind any number of arguments
        return sys.maxsize
    return list(parameters).index("baml_options")
