"""Which client the calls of a function ask first, and which follow.

BAML's own choice stands unless the user or a fallback names another client. A client that is read from the source is used as
the name of a circuit and in records. It is never handed to BAML for the function's own leaf client: if the reading were wrong,
the call would silently ask another model.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import count
from typing import Any, Final

from resilience.baml.declarations import FALLBACK, Client, Declarations
from resilience.baml.inner_retries import SingleAttempts

UNKNOWN_CLIENT: Final = "default"
"""What records call the client of a function whose client is not known yet."""
OWN_REGISTRY: Final = "client_registry"
"""What records call the client of a call whose registry is the caller's own."""

IsFree = Callable[[str], bool]
"""Return whether the circuit of the named client would admit an attempt now."""


@dataclass(frozen=True, slots=True)
class Route:
    """Where one call goes.

    Attributes:
        client: the client that is asked first; names its circuit and its records.
        members: the clients that follow it in a `fallback` strategy, in order.
        is_named: whether BAML is given the name of `client`. False leaves the choice to BAML.
        has_circuit: whether `client` is the name of a circuit. False for a client that is not known, or not the fleet's.
        allows_fallback: whether other clients may be asked. False for a registry of the caller's own.
        learns: whether the name of the client is to be learnt from this call.
    """

    client: str
    members: tuple[str, ...] = ()
    is_named: bool = False
    has_circuit: bool = True
    allows_fallback: bool = True
    learns: bool = False


@dataclass(slots=True)
class Router:
    """Finds the route of each call of one generated client.

    Attributes:
        declarations: what the project's `.baml` files declare.
        learnt: the client of each function that the source does not tell, learnt from finished calls; None for a function
            that has asked several, which only BAML can choose among.
        single: the entries that switch a retry_policy off.
    """

    declarations: Declarations
    learnt: dict[str, str | None] = field(default_factory=dict)
    single: SingleAttempts = field(init=False)
    _rotations: dict[str, Iterator[int]] = field(default_factory=dict, repr=False)
    _fixed: dict[str, Route] = field(default_factory=dict, repr=False)
    _fixed_by: Declarations | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        self.single = SingleAttempts(self.declarations.clients)

    def retries_inside(self, client: str) -> bool:
        """Return whether *client* is declared with a retry_policy."""
        declared = self.declarations.clients.get(client)
        return declared is not None and declared.max_retries > 0

    def route(self, function: str, options: Mapping[str, Any], is_free: IsFree) -> Route:
        """Return where a call of *function* with these BAML *options* goes."""
        client = options.get("client")
        if options.get("client_registry") is not None:
            return Route(client or OWN_REGISTRY, has_circuit=False, allows_fallback=False)
        if client is not None:
            return self._expanded(client, is_free, is_named=True)
        return self._fixed_routes().get(function) or self._by_function(function, is_free)

    def _fixed_routes(self) -> Mapping[str, Route]:
        """Return the routes of functions whose client is a leaf: all their calls without options go the same way."""
        if self._fixed_by is not self.declarations:
            clients, self._fixed_by = self.declarations.clients, self.declarations
            self._fixed = {
                function: Route(client)
                for function, client in self.declarations.functions.items()
                if client not in clients or not clients[client].is_strategy
            }
        return self._fixed

    def _by_function(self, function: str, is_free: IsFree) -> Route:
        """Return where a call goes whose options name no client."""
        declared = self.declarations.functions.get(function)
        if declared is not None:
            return self._expanded(declared, is_free, is_named=False)
        if (
            not self.declarations.functions
        ):  # a double of a client: it asks nothing, and its functions stand for clients
            return Route(function)
        learnt = self.learnt.get(function)
        if learnt is not None:
            return Route(learnt, learns=True)
        return Route(UNKNOWN_CLIENT, has_circuit=False, learns=True)

    def learn(self, function: str, clients: frozenset[str]) -> None:
        """Take in which *clients* a finished attempt of *function* asked, as BAML reported them.

        One attempt that asked several clients, or attempts that differ, show a strategy inside BAML. Its members have no
        circuit, for nothing says which of them the next call will ask.
        """
        known = self.learnt.get(function, next(iter(clients), None))
        self.learnt[function] = known if clients == {known} else None

    def _expanded(self, client: str, is_free: IsFree, *, is_named: bool) -> Route:
        declared = self.declarations.clients.get(client)
        if declared is None or not declared.is_strategy:
            return Route(client, is_named=is_named)
        leaves = tuple(dict.fromkeys(self._leaves(declared, is_free, set())))
        if not leaves:  # a strategy without members; BAML says what is wrong with it
            return Route(client, is_named=is_named)
        return Route(leaves[0], leaves[1:], is_named=True)

    def _leaves(self, strategy: Client, is_free: IsFree, expanded: set[str]) -> Iterator[str]:
        # Each strategy once: its members are in the route already, and a strategy that contains itself has no end.
        expanded.add(strategy.name)
        members = [name for name in strategy.members if name not in expanded]
        for name in members if strategy.provider == FALLBACK else self._turn_of(strategy, members, is_free):
            declared = self.declarations.clients.get(name)
            if declared is None or not declared.is_strategy:
                yield name
            elif name not in expanded:
                yield from self._leaves(declared, is_free, expanded)

    def _turn_of(self, strategy: Client, members: list[str], is_free: IsFree) -> list[str]:
        """Return the member of a round-robin strategy whose turn it is: the next one whose circuit is not open."""
        if not members:
            return []
        start = strategy.start if strategy.start is not None else random.randrange(len(members))  # noqa: S311 - as BAML
        first = next(self._rotations.setdefault(strategy.name, count(start)))
        ordered = [members[(first + step) % len(members)] for step in range(len(members))]
        return [next((name for name in ordered if self._is_free(name, is_free)), ordered[0])]

    def _is_free(self, client: str, is_free: IsFree) -> bool:
        return any(is_free(leaf) for leaf in self.declarations.leaves(client))
