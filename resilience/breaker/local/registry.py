"""All local circuits of one process and namespace, as callers use them: decisions, results, and waits for the store.

The lock and the queue of the sync thread are those of `SyncQueue`.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from concurrent.futures import Future
from typing import Final

from resilience.breaker.local.circuit import LocalCircuit
from resilience.breaker.local.pending_request import PendingRequest, complete, complete_waits, store_error
from resilience.breaker.local.probe_request import ProbeRequest, StoreWait
from resilience.breaker.local.round_trips import LOOK_SECONDS
from resilience.breaker.local.sync_queue import SyncQueue
from resilience.breaker.local.uninformed import LIMIT_SECONDS, TRIAL_SECONDS
from resilience.breaker.messages import (
    FAILURES,
    Cooldown,
    Outcome,
    StepReply,
    StepRequest,
)
from resilience.breaker.policy import BreakerPolicy
from resilience.breaker.view import Permit

_BEHIND_SECONDS: Final = 0.025
"""Seconds until a refresh is sent that nothing waits for. The sync thread then does not compete with the call that is about to send
its request, and the result of a call that is over by then goes with it."""
_NEXT_CALL_SECONDS: Final = 0.05
"""Seconds after a rare call that asked for no refresh from which on the next call asks: the process has become busy."""


class LocalCircuits(SyncQueue):
    """The local circuits of one process and namespace. Its methods take the lock.

    Attributes:
        look_waited: whether the first look has taken so long that attempts are no longer limited in number.
    """

    def reset(self) -> None:
        """Start empty."""
        super().reset()
        self.look_waited = False
        self._look_began = math.inf

    def get(self, client: str, policy: BreakerPolicy) -> LocalCircuit:
        """Return the local circuit of *client*, created at first use with *policy*."""
        with self.lock:
            circuit = self.by_client.get(client)
            if circuit is None:
                circuit = self.by_client[client] = LocalCircuit(
                    client, policy, private=self.private, watched=self.watched
                )
                circuit.used_at = self._clock.monotonic()
                if self.looked:
                    self._first_view(circuit)
                if self.offline:
                    self._step_offline(circuit)
                if self.closed:
                    circuit.end_trial(self._clock.monotonic())
            return circuit

    def begin_look(self) -> None:
        """Read every circuit of the namespace soon, if that was not done yet, and start the thread for it."""
        with self.lock:
            if not self.looked and not self.offline:
                self.schedule_sync(-math.inf)

    def decide(self, circuit: LocalCircuit, policy: BreakerPolicy) -> Permit | StoreWait | None:
        """Return a permit if the view allows the call, or None if only a probe may go, whose lease the store grants.

        A future is returned where this process knows nothing of the client yet, and another attempt is in flight. The caller
        waits for it and decides again.

        Raises:
            CircuitOpenError: the view forbids the call.
        """
        with self.lock:
            now = self._clock.monotonic()
            permit = circuit.decide(now, policy)
            if permit is None or circuit.trial is None or circuit.is_disabled:
                return permit
            return circuit.trial.begin(permit, now, limited=self.looking)

    def is_free(self, circuit: LocalCircuit) -> bool:
        """Return whether an ordinary call would be admitted now by the view, however old. Takes no lock."""
        return circuit.is_free(self._clock.monotonic(), limited=self.looking)

    def refresh(self, circuit: LocalCircuit) -> StoreWait:
        """Request a fresh view. The future is done when it is here, or when the store is away."""
        future = StoreWait()
        with self.lock:
            circuit.used_at = self._clock.monotonic()
            if not self.offline:
                circuit.waiters.append(future)
                self._mark_changed(circuit, -math.inf)
            # `_mark_changed` goes offline if no thread can be started, and has completed the future then.
            if self.offline and not future.done():
                future.set_result(None)
        return future

    def renew(self, circuit: LocalCircuit, now: float, policy: BreakerPolicy) -> StoreWait | None:
        """Request a fresh view, if that of *circuit* is stale. Return the future to wait for; None if the call need not wait.

        Args:
            circuit: the circuit.
            now: current time.
            policy: thresholds of the call.
        """
        if not circuit.is_stale(now, policy):
            return None
        if not circuit.admits_behind(now, policy):
            return self.refresh(circuit)
        if now >= circuit.refresh_at:
            self.refresh_behind(circuit, now)
        return None

    def refresh_behind(self, circuit: LocalCircuit, now: float) -> None:
        """Request a fresh view that nothing waits for. It joins the result of the call that requests it, if that is quick."""
        with self.lock:
            circuit.used_at = now
            if circuit.is_sparse and self._renewals.has(circuit):
                circuit.is_sparse, circuit.refresh_at = False, now + _NEXT_CALL_SECONDS
                return
            circuit.refresh_at = math.inf  # once; the reply sets it again
            if not self.offline:
                self._mark_changed(circuit, now + _BEHIND_SECONDS)

    def quiet(self, now: float) -> tuple[LocalCircuit, ...]:
        """Return the circuits that must be refreshed, if nothing waits for that and nothing of any must be sent now; else none."""
        if self.offline or self.closed or not self.looked or self._pending:
            return ()
        self._renewals.take(now, self._changed)
        changed = tuple(self._changed)
        may_wait = all(circuit.holds_until(now) > now and not circuit.waiters for circuit in changed)
        return changed if may_wait else ()

    def confirm(self, circuits: Sequence[LocalCircuit], asked: float) -> None:
        """Renew the views of *circuits*, of which the store has said that nothing has changed.

        Args:
            circuits: as `quiet` returned them; a result that came meanwhile has its turn in the next sync.
            asked: when the store was asked.
        """
        now = self.now()
        for circuit in circuits:
            if circuit.holds_until(now) > now and not circuit.waiters:
                circuit.confirm_view(asked, now)
                self._renewals.add(circuit)
                if not circuit.runs:
                    del self._changed[circuit]
        waits = (-math.inf if circuit.waiters else circuit.holds_until(now) for circuit in self._changed)
        self.due = min((self._renewals.due, *waits))

    def ask_ramp(self, circuit: LocalCircuit) -> StoreWait:
        """Ask for an attempt of the ramp. The future is done when the reply is here; it may have admitted none."""
        with self.lock:
            circuit.ramp.wanted += 1
            if self.offline:
                self._step_offline(circuit)
        return self.refresh(circuit)

    def note_rejected(self, circuit: LocalCircuit, function: str, request: bytes) -> bool:
        """Note a request that the client refused as wrong. Return whether it refuses every request."""
        with self.lock:
            return circuit.rejected.note(function, request)

    def request_probe(self, circuit: LocalCircuit, policy: BreakerPolicy) -> ProbeRequest | StoreWait:
        """Request a probe lease. If another caller of this process is requesting one, return a future of that reply."""
        with self.lock:
            pending = circuit.probe_request
            if pending is not None:
                follower = StoreWait()
                pending.followers.append(follower)
                return follower
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
            reply_due = self.looking and not self.offline
            permit, waiters = circuit.settle_trial(permit, outcome, now, reply_due=reply_due)
            permit = circuit.settle_lease(permit)
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
                urgent = bool(permit.token or cooldown)
                failed = retry or outcome in FAILURES or outcome is Outcome.REJECTED
                self._schedule_flush(circuit, now, urgent=urgent, failed=failed)
            waiters += self.take_released()
        complete_waits(waiters)
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

    # -- the first look ---------------------------------------------------------------------------------------------------------

    @property
    def looking(self) -> bool:
        """Whether the first request of this process to the store is under way, so that attempts without knowledge are limited."""
        under_way = not self.first_sync_ended and not (self.offline and self.silence.began is None)
        return under_way and not self.look_waited

    def look_wait(self) -> float:
        """Return the seconds that a call may wait for the first look: what is left of one second for all calls of this process."""
        return max(0.0, LOOK_SECONDS - self._look_age())

    def trial_wait(self, circuit: LocalCircuit) -> float:
        """Return the seconds that a call waits at most until it decides again: for the attempt of another call, or for the look."""
        trial = circuit.trial
        if trial is None or trial.permit is not None:
            return TRIAL_SECONDS
        return max(0.0, LIMIT_SECONDS - self._look_age())

    def _look_age(self) -> float:
        """Return for how many seconds calls have known that the first look is under way, without those in which nothing ran."""
        now = self.now()
        self._look_began = min(self._look_began, now)
        return now - self._look_began

    def end_look_wait(self) -> None:
        """Lift the limit of attempts, if the first look takes longer than any connection. Called by callers after a wait.

        A look may take long without a silence: each connection that a server accepts before it hangs up is a sign of life. What is
        left of the rule of an uninformed process then is one attempt at a time.
        """
        # A caller that waited exactly as long as we said must not wait again for a rounding error.
        if not self.looking or self._look_age() < LIMIT_SECONDS - 1e-6:
            return
        with self.lock:
            self.look_waited = True
            for circuit in self.by_client.values():
                self.released += circuit.release_trial(self.now())
            released = self.take_released()
        complete_waits(released)

    # -- silence ----------------------------------------------------------------------------------------------------------------

    @property
    def silent(self) -> bool:
        """Whether the reply that the thread waits for is overdue."""
        return self.silence.is_overdue(self.now())

    def note_stall(self, due: float) -> None:
        """Note that a caller's wait which had to end at *due* ends now. Called without the lock."""
        self._look_began += self.silence.note_stall(due, self.now())

    def judge_silence(self, *, at_once: bool = False) -> None:
        """Go offline if the reply that the thread waits for is overdue. Called by callers that wait, without the lock.

        Args:
            at_once: go offline in any case: a caller has waited in vain, although the thread waits for no reply of this namespace.
        """
        if not (at_once or self.silence.is_overdue(self.now())):
            return
        with self.lock:
            now = self.now()
            if self.offline or not (at_once or self.silence.is_silent(now)):
                return
            pending, released = self._go_silent(now), self.take_released()
        complete(pending)
        complete_waits(released)

    def _go_silent(self, now: float) -> list[PendingRequest]:
        """Go offline while the thread still waits. What it sent is counted offline, and its reply will be late."""
        seconds = now - (self.silence.began or now)
        self._retry_later(TimeoutError(f"no reply for {seconds:.1f} s"))
        self._silent = True
        waits = [
            PendingRequest(item.circuit, item.request, item.probe_request, item.waiters)
            for item in self._in_flight
        ]
        self._count_offline(self._in_flight, now)
        for item in self._in_flight:
            # The store may have granted this lease. `question` asks for it again, under the same token.
            item.circuit.local_probe = item.probe_request or item.circuit.local_probe
        return [*waits, *self.go_offline()]
