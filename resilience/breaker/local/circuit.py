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

from resilience.breaker.local.batching import ResultRun, add_run
from resilience.breaker.local.flush_interval import FLUSH_SECONDS, FlushInterval
from resilience.breaker.local.probe_request import ProbeRequest
from resilience.breaker.local.restoration import restore_request
from resilience.breaker.messages import (
    FAILURES,
    Batch,
    Cooldown,
    Outcome,
    StepReply,
    StepRequest,
)
from resilience.breaker.policy import BreakerPolicy
from resilience.breaker.retry_budget import LocalRetryBudget
from resilience.breaker.state import CircuitState
from resilience.breaker.view import CircuitView, Permit
from resilience.breaker.window import WindowCounts
from resilience.errors import CircuitOpenError

_MAX_RUNS: Final = (
    1024  # unsent runs kept while the store is slow; further results only pay into the retry budget
)
_SPREAD_SHARE: Final = (
    0.1  # the end of a wait is spread over this share of it, so that a fleet does not wake in step,
)
_SPREAD_MAX: Final = 1.0  # but over no more than this many seconds
_PROBE_RETRY: Final = 1.0  # longest time, in seconds, until a refused probe is requested again
_PROBE_PENDING_RETRY: Final = 0.05  # seconds to wait while another call of this process requests a probe
_CLOCK_TOLERANCE: Final = (
    1e-6  # a caller that slept exactly as long as we said must not be refused for a rounding error
)


class LocalCircuit:
    """The local copy of one circuit.

    Args:
        client: name of the client.
        policy: thresholds that are used unless a call brings its own.

    Attributes:
        view: the last known state of the circuit; None before the first reply.
        epoch: epoch of the view. It differs from *shared_epoch* while the offline circuit decides.
        shared_epoch: epoch that the store replied last.
        permit: the ordinary permit of this epoch under *policy*. Sharing one object keeps equal results in one run.
        free_until: until then `Breaker.admit` returns *permit* without a lock or any further check.
        refused_until: until then no probe is requested, because the last request was denied.
        wait_for_reply: whether the next call waits for the reply to unsent failures before it is admitted.
        lease_tokens: probe leases that callers of this process hold.
        probe_request: the request for a probe lease that is under way; one at a time.
        waiters: futures of callers that wait for a fresh view.
        runs: unsent results.
        tail: the last of *runs*, or an empty run. `Breaker.settle` adds successes to it without a method call.
        cooldowns: unsent cool-downs, with the epoch of their permit. One for all stated waits, under the empty key, and one
            for each reason whose cool-downs grow.
        retry_budget: unsent changes to the retry budget.
        flush_interval: how soon unsent results are sent.
    """

    __slots__ = (
        "_cooldown_end_ms",
        "_cooldown_reason",
        "_cooldown_until",
        "_local_cooldown_until",
        "_open_end_ms",
        "_open_until",
        "_permits",
        "_viewed_at",
        "client",
        "cooldowns",
        "epoch",
        "flush_interval",
        "free_until",
        "lease_tokens",
        "permit",
        "policy",
        "probe_request",
        "refused_until",
        "retry_budget",
        "runs",
        "shared_epoch",
        "tail",
        "view",
        "wait_for_reply",
        "waiters",
    )

    def __init__(self, client: str, policy: BreakerPolicy) -> None:
        self.client = client
        self.policy = policy
        self.view: CircuitView | None = None
        self.epoch = 0
        self.shared_epoch = 0
        self.permit = Permit(client, 0, "", policy)
        self._permits = {policy: self.permit}
        self.free_until = -math.inf
        self.refused_until = -math.inf
        self.wait_for_reply = False
        self.lease_tokens: set[str] = set()
        self.probe_request: ProbeRequest | None = None
        self.waiters: list[Future[None]] = []
        self.runs: list[ResultRun] = []
        self.tail = ResultRun(self.permit, Outcome.IGNORED)
        self.cooldowns: dict[str, tuple[int, Cooldown]] = {}
        self.retry_budget = LocalRetryBudget()
        self.flush_interval = FlushInterval()
        self._local_cooldown_until = self._cooldown_until = self._open_until = self._viewed_at = -math.inf
        self._cooldown_reason = ""
        self._open_end_ms = self._cooldown_end_ms = 0

    # -- decisions --------------------------------------------------------------------------------------------------------------

    def is_stale(self, now: float, policy: BreakerPolicy) -> bool:
        """Return whether the view must be refreshed before it decides.

        An old view is not refreshed before a probe is requested, because the reply to that request refreshes it too.

        Args:
            now: current time.
            policy: thresholds of the call.
        """
        view = self.view
        if view is None:
            return True
        old = view.shared and (self.wait_for_reply or now - view.at >= policy.max_staleness)
        return old and (self.probe_request is not None or not self._may_probe(view, now))

    def decide(self, now: float, policy: BreakerPolicy) -> Permit | None:
        """Return a permit if the view allows the call, or None if only a probe may go, whose lease the store grants.

        Args:
            now: current time.
            policy: thresholds of the call.

        Raises:
            CircuitOpenError: the view forbids the call.
        """
        view = self.view
        if view is None or view.state is CircuitState.DISABLED:
            return self.permit_for(policy)
        until, reason = self._block(view)
        if until - now > _CLOCK_TOLERANCE:
            raise self._open_error(reason, until - now)
        if view.state is CircuitState.CLOSED:
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

    def probe_pending_error(self) -> CircuitOpenError:
        """Return the error for a call that arrives while another call of this process requests a probe."""
        return self._open_error(self.view.reason if self.view else "", _PROBE_PENDING_RETRY)

    def is_free(self, now: float) -> bool:
        """Return whether the view allows an ordinary call, however old the view is."""
        view = self.view
        if view is None or view.state is CircuitState.DISABLED:
            return True
        return view.state is CircuitState.CLOSED and self._block(view)[0] <= now

    def permit_for(self, policy: BreakerPolicy) -> Permit:
        """Return the permit of this epoch for *policy*. All its calls share one object, so that equal results form one run."""
        permit = self._permits.get(policy)
        if permit is None:
            permit = self._permits[policy] = Permit(self.client, self.epoch, "", policy)
        return permit

    def _block(self, view: CircuitView) -> tuple[float, str]:
        """Return the time until which every call is refused, and the reason."""
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

    def may_retry(self, now: float) -> bool:
        """Return whether the fleet's budget has a retry left: by the view, its age, and the retries of this process since."""
        tokens, since = (self.view.retry_tokens, now - self._viewed_at) if self.view else (math.inf, 0.0)
        return self.retry_budget.has_token(tokens, since, self.policy)

    # -- unsent results -------------------------------------------------------------------------------------------------------

    def add_result(self, permit: Permit, outcome: Outcome, reason: str) -> None:
        """Add a result to the unsent ones.

        Args:
            permit: the permit of the attempt.
            outcome: how the attempt ended.
            reason: category of the failure, or empty.
        """
        tail = self.tail
        if tail.permit is not permit or tail.outcome is not outcome or not tail.count:
            if len(self.runs) >= _MAX_RUNS:
                self.retry_budget.attempts += 1
                return
            tail = self.tail = ResultRun(permit, outcome)
            self.runs.append(tail)
        tail.count += 1
        tail.reason = reason or tail.reason
        if outcome in FAILURES and not permit.token and self._should_wait_for_reply(permit.policy):
            self.wait_for_reply = True
            self.free_until = -math.inf

    def flush_due(self, now: float, *, failed: bool, last_sync: float) -> float:
        """Return the time by which a result added now must be sent.

        Args:
            now: current time.
            failed: whether the result is a failure or a retry.
            last_sync: when the last sync began.
        """
        if failed:
            return last_sync + self.flush_interval.failure_gap
        return max(now + FLUSH_SECONDS, self.view.at + self.flush_interval.interval if self.view else now)

    def add_cooldown(self, permit: Permit, cooldown: Cooldown, now: float) -> None:
        """Add a cool-down to the unsent ones, and refuse calls of this process by it from now on.

        A growing cool-down is a guess. One that belongs to an earlier epoch is dropped, as the store would drop it.

        Args:
            permit: the permit of the attempt that stated it.
            cooldown: its length and reason.
            now: current time, its begin.
        """
        until = now + min(cooldown.seconds, cooldown.max_seconds)
        if not now < until < math.inf or (cooldown.doubling and permit.epoch != self.epoch):
            return
        key = cooldown.reason if cooldown.doubling else ""
        if key not in self.cooldowns or cooldown.seconds > self.cooldowns[key][1].seconds:
            self.cooldowns[key] = (permit.epoch, cooldown)
        if until > max(self._local_cooldown_until, self._cooldown_until):
            self._local_cooldown_until, self._cooldown_reason = until, cooldown.reason
        self.free_until = -math.inf

    def take_requests(self, sample: Callable[[], float]) -> list[StepRequest]:
        """Take everything unsent, as at least one request: one for each policy where calls brought their own.

        The last request carries the cool-downs, the changes to the retry budget and the probe request.

        Args:
            sample: returns random numbers from 0 to 1, for jitter.
        """
        runs, self.runs, self.tail = self.runs, [], ResultRun(self.permit, Outcome.IGNORED)
        attempts, retries = self.retry_budget.take_unsent()
        attempts += sum(run.count for run in runs)
        cooldowns, self.cooldowns = tuple(self.cooldowns.values()), {}
        grouped: list[tuple[BreakerPolicy, list[Batch]]] = []
        for run in runs:
            policy = run.permit.policy
            if not grouped or grouped[-1][0] is not policy:
                grouped.append((policy, []))
            add_run(grouped[-1][1], run)
        requests = [
            StepRequest(client=self.client, policy=policy, batches=tuple(batches), jitter_sample=sample())
            for policy, batches in grouped
        ]
        last = (
            requests.pop()
            if requests
            else StepRequest(client=self.client, policy=self.policy, jitter_sample=sample())
        )
        token = self.probe_request.token if self.probe_request else ""
        return [
            *requests,
            replace(last, cooldowns=cooldowns, token=token, attempts=attempts, retries=retries),
        ]

    def _should_wait_for_reply(self, policy: BreakerPolicy) -> bool:
        """Return whether the next call should wait for the reply to the unsent failures."""
        view = self.view
        closed = view is not None and view.state is CircuitState.CLOSED
        return closed and (self.flush_interval.prompt or self._may_trip(policy))

    def _may_trip(self, policy: BreakerPolicy) -> bool:
        """Return whether the unsent results could open the circuit. An overestimate costs one round trip, no correctness."""
        view = self.view
        if view is None or view.state is not CircuitState.CLOSED:
            return False
        failures = successes = 0
        streak = longest = view.streak
        for run in self.runs:
            if run.outcome in FAILURES:
                failures += run.count
                streak += run.count
                longest = max(longest, streak)
            else:
                successes += run.count
                streak = 0
        known = WindowCounts(view.successes + successes, view.failures + failures, view.slow, longest)
        return known.violated_rule(policy) is not None

    # -- replies ----------------------------------------------------------------------------------------------------------------

    def apply(self, view: CircuitView, reply: StepReply, now: float, sample: Callable[[], float]) -> None:
        """Replace the view by that of a reply.

        Args:
            view: the reply in times of this process.
            reply: the reply itself.
            now: current time.
            sample: returns random numbers from 0 to 1, for jitter.
        """
        self.view, self._viewed_at = view, now
        if self.epoch != reply.epoch:
            self._start_epoch(reply.epoch)
        if not self.cooldowns:
            self._local_cooldown_until = -math.inf
        # Processes must not all wake at the end of a wait, so each adds a random delay. It is drawn once for each end, which
        # the store's clock identifies. A new draw at every reply could move an end that has passed into the future again.
        opening = reply.wait_ms if reply.state is CircuitState.OPEN else 0
        if opening > 0 and reply.now_ms + opening != self._open_end_ms:
            self._open_end_ms = reply.now_ms + opening
            self._open_until = view.until + sample() * min(_SPREAD_MAX, _SPREAD_SHARE * opening / 1000)
        if reply.cooldown_ms > 0 and reply.now_ms + reply.cooldown_ms != self._cooldown_end_ms:
            self._cooldown_end_ms = reply.now_ms + reply.cooldown_ms
            self._cooldown_until = view.cooldown_until + sample() * min(
                _SPREAD_MAX, _SPREAD_SHARE * reply.cooldown_ms / 1000
            )
            self._cooldown_reason = reply.cooldown_reason
        unsent_failures = any(run.outcome in FAILURES and not run.permit.token for run in self.runs)
        self.wait_for_reply = unsent_failures and self._should_wait_for_reply(self.policy)
        self.free_until = self._fresh_until(view, now)

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

    def _start_epoch(self, epoch: int) -> None:
        """Forget everything that belongs to the previous epoch; its unsent results would be late and only count as attempts."""
        self.epoch = epoch
        self.permit = Permit(self.client, epoch, "", self.policy)
        self._permits = {self.policy: self.permit}
        self.lease_tokens.clear()
        self.refused_until = self._open_until = self._cooldown_until = -math.inf
        self._open_end_ms = self._cooldown_end_ms = 0
        self.flush_interval = FlushInterval()
        self.retry_budget.attempts += sum(run.count for run in self.runs if run.permit.epoch != epoch)
        self.runs = [run for run in self.runs if run.permit.epoch == epoch]
        self.tail = ResultRun(self.permit, Outcome.IGNORED)

    def _fresh_until(self, view: CircuitView, now: float) -> float:
        """Return the time until which calls may be admitted without any check."""
        if self.wait_for_reply or view.state not in (CircuitState.CLOSED, CircuitState.DISABLED):
            return -math.inf
        if view.state is CircuitState.CLOSED and self._block(view)[0] > now:
            return -math.inf
        return view.at + self.policy.max_staleness if view.shared else math.inf
