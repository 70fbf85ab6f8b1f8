"""The circuit breaker: what callers use to admit an attempt and to settle its result.

`admit` and `settle` decide on this process's view of each circuit and do no I/O. One background thread exchanges results and views
with the store (`local/sync_worker.py`). The state machine is `circuit.py`.
"""

from __future__ import annotations

import math
import random as _random
from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Final

from resilience.breaker.control import CircuitControl
from resilience.breaker.local import waiting
from resilience.breaker.local.circuit import LocalCircuit
from resilience.breaker.local.namespace_sync import Listener
from resilience.breaker.local.probe_request import StoreWait
from resilience.breaker.local.sharing import SharedCircuits
from resilience.breaker.messages import Cooldown, EpochChange, Outcome, Transition
from resilience.breaker.policy import BreakerPolicy
from resilience.breaker.stores.base import Store
from resilience.breaker.view import CircuitView, Permit
from resilience.clock import Clock, SystemClock
from resilience.errors import CircuitOpenError, StoreError

WAIT_BUDGET: Final = 0.05
"""Seconds that a call waits for a fresh view of a circuit that this process knows."""
_PROBE_WAIT: Final = 4.0
"""Seconds that a probe waits for its lease at most. A store that falls silent ends the wait earlier."""

Wait = tuple[StoreWait, float]
"""What a caller waits for, and for how many seconds."""


class Breaker(CircuitControl):
    """The circuit breakers of all clients, as one process uses them. Works from any number of event loops and threads at once.

    Args:
        store: where the circuits are kept. It belongs to this breaker, which closes it. Or circuits that other breakers of this
            process share; they bring the callbacks and the jitter.
        policy: the thresholds of every client that is not in *policies*.
        policies: thresholds by client.
        clock: time for durations; the store has its own.
        random: returns a number from 0 to 1, for jitter.
        on_transition: called on the sync thread with every transition that this process caused; must not block for long.
        on_epoch_change: called on the sync thread with the epochs that replies showed for the first time.
        wait_budget: seconds that a call waits for a fresh view of a circuit that this process knows.
    """

    def __init__(
        self,
        store: Store | SharedCircuits,
        policy: BreakerPolicy | None = None,
        *,
        policies: Mapping[str, BreakerPolicy] | None = None,
        clock: Clock | None = None,
        random: Callable[[], float] = _random.random,
        on_transition: Callable[[Transition], None] | None = None,
        on_epoch_change: Callable[[Sequence[EpochChange]], None] | None = None,
        wait_budget: float = WAIT_BUDGET,
    ) -> None:
        clock = clock or SystemClock()
        if not isinstance(store, SharedCircuits):
            store = SharedCircuits.private(store, clock, random, Listener(on_transition, on_epoch_change))
        super().__init__(store, policy or BreakerPolicy(), dict(policies or {}), clock)
        self._wait_budget = wait_budget

    # -- calls ------------------------------------------------------------------------------------------------------------------

    async def admit(
        self, client: str, policy: BreakerPolicy | None = None, *, max_wait: float = math.inf
    ) -> Permit:
        """Request permission for one attempt.

        While the view is fresh and closed this does not even suspend. Otherwise, in this order:

        - A view that is no longer fresh, of a circuit that was closed and without failures, admits the call, which requests a refresh
          behind itself. Any other stale view is refreshed first; concurrent callers share the refresh, and wait for the wait budget at most. The first look of
          a process at its store may take up to a second, and the first look at one client up to three round trips.
        - A process that knows nothing of the client even then makes one attempt at a time. The others wait for its outcome.
        - If the circuit is half-open, or open and its time is over, a probe lease is requested. The store decides; if it is away,
          or falls silent meanwhile, the local circuit does.

        A caller that is cancelled while it waits holds no lease.

        Args:
            client: the client of the attempt.
            policy: thresholds for this call alone.
            max_wait: seconds to wait for the attempt or the probe request of another caller of this process, which finds out
                about the client. Then the call is refused.

        Returns:
            The permit, to be given back with `settle`.

        Raises:
            CircuitOpenError: the client must not be asked now; names the reason and when to try again.
        """
        circuit, now = self._by_client.get(client), self._now()
        # The hot path: no lock and no allocation. Both reads may be stale by one sync, like any view.
        if circuit is not None and now < circuit.free_until and (policy or self._policy) is circuit.policy:
            if now >= circuit.refresh_at:
                self._circuits.refresh_behind(circuit, now)
            return circuit.permit
        admission = self._admission(client, policy, now, max_wait=max_wait)
        try:
            future, seconds = next(admission)
            while True:
                try:
                    await waiting.wait(self._circuits, future, seconds)
                except BaseException as exc:  # noqa: BLE001 - a cancellation: the admission lets go and raises it again
                    admission.throw(exc)
                future, seconds = next(admission)
        except StopIteration as stop:
            permit: Permit = stop.value
            return permit

    def free_permit(self, client: str) -> Permit | None:
        """Return the permit of a circuit that is closed, where `admit` would do so without a wait; None otherwise."""
        circuit, now = self._by_client.get(client), self._now()
        if circuit is not None and now < circuit.free_until and self._policy is circuit.policy:
            if now >= circuit.refresh_at:
                self._circuits.refresh_behind(circuit, now)
            return circuit.permit
        return None

    def admit_blocking(
        self, client: str, policy: BreakerPolicy | None = None, *, max_wait: float = math.inf
    ) -> Permit:
        """Return a permit as `admit` does, with waits that block the calling thread and that signals interrupt.

        Args:
            client: the client that the attempt will ask.
            policy: thresholds for this call only.
            max_wait: seconds to wait for another caller, as in `admit`.

        Raises:
            CircuitOpenError: the client must not be asked now.
        """
        if policy is None and (permit := self.free_permit(client)) is not None:
            return permit
        now = self._now()
        admission = self._admission(client, policy, now, max_wait=max_wait)
        try:
            future, seconds = next(admission)
            while True:
                try:
                    waiting.wait_blocking(self._circuits, future, seconds)
                except BaseException as exc:  # noqa: BLE001 - an interruption: the admission lets go and raises it again
                    admission.throw(exc)
                future, seconds = next(admission)
        except StopIteration as stop:
            admitted: Permit = stop.value
            return admitted

    def _admission(
        self, client: str, policy: BreakerPolicy | None, started: float, *, max_wait: float
    ) -> Generator[Wait, None, Permit]:
        """Decide on a permit. Yields what to wait for, so that callers that await and callers that block share the rules.

        The caller continues after the wait, whether or not the future is done. If the wait is cancelled or interrupted, the
        caller throws that exception in here: a requested lease is withdrawn, and the exception goes on.
        """
        policy = policy or self.policy_for(client)
        if not policy.enabled:
            return Permit(client, 0, "", policy)
        circuits = self._circuits
        circuit = self._by_client.get(client) or circuits.get(client, self.policy_for(client))
        if (refreshed := circuits.renew(circuit, started, policy)) is not None:
            yield refreshed, self._refresh_wait(circuit, started)
            circuits.end_look_wait()
        while True:
            permit = circuits.decide(circuit, policy)
            if permit is None:
                ask = self._ask_ramp if circuit.waits_for_ramp else self._probe
                permit = yield from ask(circuit, policy)
            if isinstance(permit, Permit):
                return permit
            # Another caller of this process is finding out.
            if permit is not None:
                if (left := started + max_wait - self._now()) <= 0:
                    raise circuit.pending_error()
                yield permit, min(left, circuits.trial_wait(circuit))
                circuits.end_look_wait()

    def note_rejected(self, client: str, function: str, request: bytes) -> bool:
        """Note that a client refused a request as wrong. To be called before its `REJECTED` result is settled.

        Args:
            client: the client that refused.
            function: the name of the function.
            request: a digest of its arguments. It never leaves the process.

        Returns:
            Whether the client refuses every request: see `rejections.py`.
        """
        circuit = self._by_client.get(client)
        return circuit is not None and self._circuits.note_rejected(circuit, function, request)

    def settle(
        self,
        permit: Permit,
        outcome: Outcome,
        *,
        cooldown: Cooldown | None = None,
        reason: str = "",
        retry: bool = False,
    ) -> bool:
        """Record how an attempt ended. Never blocks on the store and never raises. Call it once for each permit.

        Args:
            permit: the permit that `admit` returned.
            outcome: what the result means for the circuit; see `outcome_for`.
            cooldown: starts a cool-down of the client now, for the whole fleet.
            reason: the failure category, which later refusals name.
            retry: the same client will be asked again for this call. Takes one token from the retry budget; check `may_retry` first.

        Returns:
            True if the result was late: the circuit has moved since the permit was given, and does not count it.
        """
        circuit = self._by_client.get(permit.client)
        if circuit is None or not permit.policy.enabled:
            return False
        with self._circuits.lock:
            # The hot path: one more success of the permit that the last result belongs to only increases a counter.
            tail = circuit.tail
            if (
                tail.permit is permit
                and tail.outcome is outcome is Outcome.SUCCESS
                and not (cooldown or retry)
            ):
                tail.count += 1
                return False
        return self._circuits.add_result(circuit, permit, outcome, cooldown, reason, retry=retry)

    def may_retry(self, client: str) -> bool:
        """Return whether the fleet's retry budget has a token left for this client.

        Decided by the local view, minus the retries of this process since; no I/O.
        """
        circuit = self._by_client.get(client)
        policy = self.policy_for(client)
        return circuit is None or not policy.enabled or circuit.may_retry(self._now(), policy)

    def is_call_permitted(self, client: str) -> bool:
        """Return whether an ordinary permit, not a probe, would be granted now.

        Decided by the local view, however old; no I/O. True for a client that was never used.
        """
        circuit = self._by_client.get(client)
        return circuit is None or self._circuits.is_free(circuit)

    def probe_refusal(self, client: str) -> CircuitOpenError | None:
        """Return the refusal for a caller that leaves a due probe to another task; None if none is due. No I/O."""
        circuit = self._by_client.get(client)
        return None if circuit is None else circuit.probe_refusal(self._now())

    def _probe(
        self, circuit: LocalCircuit, policy: BreakerPolicy
    ) -> Generator[Wait, None, Permit | StoreWait | None]:
        """Request a probe lease. Yields the future to wait for.

        The wait ends with the reply of the store, or when the store is away: then the local circuit has replied. So a client is
        never refused because the store is late. A lease that is granted after the caller was cancelled must not be lost: half-open
        would then wait for its expiry. `withdraw_probe` marks the request, and the reply returns the lease.

        Returns:
            The permit. Or a future, if another caller of this process is requesting a lease. None: decide again, by the reply.
        """
        circuits = self._circuits
        request = circuits.request_probe(circuit, policy)
        if isinstance(request, StoreWait):
            return request
        try:
            if request.reply is None:  # while the store is away, the offline circuit has replied already
                yield request.future, _PROBE_WAIT
        except BaseException:
            circuits.withdraw_probe(circuit, request)
            raise
        if request.reply is None:  # the thread is stuck elsewhere
            circuits.judge_silence(at_once=True)
        if circuits.take_or_withdraw(request):
            return Permit(circuit.client, circuit.epoch, request.token, policy)
        return None

    def _ask_ramp(
        self, circuit: LocalCircuit, policy: BreakerPolicy
    ) -> Generator[Wait, None, Permit | StoreWait | None]:
        """Ask for an attempt of the ramp. Yields the future to wait for.

        Returns:
            As `_probe`.

        Raises:
            CircuitOpenError: the step of the ramp has no attempt left, or the store is late; the reply may bring one for a later call.
        """
        yield self._circuits.ask_ramp(circuit), self._wait_budget
        permit = self._circuits.decide(circuit, policy)
        if permit is None and circuit.waits_for_ramp:
            raise circuit.ramp_error(self._now())
        return permit

    async def refresh(self, client: str) -> CircuitView:
        """Refresh the view of a circuit and return it. Waits no longer than a call would; then returns the old view.

        Raises:
            StoreError: there is no view yet, and the store did not answer in time.
        """
        circuit = self._circuits.get(client, self.policy_for(client))
        seconds = self._refresh_wait(circuit, self._now())
        await waiting.wait(self._circuits, self._circuits.refresh(circuit), seconds)
        if circuit.view is None:
            msg = f"the store of circuits did not answer in time for {client!r}"
            raise StoreError(msg)
        return circuit.view

    def _refresh_wait(self, circuit: LocalCircuit, started: float) -> float:
        """Return the seconds that a call may wait for a reply about a circuit; 0 or less when its budget is used up.

        A sync that was under way before the call came has used up the budget too: if the store is slow, it is slow for all.

        Args:
            circuit: the circuit.
            started: when the call asked for admission.
        """
        circuits, budget = self._circuits, self._wait_budget
        if circuit.trial is not None:
            limit = circuits.silence.round_trips.wait if circuits.looked else circuits.look_wait()
            return max(budget, limit)
        began = circuits.silence.began
        first = started if began is None else min(started, began)
        return first + budget - self._now()
