"""BAML functions bound to clients: what is known of a function once, and the attempts of one call of it."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from resilience.baml.attempt import AsyncFunction, Attempt, SyncAttempt, as_coroutine
from resilience.baml.inner_retries import BuildRequest
from resilience.baml.routing import Route, Router
from resilience.baml.source import is_mock

_OF_CALLER: Final = frozenset({"collector", "tags", "on_tick", "abort_controller"})
"""BAML options that a probe beside the call must not get: the caller would see a request that is not its own."""


@dataclass(frozen=True, slots=True)
class BoundFunction:
    """A function of a generated client, and what all of its calls share. To inspect a function costs more than a whole clean call.

    Attributes:
        call: the function itself.
        router: learns the clients that were asked, and knows which have a retry_policy.
        build: the function of `b.request` for the same BAML function; None where there is none.
        takes_options: whether it is one of BAML's, which take `baml_options`.
        make: makes the attempts of a call.
    """

    call: AsyncFunction[Any]
    router: Router
    build: BuildRequest | None
    takes_options: bool
    make: Callable[..., Attempt]


def bound_function(call: AsyncFunction[Any], router: Router, build: BuildRequest | None) -> BoundFunction:
    """Return what all calls of a function share.

    Args:
        call: the function.
        router: finds the clients of its calls.
        build: the function of `b.request` for the same BAML function; None where there is none.
    """
    make = Attempt if inspect.iscoroutinefunction(call) else SyncAttempt
    return BoundFunction(call, router, build, takes_options(call), make)


class ClientBinder:
    """Makes the attempts of one call of one BAML function.

    Args:
        function: the function.
        options: the caller's BAML options, without `client`.
        route: where the call goes.
        make: makes the attempts, where they are of a special kind.
    """

    __slots__ = ("_function", "_make", "_options", "_route")

    def __init__(
        self,
        function: BoundFunction,
        options: Mapping[str, Any],
        route: Route,
        make: Callable[..., Attempt] | None = None,
    ) -> None:
        self._function = function
        self._make = make or function.make
        self._options = options
        self._route = route

    def __call__(self, client: str) -> Callable[..., Any]:
        """Return the function that asks *client*."""
        function, route = self._function, self._route
        if not function.takes_options:
            return function.call
        is_own = client == route.client and not route.is_named
        learns = is_own and route.learns
        retries = function.router.retries_inside(client) and not self._has_registry()
        return self._make(
            function.call,
            client,
            self._options,
            is_named=not is_own,
            learn=functools.partial(function.router.learn, function.call.__name__) if learns else None,
            single=self._single if retries else None,
        )

    def for_probe(self, client: str) -> Callable[..., Any]:
        """Return the function that probes *client* beside a call, without what the caller watches or ends its own call by."""
        kept = {name: value for name, value in self._options.items() if name not in _OF_CALLER}
        return ClientBinder(self._function, kept, self._route)(client)

    def _has_registry(self) -> bool:
        return self._options.get("client_registry") is not None

    async def _single(
        self, client: str, args: tuple[Any, ...], kwargs: Mapping[str, Any], *, is_named: bool
    ) -> Any:
        build, router = self._function.build, self._function.router
        if build is not None and not inspect.iscoroutinefunction(build):
            build = as_coroutine(build)
        return await router.single.registry(client, build, args, kwargs, self._options, is_named=is_named)


def takes_options(function: AsyncFunction[Any]) -> bool:
    """Return whether *function* is one of BAML's, which take `baml_options`.

    Doubles of a client may have functions without it. Mocks take anything, and their tests assert on the arguments.
    """
    if is_mock(function):
        return False
    parameters = inspect.signature(function).parameters.values()
    return any(
        parameter.name == "baml_options" or parameter.kind is parameter.VAR_KEYWORD
        for parameter in parameters
    )
