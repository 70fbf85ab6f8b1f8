"""The local circuit of one client: the last view of the shared circuit, unsent results, and decisions without I/O.

A local circuit does no I/O and holds no lock. The caller holds the lock of `LocalCircuits` to change it. Reading a single
attribute needs no lock. Times are seconds of the monotonic clock, except where a name ends in `_ms`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import replace
from typing import Final

from resilience.breaker import ramp
from resilience.breaker.local.probe_request import ProbeRequest, StoreWait
from resilience.breaker.local.restoration import restore_request
from resilience.breaker.local.uninformed import Trial
from resilience.breaker.local.unsent import UnsentResults, clean_limit
from resilience.breaker.messages import FAILURES, Outcome, StepReply, StepRequest
from resilience.breaker.policy import BreakerPolicy
from resilience.breaker.state import CircuitState
from resilience.breaker.view import CircuitView, Permit
from resilience.errors import CircuitOpenError

_SPREAD_SHARE: Final = (
    0.1  # the end of a wait is spread over this share of it, so that a fleet does not wake in step,
)
_SPREAD_MAX: Final = 1.0  # but over no more than this many seconds
_PROBE_RETRY: Final = 1.0  # longest time, in seconds, until a refused probe is requested again
_PROBE_PENDING_RETRY: Final = 0.05  # seconds to wait while another call of this process requests a probe
_MAX_PERMITS: Final = 64  # policies of one epoch whose permits are remembered: handlers come and go
_CLOCK_TOLERANCE: Final = (
    1e-6  # a caller that slept exactly as long as we said must not be refused for a rounding error
)


class LocalCircuit(UnsentResults):
    """The local copy of one circuit.

    Args:
        client: name of the client.
        policy: thresholds that are used unless a call brings its own.
        private: whether no other process writes to the store, so that the view is never stale.
        watched: whether the store is a `WatchedStore`, so that most refreshes read no circuit.

    Attributes:
        private: as given.
        shared_epoch: epoch that the store replied last. The epoch of the view differs while the offline circuit decides.
        refused_until: until then no probe is requested, because the last request was denied.
        lease_tokens: probe leases of this epoch that callers of this process hold.
        local_probe: a probe that this process began alone, because the store owed the reply to its request; None without one.
        waiters: futures of callers that wait for a fresh view.
        trial: the rule for the attempts of an uninformed process; None once the store has replied or an attempt succeeded.
    """

    __slots__ = (
        "_open_end_ms",
        "_open_until",
        "_permits",
        "_trial_permit",
        "_viewed_at",
        "cooldown_end_ms",
        "lease_tokens",
        "local_probe",
        "private",
        "refused_until",
        "shared_epoch",
        "trial",
        "waiters",
    )

    def __init__(
        self, client: str, policy: BreakerPolicy, *, private: bool = False, watched: bool = False
    ) -> None:
        super().__init__(client, policy, watched=watched)
        self.private = private
        self.shared_epoch = 0
        self._permits = {policy: self.permit}
        self.refused_until = -math.inf
        self.lease_tokens: set[str] = set()
        self.local_probe: ProbeRequest | None = None
        self.trial: Trial | None = Trial()
        self._trial_permit: Permit | None = None
        self.waiters: list[Future[None]] = []
        self._open_until = self._viewed_at = -math.inf
        self._open_end_ms = self.cooldown_end_ms = 0

    # -- decisions --------------------------------------------------------------------------------------------------------------

    def is_stale(self, now: float, policy: BreakerPolicy) -> bool:
        """Return whether the view must be refreshed before it decides.

        Args:
            now: current time.
            policy: thresholds of the call.
        """
        view = self.view
        if view is None:
            return True
        old = view.shared and (self.wait_for_reply or now - view.at >= self.staleness(policy))
        # A request for a probe, or for an attempt of the ramp, refreshes the view as well.
        asks = self.may_ask_ramp(now) or (self.probe_request is None and self._may_probe(view, now))
        return old and not asks

    def staleness(self, policy: BreakerPolicy) -> float:
        """Return the seconds for which a view decides without a refresh."""
        return math.inf if self.private else policy.max_staleness

    def admits_behind(self, now: float, policy: BreakerPolicy) -> bool:
        """Return whether the view admits a call that requests a refresh and does not wait for it.

        Args:
            now: current time.
            policy: thresholds of the call.
        """
        view = self.view
        if view is None or self.wait_for_reply or not self.is_clean(view):
            return False
        return now < self.clean_until(policy) and self._block(view)[0] <= now

    def clean_until(self, policy: BreakerPolicy) -> float:
        """Return until when the view, if it shows no failure, admits calls without a wait. Needs a view."""
        at = self.view.at if self.view else -math.inf
        return min(at, self.used_at) + clean_limit(policy)

    def is_clean(self, view: CircuitView) -> bool:
        """Return whether the circuit is known, closed, and without failures; see `UnsentResults.is_clean`."""
        return self.trial is None and super().is_clean(view)

    def confirm_view(self, asked: float, now: float) -> None:
        """Renew a view of which the store has said that nothing has changed.

        Args:
            asked: when the store was asked.
            now: current time.
        """
        if self.view is not None:
            self.note_pace(asked)
            self.view = replace(self.view, at=asked)
            self._renew(self.view, now)

    def decide(self, now: float, policy: BreakerPolicy) -> Permit | None:
        """Return a permit if the view allows the call.

        Args:
            now: current time.
            policy: thresholds of the call.

        Returns:
            None if the store must be asked first: for the lease of a probe, or for an attempt of the ramp.

        Raises:
            CircuitOpenError: the view forbids the call.
        """
        view = self.view
        if view is not None and view.state is CircuitState.DISABLED:
            return self.permit_for(policy)
        until, reason = self._block(view)
        if until - now > _CLOCK_TOLERANCE:
            raise self._open_error(reason, until - now)
        if self.waits_for_ramp and not self.ramp.take():
            if self.ramp.may_ask(now + _CLOCK_TOLERANCE):
                return None
            raise self.ramp_error(now)
        if view is None or view.state is CircuitState.CLOSED:
            return self.permit_for(policy)
        if self.refused_until - now > _CLOCK_TOLERANCE:
            raise self._open_error(view.reason, self.refused_until - now)
        return None

    def _may_probe(self, view: CircuitView, now: float) -> bool:
        """Return whether a probe may be requested: the open time is over, and the last request was not denied just now."""
        blocked_until = max(self._block(view)[0], self.refused_until)
        return (
            view.state in (CircuitState.OPEN, CircuitState.HALF_OPEN)
            and blocked_until - now <= _CLOCK_TOLERANCE
        )

    @property
    def waits_for_ramp(self) -> bool:
        """Whether the circuit is closed, and a call needs an attempt that the ramp admits."""
        return self.ramp.is_on and self.view is not None and self.view.state is CircuitState.CLOSED

    def probe_refusal(self, now: float) -> CircuitOpenError | None:
        """Return the refusal for a caller that leaves a due probe to another task; None if no probe may be requested now."""
        view = self.view
        if view is None or self.probe_request is not None or not self._may_probe(view, now):
            return None
        return CircuitOpenError(self.client, reason=view.reason or "unknown")

    def may_ask_ramp(self, now: float) -> bool:
        """Return whether a call would ask the store for an attempt of the ramp."""
        may_ask = self.waits_for_ramp and self.ramp.may_ask(now + _CLOCK_TOLERANCE)
        return may_ask and self._block(self.view)[0] - now <= _CLOCK_TOLERANCE

    def ramp_error(self, now: float) -> CircuitOpenError:
        """Return the error for a call that waits for its turn in the ramp."""
        wait = self.ramp.asks_at - now
        return self._open_error(ramp.REASON, wait if wait > 0 else ramp.STEP_MS / 1000)

    def pending_error(self) -> CircuitOpenError:
        """Return the error for a call that does not wait for the attempt or the probe request of another caller."""
        error = self._open_error(self.view.reason if self.view else "unknown", _PROBE_PENDING_RETRY)
        error.pending = True
        return error

    def is_free(self, now: float, *, limited: bool) -> bool:
        """Return whether the view allows an ordinary call, however old the view is.

        Args:
            now: current time.
            limited: whether the first look at the store is still under way.
        """
        view, trial = self.view, self.trial
        if view is not None and view.state is CircuitState.DISABLED:
            return True
        if trial is not None and not trial.is_free(now, limited=limited):
            return False
        if self.waits_for_ramp and not (self.ramp.left or self.ramp.may_ask(now)):
            return False
        return (view is None or view.state is CircuitState.CLOSED) and self._block(view)[0] <= now

    @property
    def is_disabled(self) -> bool:
        """Whether an operator has ordered that every call be admitted."""
        return self.view is not None and self.view.state is CircuitState.DISABLED

    def permit_for(self, policy: BreakerPolicy) -> Permit:
        """Return the permit of this epoch for *policy*. All its calls share one object, so that equal results form one run."""
        permit = self._permits.get(policy)
        if permit is None:
            if len(self._permits) >= _MAX_PERMITS:
                self._permits = {self.policy: self.permit}
            permit = self._permits[policy] = Permit(self.client, self.epoch, "", policy)
        return permit

    def _block(self, view: CircuitView | None) -> tuple[float, str]:
        """Return the time until which every call is refused, and the reason."""
        if view is None:
            return self._local_cooldown_until, self._cooldown_reason
        if view.state is CircuitState.FORCED_OPEN:
            return view.until, view.state.value
        blocked = max(self._cooldown_until, self._local_cooldown_until)
        if view.state is CircuitState.OPEN and self._open_until >= blocked:
            return self._open_until, view.reason
        return blocked, self._cooldown_reason

    def _open_error(self, reason: str, wait: float) -> CircuitOpenError:
        return CircuitOpenError(
            self.client, reason=reason or "unknown", retry_after=None if math.isinf(wait) else wait
        )

    def may_retry(self, now: float, policy: BreakerPolicy) -> bool:
        """Return whether the fleet's budget has a retry left: by the view, its age, and the retries of this process since."""
        tokens, since = (self.view.retry_tokens, now - self._viewed_at) if self.view else (math.inf, 0.0)
        return self.retry_budget.has_token(tokens, since, policy)

    # -- the trial of an uninformed process -------------------------------------------------------------------------------------

    def end_trial(self, now: float) -> list[StoreWait]:
        """Note that this process knows the client now. Return the futures of callers that waited for that."""
        trial, self.trial = self.trial, None
        if trial is None:
            return []
        # The attempt in flight began before the epoch was known. Its result counts in the epoch that it turned out to be in.
        self._trial_permit = trial.permit
        if self.view is not None:
            self._renew(self.view, now)
        return trial.end()

    def release_trial(self, now: float) -> list[StoreWait]:
        """End the trial if an attempt of it has succeeded: no reply is due any more. Return the futures of callers that waited."""
        if self.trial is None:
            return []
        return self.end_trial(now) if self.trial.succeeded else self.trial.take_waiters()

    def settle_trial(
        self, permit: Permit, outcome: Outcome, now: float, *, reply_due: bool
    ) -> tuple[Permit, list[StoreWait]]:
        """Return the permit that the result counts under, and the futures of callers that waited for it.

        Args:
            permit: the permit of the attempt, of a trial or not.
            outcome: how it ended.
            now: current time.
            reply_due: whether the store is about to reply for the first time, so that even a success does not end the trial.
        """
        if permit is self._trial_permit:
            self._trial_permit = None
            return self.permit_for(permit.policy), []
        if self.trial is None or permit is not self.trial.permit:
            return permit, []
        if outcome in (Outcome.SUCCESS, Outcome.SLOW_SUCCESS):
            self.trial.succeeded = True
        if self.trial.succeeded and not reply_due:
            waiters = self.end_trial(now)
            self._trial_permit = None
        else:
            waiters = self.trial.end()
        return self.permit_for(permit.policy), waiters

    def settle_lease(self, permit: Permit) -> Permit:
        """Return the permit that the result of a probe counts under: its lease may have moved to a later epoch with it."""
        if not permit.token:
            return permit
        if self.local_probe is not None and self.local_probe.token == permit.token:
            self.local_probe.withdrawn = True
        moved = permit.token in self.lease_tokens and permit.epoch != self.epoch
        return replace(permit, epoch=self.epoch) if moved else permit

    # -- replies ----------------------------------------------------------------------------------------------------------------

    def apply(self, view: CircuitView, reply: StepReply, now: float, sample: Callable[[], float]) -> None:
        """Replace the view by that of a reply.

        Args:
            view: the reply in times of this process.
            reply: the reply itself.
            now: current time.
            sample: returns random numbers from 0 to 1, for jitter.
        """
        first = self.view is None
        self.note_pace(view.at)
        self.view, self._viewed_at = view, now
        if self.epoch != reply.epoch:
            self._start_epoch(reply.epoch, adopt=first)
        if not self.cooldowns:
            self._local_cooldown_until = -math.inf
        # Processes must not all wake at the end of an opening, so each adds a random delay. It is drawn once for each end, which
        # the store's clock identifies. A new draw at every reply could move an end that has passed into the future again.
        # The end of a cool-down needs no delay: the ramp spreads the calls that wait for it.
        opening = reply.wait_ms if reply.state is CircuitState.OPEN else 0
        if opening > 0 and reply.now_ms + opening != self._open_end_ms:
            self._open_end_ms = reply.now_ms + opening
            self._open_until = view.until + sample() * min(_SPREAD_MAX, _SPREAD_SHARE * opening / 1000)
        if reply.cooldown_ms > 0 and reply.now_ms + reply.cooldown_ms != self.cooldown_end_ms:
            self.cooldown_end_ms = reply.now_ms + reply.cooldown_ms
            self._cooldown_until = view.cooldown_until
            self._cooldown_reason = reply.cooldown_reason
        unsent_failures = any(run.outcome in FAILURES and not run.permit.token for run in self.runs)
        self.wait_for_reply = unsent_failures and self._should_wait_for_reply(self.policy)
        self.rejected.update(reply, self.runs)
        self._renew(view, now)

    def invalidate(self) -> None:
        """Require a refresh before the next decision: the store is back, and the view is this process's own."""
        if self.view is not None:
            self.view = replace(self.view, at=-math.inf, shared=True)
        self.free_until = -math.inf

    def pause_probes(self, reply: StepReply, now: float, sample: Callable[[], float]) -> None:
        """Refuse calls for a short time without a request, because all probe leases are taken."""
        wait = min(_PROBE_RETRY, reply.wait_ms / 1000 if reply.wait_ms > 0 else _PROBE_RETRY)
        self.refused_until = now + max(0.005, wait * (0.5 + sample() / 2))

    def restore_request(self, reply: StepReply, now: float) -> StepRequest | None:
        """Return the request that restores what the store has forgotten, or None if nothing of importance is lost."""
        if self.view is None or reply.epoch >= self.shared_epoch:
            return None
        return restore_request(self.view, reply, now, policy=self.policy, epoch=self.shared_epoch)

    def _start_epoch(self, epoch: int, *, adopt: bool) -> None:
        """Forget everything that belongs to the previous epoch.

        Args:
            epoch: the epoch that begins.
            adopt: whether unsent results count in it, because no epoch was known when their attempts began.
        """
        self.epoch = epoch
        if adopt:
            self.adopt_unsent(epoch)
        self.permit = Permit(self.client, epoch, "", self.policy)
        self._permits = {self.policy: self.permit}
        self.lease_tokens.clear()
        self.refused_until = self._open_until = self._cooldown_until = -math.inf
        self._open_end_ms = self.cooldown_end_ms = 0
        self.drop_unsent(epoch)

    def _renew(self, view: CircuitView, now: float) -> None:
        """Set until when calls are admitted without a wait, and from when on one of them requests a refresh."""
        self.free_until = self.refresh_at = self._fresh_until(view, now)
        if now < self.free_until < math.inf and self.is_clean(view):
            self.free_until = max(self.free_until, self.clean_until(self.policy))

    def _fresh_until(self, view: CircuitView, now: float) -> float:
        """Return the time until which calls may be admitted without any check."""
        if self.wait_for_reply or view.state not in (CircuitState.CLOSED, CircuitState.DISABLED):
            return -math.inf
        if self.trial is not None and view.state is CircuitState.CLOSED:
            return -math.inf
        if view.state is CircuitState.CLOSED and (self.ramp.is_on or self._block(view)[0] > now):
            return -math.inf
        return view.at + self.staleness(self.policy) if view.shared else math.inf
