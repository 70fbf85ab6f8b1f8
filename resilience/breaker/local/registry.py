"""All local circuits of one process: pending results, pending probe requests and their waiters, under one lock.

Callers read and change the circuits here, and the sync thread takes from here what the store must get. Two rules keep calls
fast and the process free of deadlocks:

- The lock is held for moments only: never while the store is asked, nor (but in `schedule_sync`) while a future is completed, which
  runs code of others. So methods that end a wait return the `PendingRequest`s, which the caller completes without the lock.
- While the store is away, the offline circuits answer within the call itself. No caller waits for the thread then.
"""

from __future__ import annotations

import logging
import math
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import replace
from typing import Final

from resilience.breaker.local.circuit import LocalCircuit
from resilience.breaker.local.offline import OfflineCircuits
from resilience.breaker.local.pending_request import PendingRequest, complete, store_error
from resilience.breaker.local.probe_request import ProbeRequest, StoreWait
from resilience.breaker.messages import (
    FAILURES,
    Cooldown,
    EpochChange,
    Outcome,
    StepReply,
    StepRequest,
    Transition,
)
from resilience.breaker.policy import BreakerPolicy
from resilience.breaker.view import CircuitView, Permit
from resilience.clock import Clock

_RETRY_SECONDS: Final = 0.1  # time until a store that is away is asked again; doubles each time,
_RETRY_MAX: Final = 2.0  # up to this; both are varied by half of them, so that a fleet does not ask in step

_logger = logging.getLogger("resilience")


class LocalCircuits:
    """The local circuits of one process, and the queue of what the sync thread has to do with them.

    Args:
        clock: time for durations.
        sample: returns random numbers from 0 to 1, for jitter.
        start_thread: starts the sync thread if there is none; returns the error if that is impossible. Called with the lock.
        wake: wakes the sync thread. Called with the lock.

    Attributes:
        by_client: the circuits; callers read it without the lock.
        closed: whether the process is done with the store.
        lock: guards everything here.
        offline: whether the store is away, so that the offline circuits decide.
        due: when the next sync is due, in seconds of the monotonic clock.
        last_sync: when the last sync began.
        transitions: transitions that this process caused, to be passed on by the thread.
        epoch_changes: epochs that replies showed for the first time, to be passed on by the thread.
    """

    def __init__(
        self,
        clock: Clock,
        sample: Callable[[], float],
        start_thread: Callable[[], Exception | None],
        wake: Callable[[], None],
    ) -> None:
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
        self.transitions: list[Transition] = []
        self.epoch_changes: list[EpochChange] = []
        self._known_epochs: dict[str, int] = {}
        self._changed: dict[LocalCircuit, None] = {}
        self._pending: list[PendingRequest] = []
        self._offline_circuits = OfflineCircuits(self._clock)
        self._offline_since = 0.0
        self._failed_attempts = 0

    # -- for callers, which hold no lock ----------------------------------------------------------------------------------------

    def get(self, client: str, policy: BreakerPolicy) -> LocalCircuit:
        """Return the local circuit of *client*, created at first use with *policy*."""
        with self.lock:
            circuit = self.by_client.get(client)
            if circuit is None:
                circuit = self.by_client[client] = LocalCircuit(client, policy)
                if self.offline:
                    self._step_offline(circuit)
            return circuit

    def decide(self, circuit: LocalCircuit, policy: BreakerPolicy) -> Permit | None:
        """Return a permit if the view allows the call, or None if only a probe may go, whose lease the store grants.

        Raises:
            CircuitOpenError: the view forbids the call.
        """
        with self.lock:
            return circuit.decide(self._clock.monotonic(), policy)

    def refresh(self, circuit: LocalCircuit) -> StoreWait:
        """Request a fresh view. The future is done when it is here, or when the store is away."""
        future = StoreWait()
        with self.lock:
            if not self.offline:
                circuit.waiters.append(future)
                self._mark_changed(circuit, -math.inf)
            # `_mark_changed` goes offline if no thread can be started, and has completed the future then.
            if self.offline and not future.done():
                future.set_result(None)
        return future

    def request_probe(self, circuit: LocalCircuit, policy: BreakerPolicy) -> ProbeRequest | None:
        """Request a probe lease; None if another caller of this process is requesting one."""
        with self.lock:
            if circuit.probe_request is not None:
                return None
            request = circuit.probe_request = ProbeRequest(os.urandom(8).hex(), StoreWait(), policy)
            if self.offline:
                self._step_offline(circuit)
            else:
                self._mark_changed(circuit, -math.inf)
        return request

    def take_or_withdraw(self, request: ProbeRequest) -> bool:
        """Take the lease and return whether it was granted. Without a reply yet, withdraw: a late lease is released."""
        with self.lock:
            request.withdrawn = request.reply is None
            return request.reply is not None and request.reply.granted

    def withdraw_probe(self, circuit: LocalCircuit, request: ProbeRequest) -> None:
        """Release the lease that a cancelled caller was granted, or may still be granted."""
        if self.take_or_withdraw(request):
            permit = Permit(circuit.client, circuit.epoch, request.token, request.policy)
            self.add_result(circuit, permit, Outcome.IGNORED, None, "")

    def add_result(
        self,
        circuit: LocalCircuit,
        permit: Permit,
        outcome: Outcome,
        cooldown: Cooldown | None,
        reason: str,
        *,
        retry: bool = False,
    ) -> bool:
        """Queue the result of an attempt, a cool-down or a retry. Return whether the result is late.

        Args:
            circuit: the circuit of the client.
            permit: the permit of the attempt.
            outcome: how the attempt ended.
            cooldown: a cool-down that the client stated.
            reason: category of the failure, or empty.
            retry: whether the attempt will be retried on the same client.

        Returns:
            True if the circuit has moved on since the permit was given, so that the result does not count.
        """
        now = self._clock.monotonic()
        with self.lock:
            late = permit.epoch != circuit.epoch
            if permit.token:
                late = late or permit.token not in circuit.lease_tokens
                circuit.lease_tokens.discard(permit.token)
            if cooldown is not None:
                circuit.add_cooldown(permit, cooldown, now)
            if not late and (permit.token or outcome is not Outcome.IGNORED):
                circuit.add_result(permit, outcome, reason)
            else:
                circuit.retry_budget.attempts += 1
            if retry:
                circuit.retry_budget.spend()
            if circuit.runs or circuit.cooldowns or retry:
                urgent, failed = bool(permit.token or cooldown), retry or outcome in FAILURES
                self._schedule_flush(circuit, now, urgent=urgent, failed=failed)
        return late

    def submit_order(self, circuit: LocalCircuit, request: StepRequest) -> Future[StepReply]:
        """Send an operator's order. The future carries the reply or a `StoreError`."""
        future: Future[StepReply] = Future()
        with self.lock:
            if self.closed:
                future.set_exception(store_error(RuntimeError("closed")))
            else:
                self._pending.append(PendingRequest(circuit, request, order_reply=future))
                self.schedule_sync(-math.inf)
        return future

    # -- called with the lock held ----------------------------------------------------------------------------------------------

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

    def take_pending(self, now: float) -> list[PendingRequest]:
        """Take everything that must be sent. While the store is away, and a retry is due, ask for every circuit."""
        self.last_sync = now
        pending, self._pending = self._pending, []
        retry = self.offline and self.due <= now and not self.closed
        if retry or not self.offline:
            self.due = math.inf
        if retry:
            pending += [
                PendingRequest(circuit, StepRequest(client=circuit.client, policy=circuit.policy))
                for circuit in self.by_client.values()
            ]
        changed, self._changed = self._changed, {}
        for circuit in changed:
            requests = [PendingRequest(circuit, request) for request in circuit.take_requests(self._sample)]
            requests[-1].probe_request = circuit.probe_request
            requests[-1].waiters, circuit.waiters = circuit.waiters, []
            pending += requests
        return pending

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
        if self.offline and (pending or not self.by_client) and not self.closed:
            self.offline = False
            _logger.info(
                "the store of circuits is back after %.1f s", self._clock.monotonic() - self._offline_since
            )
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
        self.offline = True
        for item in pending:
            if item.order_reply is None and not item.restores:
                self._apply(item, self._offline_circuits.step(item.request), sent_at)
        return self.go_offline()

    def go_offline(self) -> list[PendingRequest]:
        """Hand every circuit over to the offline circuits. Return requests with the callers that wait for the store."""
        self.offline = True
        self._changed.clear()
        pending = []
        for circuit in self.by_client.values():
            request = StepRequest(client=circuit.client)
            pending.append(PendingRequest(circuit, request, circuit.probe_request, circuit.waiters))
            circuit.waiters = []
            self._step_offline(circuit)
        return pending

    # -- inside, with the lock --------------------------------------------------------------------------------------------------

    def _retry_later(self, error: Exception) -> None:
        """Schedule the next attempt to reach the store. Log the first error of an outage."""
        now = self._clock.monotonic()
        if not self.offline:
            self._offline_since, self._failed_attempts = now, 0
            message = (
                "the store of circuits is away (%s: %s); calls go on with the circuits of this process alone"
            )
            _logger.warning(message, type(error).__name__, error)
        wait = min(_RETRY_MAX, _RETRY_SECONDS * 2.0 ** min(self._failed_attempts, 10))
        self._failed_attempts += 1
        self.due = now + wait * (0.5 + self._sample())

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
        if reply.transitions:
            self.transitions += [replace(move, shared=not self.offline) for move in reply.transitions]
            self._wake()  # the thread passes them on; while the store is away no sync may be due for seconds
        lost = None if self.offline or item.restores else circuit.restore_request(reply, now)
        self._note_epoch(circuit, reply, now, lost)
        if lost is not None:
            self._pending.append(PendingRequest(circuit, lost, restores=True))
            self.schedule_sync(-math.inf)
        else:
            view = CircuitView.from_reply(
                circuit.client, reply, policy=circuit.policy, asked=sent_at, now=now, shared=not self.offline
            )
            circuit.flush_interval.update(item.request, reply, circuit.policy.max_staleness)
            circuit.apply(view, reply, now, self._sample)
            if not self.offline:
                circuit.shared_epoch = reply.epoch
                self._offline_circuits.observe(item.request, reply)
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
