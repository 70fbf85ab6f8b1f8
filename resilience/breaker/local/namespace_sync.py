"""One namespace of a store as this process uses it: its local circuits, and the requests that keep them in step with the store.

Runs on the sync thread, which may serve several namespaces of one store, one after the other.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, TypeVar

from resilience.breaker.local.pending_request import PendingRequest, complete, complete_waits, store_error
from resilience.breaker.local.registry import LocalCircuits
from resilience.breaker.messages import EpochChange, StepReply, StepRequest, Transition
from resilience.breaker.stores.base import Store, WatchedStore
from resilience.breaker.stores.connection_progress import heard_by
from resilience.clock import Clock

_MAX_LOOKS: Final = 1000
"""Circuits that the first look reads at most. In a larger namespace a process learns of the others when it uses them."""

T = TypeVar("T")
_logger = logging.getLogger("resilience")


@dataclass(frozen=True, slots=True, eq=False)
class Listener:
    """Callbacks of one user of the circuits. They are called on the sync thread, without a lock, and must not block for long.

    Attributes:
        on_transition: called with each transition that this process caused.
        on_epoch_change: called with epochs that replies showed for the first time.
    """

    on_transition: Callable[[Transition], None] | None = None
    on_epoch_change: Callable[[Sequence[EpochChange]], None] | None = None


class NamespaceSync:
    """The local circuits of one namespace, and their exchange with the store.

    Args:
        store: the store, as this namespace sees it.
        clock: time for durations; the store has its own.
        circuits: the local circuits.

    Attributes:
        listeners: the users that hear of transitions.
        error: what kept the store from replying in the last sync; None if it replied.
    """

    def __init__(self, store: Store, clock: Clock, circuits: LocalCircuits) -> None:
        self.store = store
        self.circuits = circuits
        self.listeners: tuple[Listener, ...] = ()
        self.error: Exception | None = None
        self._clock = clock
        self._watched = store if isinstance(store, WatchedStore) and not circuits.private else None
        circuits.watched = self._watched is not None

    def sync(self, connection_lock: threading.Lock, *, hold: bool = False) -> None:
        """Send everything pending in one step of the store and apply the replies; read the whole namespace, if that is not done.

        Args:
            connection_lock: held while the store is used.
            hold: whether successes of circuits without failures may wait for a later step.
        """
        circuits = self.circuits
        if hold and self._watched is not None and self._is_unchanged(self._watched, connection_lock):
            return
        with circuits.lock:
            now = self._clock.monotonic()
            retry = circuits.offline and circuits.due <= now
            looks = not circuits.looked and not circuits.closed
            pending = circuits.take_pending(now, hold=hold)
        self.error = None
        if pending or not looks:
            self._send(connection_lock, pending)
        if looks and (not circuits.offline or (retry and not pending)):
            self._look(connection_lock)

    def _is_unchanged(self, watched: WatchedStore, connection_lock: threading.Lock) -> bool:
        """Confirm the views, if nothing must be sent and the store says that nothing has changed. Return whether that was so."""
        circuits = self.circuits
        with circuits.lock:
            asked = self._clock.monotonic()
            quiet = circuits.quiet(asked)
            if not quiet:
                return False
            circuits.begin_request((), asked)
        unchanged = False
        with (
            connection_lock,
            suppress(Exception),
        ):  # an error shows again in the step that follows, and means away
            unchanged = watched.is_unchanged([circuit.client for circuit in quiet])
        with circuits.lock:
            if unchanged:
                circuits.confirm(quiet, asked)
            released = circuits.end_sync()
        complete_waits(released)
        return unchanged

    def _send(
        self,
        connection_lock: threading.Lock,
        pending: Sequence[PendingRequest],
        names: Sequence[str] | None = None,
        error: Exception | None = None,
    ) -> None:
        """Send requests in one step of the store and apply the replies.

        Args:
            connection_lock: held while the store is used.
            pending: the requests.
            names: all circuits of the namespace that are not in use here, to be read too; None if this is no first look.
            error: what kept the store from replying before this step.
        """
        circuits, now = self.circuits, self._clock.monotonic
        requests = [item.request for item in pending] + [StepRequest(client=name) for name in names or ()]
        replies: list[StepReply] = []
        with circuits.lock:
            # The time before the request: a reply is at least as old as that when it is here.
            sent_at = now()
            if requests:
                circuits.begin_request(pending, sent_at)
        if requests and error is None:
            with connection_lock, heard_by(self._note_life):
                error, replies = self._step(requests)
        further: list[PendingRequest] = []
        with circuits.lock:
            if error is None:
                circuits.apply_replies(pending, replies[: len(pending)], sent_at)
                if names is not None:
                    circuits.keep_first_views(dict(zip(names, replies[len(pending) :], strict=True)), sent_at)
            else:
                further = circuits.on_store_error(pending, error, sent_at)
            released = circuits.end_sync()
        self.error = error
        complete([*pending, *further], replies, error)
        complete_waits(released)

    def _look(self, connection_lock: threading.Lock) -> None:
        """Read every circuit of the namespace, so that a first call of any client is decided by what the fleet knows."""
        circuits, error = self.circuits, None
        names: list[str] = []
        with circuits.lock:
            circuits.begin_request((), self._clock.monotonic())
        with connection_lock, heard_by(self._note_life):
            try:
                names = list(self.store.names()[:_MAX_LOOKS])
            except Exception as exc:  # noqa: BLE001 - whatever a store raises, calls go on
                error = exc
        with circuits.lock:
            # Names alone inform of nothing: a client that is first used before the replies is still unknown to this process.
            pending = circuits.take_pending(self._clock.monotonic()) if error is None else []
            names = [name for name in names if name not in circuits.by_client]
        self._send(connection_lock, pending, names, error)

    def _note_life(self) -> None:
        self.circuits.silence.note_life(self._clock.monotonic())

    def _step(self, requests: Sequence[StepRequest]) -> tuple[Exception | None, list[StepReply]]:
        """Return the replies to all *requests*, or the error: that of one circuit counts as an error of the store."""
        replies: list[StepReply] = []
        try:
            for reply in self.store.step(requests):
                if isinstance(reply, Exception):
                    return reply, replies
                replies.append(reply)
        except Exception as exc:  # noqa: BLE001 - whatever a store raises, calls go on
            return exc, replies
        return None, replies

    def run(self, work: Callable[[Store], T]) -> T:
        """Run the work of a caller with the store.

        Raises:
            StoreError: the work failed, or the last sync did.
        """
        if self.error is not None:
            raise store_error(self.error)
        with self.circuits.lock:
            self.circuits.begin_request((), self._clock.monotonic())
        try:
            with heard_by(self._note_life):
                return work(self.store)
        except Exception as exc:
            raise store_error(exc) from exc
        finally:
            with self.circuits.lock:
                released = self.circuits.end_sync()
            complete_waits(released)

    def notify(self) -> None:
        """Call the listeners with what happened in the last syncs. Call it without a lock."""
        circuits = self.circuits
        with circuits.lock:
            transitions, circuits.transitions = circuits.transitions, []
            epoch_changes, circuits.epoch_changes = circuits.epoch_changes, []
        for listener in self.listeners:
            for transition in transitions:
                _call(listener.on_transition, transition)
            if epoch_changes:
                _call(listener.on_epoch_change, epoch_changes)


def _call(hook: Callable[[T], None] | None, argument: T) -> None:
    if hook is None:
        return
    try:
        hook(argument)
    except Exception:
        _logger.exception("a hook of the breaker failed")
