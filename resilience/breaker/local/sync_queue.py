"""What the sync thread takes from the local circuits and brings back to them: requests, replies, errors, and the silence of a store.

A store is *away* after an error, or when a reply is overdue: see `LocalCircuits.judge_silence`. While it is away the offline circuits
answer within the call itself. A late reply still updates what this process knows, and the store is looked at again at once.

Two rules keep calls fast and the process free of deadlocks:

- The lock is held for moments only: never while the store is asked, nor (but in `schedule_sync`) while a future is completed, which
  runs code of others. So methods that end a wait return the `PendingRequest`s, which the caller completes without the lock.
- While the store is away, no caller waits for the thread.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Mapping, Sequence

from resilience.breaker.local.circuit import LocalCircuit
from resilience.breaker.local.first_look import FirstLook
from resilience.breaker.local.offline import OfflineCircuits
from resilience.breaker.local.outage import StoreOutage
from resilience.breaker.local.pending_request import PendingRequest, complete, events_of, question
from resilience.breaker.local.probe_request import ProbeRequest, StoreWait
from resilience.breaker.local.renewals import Renewals
from resilience.breaker.local.store_silence import SilenceWatch
from resilience.breaker.messages import EpochChange, Outcome, StepReply, StepRequest, Transition
from resilience.breaker.view import CircuitView, Permit
from resilience.clock import Clock


class SyncQueue:
    """The local circuits of one namespace, seen from the sync thread. All methods need the lock.

    Args:
        clock: time for durations.
        sample: returns random numbers from 0 to 1, for jitter.
        start_thread: starts the sync thread if there is none; returns the error if that is impossible. Called with the lock.
        wake: wakes the sync thread. Called with the lock.
        private: whether no other process writes to the store, so that views are never stale.

    Attributes:
        private: as given.
        watched: whether the store is a `WatchedStore`.
        by_client: the circuits; callers read it without the lock.
        closed: whether the process is done with the store.
        lock: guards everything here.
        offline: whether the store is away, so that the offline circuits decide.
        due: when the next sync is due, in seconds of the monotonic clock.
        last_sync: when the last sync began.
        first_sync_ended: whether a sync has ended, well or not. Until then the attempts of an uninformed process are limited.
        looked: whether every circuit of the namespace was read once. Until then callers wait for the first look of this process.
        silence: the request that the thread waits for, and how long the store usually takes to reply.
        released: futures of callers that need not wait any longer, to be completed without the lock.
        transitions: transitions that this process caused, to be passed on by the thread.
        epoch_changes: epochs that replies showed for the first time, to be passed on by the thread.
    """

    def __init__(
        self,
        clock: Clock,
        sample: Callable[[], float],
        start_thread: Callable[[], Exception | None],
        wake: Callable[[], None],
        *,
        private: bool = False,
    ) -> None:
        self.private = private
        self.watched = False
        self.by_client: dict[str, LocalCircuit] = {}
        self.closed = False
        self._clock = clock
        self._sample = sample
        self._start_thread = start_thread
        self._wake = wake
        self.reset()

    def reset(self) -> None:
        """Start empty: at first, and in a forked child, which inherits no lock, lease, view or unsent result."""
        self.by_client.clear()  # the same dict: the breaker holds a reference to it
        self.lock = threading.Lock()
        self.offline = self.closed
        self.due = math.inf
        self.last_sync = -math.inf
        self.first_sync_ended = self.looked = self.closed
        self.silence = SilenceWatch()
        self.released: list[StoreWait] = []
        self.transitions: list[Transition] = []
        self.epoch_changes: list[EpochChange] = []
        self._first_look = FirstLook()
        self._in_flight: Sequence[PendingRequest] = ()
        self._silent = False
        self._known_epochs: dict[str, int] = {}
        self._changed: dict[LocalCircuit, None] = {}
        self._pending: list[PendingRequest] = []
        self._renewals = Renewals()
        self._offline_circuits = OfflineCircuits(self._clock)
        self._outage = StoreOutage()

    def now(self) -> float:
        """Return the time, in seconds of the monotonic clock."""
        return self._clock.monotonic()

    # -- a sync -----------------------------------------------------------------------------------------------------------------

    def schedule_sync(self, due: float) -> None:
        """Let the thread sync by the time *due*, and start it if there is none."""
        if due < self.due:
            self.due = due
            self._wake()
        if not self.closed and (error := self._start_thread()) is not None:
            # Without a thread the store is as good as away. This is the one place that completes futures with the lock held:
            # they are waits for a view or a lease, whose callbacks only wake event loops.
            self._retry_later(error)
            complete(self.go_offline())

    def begin_request(self, pending: Sequence[PendingRequest], now: float) -> None:
        """Note that the thread waits for the store from *now* on, for the replies to *pending*."""
        self.silence.begin(now)
        self._in_flight = pending

    def end_sync(self) -> list[StoreWait]:
        """Note that the thread waits for nothing. Return the futures to be completed without the lock."""
        self.silence.end()
        self._in_flight, self._silent = (), False
        if not self.first_sync_ended:
            self.first_sync_ended = True
            # The number of attempts without knowledge is no longer limited: callers that waited for that decide again.
            for circuit in self.by_client.values():
                self.released += circuit.release_trial(self.now())
        return self.take_released()

    def take_released(self) -> list[StoreWait]:
        """Return the futures of callers that need not wait any longer, to be completed without the lock."""
        released, self.released = self.released, []
        return released

    def take_pending(self, now: float, *, hold: bool = False) -> list[PendingRequest]:
        """Take everything that must be sent. While the store is away, and a retry is due, ask for every circuit.

        Args:
            now: current time.
            hold: whether successes that may gather are kept, and their circuits only asked for.
        """
        self.last_sync = now
        pending, self._pending = self._pending, []
        retry = self.offline and self.due <= now and not self.closed
        self._renewals.take(now, self._changed)
        if retry or not self.offline:
            self.due = self._renewals.due
        if retry:
            pending += map(question, self.by_client.values())
        changed, self._changed = self._changed, {}
        for circuit in changed:
            kept = hold and self._hold(circuit, now)
            if not kept:
                circuit.sent_at = now
            found = circuit.take_requests(self._sample, hold=kept or circuit.view is None)
            requests = [PendingRequest(circuit, request) for request in found]
            requests[-1].probe_request = circuit.probe_request
            requests[-1].waiters, circuit.waiters = circuit.waiters, []
            pending += requests
        return pending

    def _hold(self, circuit: LocalCircuit, now: float) -> bool:
        """Return whether the unsent successes of a circuit are kept for a later step. Called by the thread, which needs no wake-up."""
        until = circuit.holds_until(now)
        if circuit.runs and until > now:
            self._changed[circuit] = None
            self.due = min(self.due, until)
        return until > now

    def apply_replies(
        self, pending: Sequence[PendingRequest], replies: Sequence[StepReply], sent_at: float
    ) -> None:
        """Apply the replies of the store.

        If the store was away, it is back and its state counts. What was counted offline is not sent to it: the store may
        have received it from a request whose reply was lost.

        Args:
            pending: the requests.
            replies: their replies, in the same order.
            sent_at: when the requests were taken.
        """
        now = self._clock.monotonic()
        took = self.silence.round_trip(now)
        if pending:
            self.silence.round_trips.note(took)
        if self._silent or (self.offline and self.silence.round_trips.is_silent(took)):
            for item, reply in zip(pending, replies, strict=True):
                self._apply_late(item, reply, sent_at)
            self.due = now if self._silent else self.due
            self._outage.reply_came()
            return
        if self.offline and (pending or not self.by_client) and not self.closed:
            self.offline = False
            self._outage.end(now)
            self._known_epochs.clear()
            for circuit in self.by_client.values():
                circuit.invalidate()
        for item, reply in zip(pending, replies, strict=True):
            self._apply(item, reply, sent_at)

    def on_store_error(
        self, pending: Sequence[PendingRequest], error: Exception, sent_at: float
    ) -> list[PendingRequest]:
        """Go offline after a failed sync. Its results are counted offline and never sent again, because they may have arrived.

        Args:
            pending: the requests that failed.
            error: the error of the store.
            sent_at: when the requests were taken.

        Returns:
            Further requests with waiters, to be completed together with *pending*.
        """
        self._retry_later(error)
        if self.offline:
            return []
        self._count_offline(pending, sent_at)
        return self.go_offline()

    def go_offline(self) -> list[PendingRequest]:
        """Hand every circuit over to the offline circuits. Return requests with the callers that wait for the store."""
        self.offline = True
        self._changed.clear()
        self._renewals = Renewals()
        pending = []
        for circuit in self.by_client.values():
            request = StepRequest(client=circuit.client)
            pending.append(PendingRequest(circuit, request, circuit.probe_request, circuit.waiters))
            circuit.waiters = []
            self._step_offline(circuit)
            self.released += circuit.release_trial(self.now())
        return pending

    # -- the first look ---------------------------------------------------------------------------------------------------------

    def keep_first_views(self, replies: Mapping[str, StepReply], at: float) -> None:
        """Keep what the first look at the namespace showed, for circuits that this process may use later.

        Args:
            replies: the replies of the store by client.
            at: when they were asked for.
        """
        self.looked = True
        self._first_look.keep(replies, at)
        for client in replies:
            # First used while the look was under way. Its own request is still to be sent.
            circuit = self.by_client.get(client)
            if circuit is not None and circuit.view is None:
                self._first_view(circuit)

    def _first_view(self, circuit: LocalCircuit) -> None:
        """Give a new circuit the view of the first look. A fresh one informs it; an old one still says what was forbidden."""
        now, at = self.now(), self._first_look.at
        reply = self._first_look.take(circuit.client, now)
        if reply is not None:
            self._offline_circuits.observe(StepRequest(client=circuit.client), reply)
            circuit.shared_epoch = reply.epoch
            circuit.ramp.update(0, reply, now)
            circuit.apply(self._view(circuit, reply, at, now, shared=True), reply, now, self._sample)
        if now - at < circuit.policy.max_staleness:
            self.released += circuit.end_trial(now)

    # -- while the store is away ------------------------------------------------------------------------------------------------

    def _count_offline(self, pending: Sequence[PendingRequest], sent_at: float) -> None:
        self.offline = True
        for item in pending:
            if item.order_reply is None and not item.restores:
                self._apply(item, self._offline_circuits.step(item.request), sent_at)

    def _apply_late(self, item: PendingRequest, reply: StepReply, sent_at: float) -> None:
        """Learn from a reply that came after its request was counted offline: it may know more than this process."""
        circuit, now = item.circuit, self._clock.monotonic()
        self.transitions += events_of(item, reply, shared=True)
        if circuit.trial is None and reply.epoch <= circuit.shared_epoch:
            return
        self._offline_circuits.adopt(circuit.client, reply)
        circuit.ramp.update(item.request.wanted, reply, now)
        circuit.apply(self._view(circuit, reply, sent_at, now, shared=False), reply, now, self._sample)
        circuit.shared_epoch = max(circuit.shared_epoch, reply.epoch)
        self.released += circuit.end_trial(now)

    # -- inside, with the lock --------------------------------------------------------------------------------------------------

    def _retry_later(self, error: Exception) -> None:
        """Schedule the next attempt to reach the store. Log the first error of an outage."""
        now = self.now()
        if not self.offline:
            self._outage.begin(error, now)
        self.due = now + self._outage.next_wait(self._sample())

    def _mark_changed(self, circuit: LocalCircuit, due: float) -> None:
        self._changed[circuit] = None
        self.schedule_sync(due)

    def _schedule_flush(self, circuit: LocalCircuit, now: float, *, urgent: bool, failed: bool) -> None:
        """Schedule the flush of an unsent result.

        Args:
            circuit: the circuit that has it.
            now: current time.
            urgent: whether other processes wait for it: the end of a probe, or a cool-down.
            failed: whether it is a failure or a retry.
        """
        if urgent:
            circuit.refused_until = -math.inf
        if self.offline:
            self._step_offline(circuit)
            if self.due <= now:
                self.schedule_sync(now)  # starts the thread, if that was impossible before
        elif urgent:
            self._mark_changed(circuit, -math.inf)
        else:
            self._mark_changed(circuit, circuit.flush_due(now, failed=failed, last_sync=self.last_sync))

    def _step_offline(self, circuit: LocalCircuit) -> None:
        probe_request, now = circuit.probe_request, self._clock.monotonic()
        for request in circuit.take_requests(self._sample):
            self._apply(
                PendingRequest(circuit, request, probe_request if request.token else None),
                self._offline_circuits.step(request),
                now,
            )

    def _apply(self, item: PendingRequest, reply: StepReply, sent_at: float) -> None:
        """Apply a reply to its circuit. If it shows that the store has forgotten the circuit, restore that first."""
        circuit, now = item.circuit, self._clock.monotonic()
        circuit.retry_budget.unconfirmed -= item.request.retries
        if events := events_of(item, reply, shared=not self.offline):
            self.transitions += events
            self._wake()  # the thread passes them on; while the store is away no sync may be due for seconds
        lost = None if self.offline or item.restores else circuit.restore_request(reply, now)
        self._note_epoch(circuit, reply, now, lost)
        if lost is not None:
            self._pending.append(PendingRequest(circuit, lost, restores=True))
            self.schedule_sync(-math.inf)
        else:
            circuit.flush_interval.update(item.request, reply, circuit.staleness(circuit.policy))
            circuit.ramp.update(item.request.wanted, reply, now)
            circuit.used_at = max(circuit.used_at, sent_at) if item.request.attempts else circuit.used_at
            circuit.apply(
                self._view(circuit, reply, sent_at, now, shared=not self.offline), reply, now, self._sample
            )
            if not self.offline:
                circuit.shared_epoch = reply.epoch
                self._offline_circuits.observe(item.request, reply)
                self.released += circuit.end_trial(now)
                self._renewals.add(circuit)
                self.schedule_sync(self._renewals.due)
                # Kept until the epoch was known, or until now, where the circuit had no failure.
                if (circuit.runs or circuit.cooldowns) and not self._hold(circuit, now):
                    self._mark_changed(circuit, -math.inf)
        if item.probe_request is not None:
            self._answer_probe(circuit, item.probe_request, reply, now)

    def _note_epoch(
        self, circuit: LocalCircuit, reply: StepReply, now: float, lost: StepRequest | None
    ) -> None:
        """Note an epoch of the store that this process sees for the first time, with the order that will restore it."""
        if self.offline or self._known_epochs.get(circuit.client) == reply.epoch:
            return
        self._known_epochs[circuit.client] = reply.epoch
        self.epoch_changes.append(
            EpochChange(
                client=circuit.client,
                epoch=reply.epoch,
                now_ms=reply.now_ms,
                at=now,
                known_epoch=circuit.shared_epoch,
                order=lost.order if lost else None,
            )
        )

    def _answer_probe(
        self, circuit: LocalCircuit, request: ProbeRequest, reply: StepReply, now: float
    ) -> None:
        request.reply, circuit.probe_request = reply, None
        if not self.offline:
            circuit.local_probe = None
        if not reply.granted or reply.wait_ms > 0:  # no lease was left, or this one was the last
            circuit.pause_probes(reply, now, self._sample)
        if not reply.granted:
            return
        if not request.withdrawn:
            circuit.lease_tokens.add(request.token)
        else:  # the caller has given up: return the lease at once, otherwise half-open would wait for its expiry
            permit = Permit(circuit.client, reply.epoch, request.token, request.policy)
            circuit.add_result(permit, Outcome.IGNORED, "")
            self._schedule_flush(circuit, now, urgent=True, failed=False)

    def _view(
        self, circuit: LocalCircuit, reply: StepReply, asked: float, now: float, *, shared: bool
    ) -> CircuitView:
        return CircuitView.from_reply(
            circuit.client, reply, policy=circuit.policy, asked=asked, now=now, shared=shared
        )
