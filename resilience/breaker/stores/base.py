"""What a store of circuits must do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from resilience.breaker.messages import StepReply, StepRequest, Transition


class Store(Protocol):
    """Keeps the data of one circuit a client, and a log of their transitions. Used by one thread at a time: the sync thread.

    Any method may raise any exception. To the sync thread each exception means that the store is away.
    """

    @property
    def shared(self) -> bool:
        """Whether other processes can use the same circuits."""

    def step(self, requests: Sequence[StepRequest]) -> Sequence[StepReply | Exception]:
        """Run each request through `circuit.step`, atomically and at the store's own time.

        A request is carried out once or not at all. The caller never repeats one that has results in it.

        Args:
            requests: at most one step a request; several may be of the same client.

        Returns:
            One reply a request, in order; an exception where one circuit failed and the others did not.
        """

    def transitions(self, after: str = "") -> list[Transition]:
        """Return the logged transitions after a cursor, oldest first. The log is capped.

        Args:
            after: `Transition.cursor` of the last one that was read. Empty, or of another store: all that are kept.
        """

    def names(self) -> list[str]:
        """Return the clients whose circuits the store knows, sorted."""

    def forget(self, client: str) -> bool:
        """Delete the circuit of a client. Its logged transitions stay. A process that uses the client makes it again, closed.

        Returns:
            Whether there was one.
        """

    def disconnect(self) -> None:
        """Release what a fork must not copy. The next call of any other method connects again."""

    def close(self) -> None:
        """Release everything. Closing twice is harmless."""


@runtime_checkable
class WatchedStore(Protocol):
    """A store that can tell without reading a circuit whether another process may have changed it."""

    def is_unchanged(self, clients: Sequence[str]) -> bool:
        """Return whether no other process has written since the last step about each of *clients*.

        Only a step of this process may have changed them then, whose reply it has. May raise any exception.
        """


class WholeStore(Store, Protocol):
    """A store that can be seen as several namespaces see it."""

    def namespaces(self) -> list[str]:
        """Return the namespaces that have circuits here, sorted. A large server is searched only in part."""

    def in_namespace(self, namespace: str) -> Store:
        """Return this store as a namespace sees it, on the same connection. Closing either closes both."""
