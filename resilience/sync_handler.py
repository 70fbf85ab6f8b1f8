"""The blocking face of `BAMLErrorHandler`, for programs without an event loop."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from types import TracebackType
from typing import Any, Protocol, Self, TypeVar

from resilience.execution.planned_call import PlannedCall
from resilience.execution.sync_driver import call_sync

_T = TypeVar("_T")


class Handler(Protocol):
    """What the blocking face needs of a `BAMLErrorHandler`."""

    def prepare_call(
        self,
        bind: Callable[[str], Callable[..., Any]],
        function_name: str,
        client_name: str,
        *,
        allow_fallback: bool = True,
    ) -> PlannedCall:
        """Return a call that has not started."""

    def open(self) -> None:
        """Open the connections now."""

    def close(self) -> None:
        """Write all queued records and close."""


class SyncHandler:
    """Calls with the policies, circuits and records of a handler, on the caller's thread.

    Every wait can be interrupted: Ctrl-C and handlers of signals that raise, such as Celery's soft time limit, end a call at
    once. Usable from any thread, also beside a running event loop. Use it as `with handler.sync:`, or close it with
    `handler.sync.close()`; both close the handler.

    Args:
        handler: the handler whose blocking face this is.
    """

    def __init__(self, handler: Handler) -> None:
        self._handler = handler

    def call_with_retry(
        self, func: Callable[..., _T], client_name: str, function_name: str, *args: Any, **kwargs: Any
    ) -> _T:
        """Call the blocking function *func* on one client, as `BAMLErrorHandler.call_with_retry` does.

        With `attempt_timeout` or `deadline` a function that does not return in time is left behind on its thread, since no
        thread can be stopped. BAML functions of a protected sync client are aborted instead.

        Args:
            func: a blocking function, BAML or not.
            client_name: the client that *func* asks; it names the circuit.
            function_name: the name of the function, for policies and records.
            *args: positional arguments of *func*.
            **kwargs: keyword arguments of *func*.

        Raises:
            TypeError: *func* is a coroutine function, which was not called, or it returned a coroutine, which was closed.
            Exception: as `BAMLErrorHandler.call_with_retry`.
        """
        # Checked before anything happens: a coroutine function would return a coroutine that is never awaited.
        require_sync(func, "sync.call_with_retry")
        call = self._handler.prepare_call(lambda _: func, function_name, client_name, allow_fallback=False)
        result: _T
        result, _ = call_sync(call, args, kwargs)
        return result

    def call_with_fallback(
        self,
        func_factory: Callable[[str], Callable[..., _T]],
        function_name: str,
        preferred_client: str,
        *args: Any,
        **kwargs: Any,
    ) -> tuple[_T, str]:
        """Call a blocking function on one client after the other, as `BAMLErrorHandler.call_with_fallback` does.

        Args:
            func_factory: returns the blocking function that asks the named client.
            function_name: the name of the function, for policies and records.
            preferred_client: the client that is asked first.
            *args: positional arguments of the function.
            **kwargs: keyword arguments of the function.

        Returns:
            The result and the name of the client that gave it.

        Raises:
            TypeError: the factory returned a coroutine function, which was not called, or a function that returned a
                coroutine, which was closed.
            Exception: as `BAMLErrorHandler.call_with_fallback`.
        """

        def bind(client: str) -> Callable[..., _T]:
            return require_sync(func_factory(client), "sync.call_with_fallback")

        return call_sync(self._handler.prepare_call(bind, function_name, preferred_client), args, kwargs)

    def close(self) -> None:
        """Write all queued records and close the handler; a later call opens it again."""
        self._handler.close()

    def __enter__(self) -> Self:
        self._handler.open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def require_sync(func: Callable[..., _T], verb: str) -> Callable[..., _T]:
    """Return *func* if it can be called by the blocking *verb*.

    Raises:
        TypeError: it is a coroutine function.
    """
    # Not unwrapped: a blocking function may be a wrapper of a coroutine function that it runs itself.
    if _is_coroutine_function(func):
        msg = f"{verb}({_name(func)}): it is a coroutine function; give a blocking one, or await handler.{verb.removeprefix('sync.')}(...)"
        raise TypeError(msg)
    return func


def require_async(func: Callable[..., Any], verb: str) -> Callable[..., Any]:
    """Return *func* if it can be awaited by the async *verb*.

    A lambda is accepted, because it often returns a coroutine.

    Raises:
        TypeError: it is a function that is neither a coroutine function nor a lambda.
    """
    if _is_plain_coroutine_function(func):  # the usual case, decided by one flag: each call passes here
        return func
    called = func
    while isinstance(called, functools.partial):
        called = called.func
    # A wrapped coroutine function keeps its nature in `__wrapped__`; a bound method keeps it in `__func__`.
    plain = inspect.unwrap(called.__func__ if inspect.ismethod(called) else called)
    is_plain = inspect.isbuiltin(plain) or (inspect.isfunction(plain) and plain.__name__ != "<lambda>")
    # Awaitable if the function itself or what it wraps is: a decorator may be blocking or not on either side.
    if is_plain and not (_is_coroutine_function(called) or inspect.iscoroutinefunction(plain)):
        msg = f"{verb}({_name(called)}): it is a blocking function; give a coroutine function, or call handler.sync.{verb}(...)"
        raise TypeError(msg)
    return func


def _is_plain_coroutine_function(func: Callable[..., Any]) -> bool:
    code = getattr(func, "__code__", None)
    return code is not None and bool(code.co_flags & inspect.CO_COROUTINE)


def _is_coroutine_function(func: Callable[..., Any]) -> bool:
    return inspect.iscoroutinefunction(func) or inspect.iscoroutinefunction(
        getattr(type(func), "__call__", None)  # noqa: B004 - an object whose call is a coroutine function
    )


def _name(func: Callable[..., Any]) -> str:
    return getattr(func, "__qualname__", type(func).__name__)
