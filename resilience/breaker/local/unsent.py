"""What a local circuit has not sent yet: results, cool-downs and changes to the retry budget.

The caller holds the lock of `LocalCircuits`. Times are seconds of the monotonic clock.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from resilience.breaker.local.batching import ResultRun, add_run
from resilience.breaker.local.flush_interval import FLUSH_SECONDS, FlushInterval
from resilience.breaker.local.probe_request import ProbeRequest
from resilience.breaker.local.ramp_share import RampShare
from resilience.breaker.local.rejected_requests import RejectedRequests
from resilience.breaker.messages import (
    FAILURES,
    Batch,
    Cooldown,
    Outcome,
    StepRequest,
)
from resilience.breaker.policy import BreakerPolicy
from resilience.breaker.retry_budget import LocalRetryBudget
from resilience.breaker.state import CircuitState
from resilience.breaker.view import CircuitView, Permit
from resilience.breaker.window import WindowCounts

_MAX_RUNS: Final = (
    1024  # unsent runs kept while the store is slow; further results only pay into the retry budget
)

_CLEAN_FACTOR: Final = 8
_CLEAN_MAX: Final = 2.0
"""How many times `max_staleness`, and how many seconds at most, a process may leave a closed circuit without any failure alone until
its next call waits for a view. Until then the sync thread renews the view (`renewals.py`), and a call that finds it old requests a
refresh and does not wait for it."""


class UnsentResults:
    """The part of a local circuit that collects what the store must get.

    Args:
        client: name of the client.
        policy: thresholds that are used unless a call brings its own.
        watched: whether the store is a `WatchedStore`, so that most refreshes read no circuit.

    Attributes:
        view: the last known state of the circuit; None before the first reply.
        epoch: epoch of the view.
        permit: the ordinary permit of this epoch under *policy*. Sharing one object keeps equal results in one run.
        free_until: until then `Breaker.admit` returns *permit* without a wait.
        refresh_at: from then on a call that is admitted so requests a refresh, which nothing waits for.
        is_sparse: whether calls come more rarely than views get old, and none has met this view since it is old.
        wait_for_reply: whether the next call waits for the reply to unsent failures before it is admitted.
        probe_request: the request for a probe lease that is under way; one at a time.
        ramp: the share of this process in a ramp.
        rejected: the requests that the client refused as wrong.
        runs: unsent results.
        sent_at: when results were last taken to be sent.
        tail: the last of *runs*, or an empty run. `Breaker.settle` adds successes to it without a method call.
        cooldowns: unsent cool-downs, with the epoch of their permit. One for all stated waits, under the empty key, and one
            for each reason whose cool-downs grow.
        retry_budget: unsent changes to the retry budget.
        flush_interval: how soon unsent results are sent.
        used_at: when a call last asked for a view, or a request with results of calls was last sent.
    """

    __slots__ = (
        "_cooldown_reason",
        "_cooldown_until",
        "_counted",
        "_local_cooldown_until",
        "_taken",
        "_watched",
        "client",
        "cooldowns",
        "epoch",
        "flush_interval",
        "free_until",
        "is_sparse",
        "permit",
        "policy",
        "probe_request",
        "ramp",
        "refresh_at",
        "rejected",
        "retry_budget",
        "runs",
        "sent_at",
        "tail",
        "used_at",
        "view",
        "wait_for_reply",
    )

    def __init__(self, client: str, policy: BreakerPolicy, *, watched: bool = False) -> None:
        self.client = client
        self._watched = watched
        self.policy = policy
        self.view: CircuitView | None = None
        self.epoch = 0
        self.permit = Permit(client, 0, "", policy)
        self.free_until = -math.inf
        self.refresh_at = math.inf
        self.is_sparse = False
        self._taken = self._counted = 0
        self.wait_for_reply = False
        self.probe_request: ProbeRequest | None = None
        self.ramp = RampShare()
        self.rejected = RejectedRequests()
        self.runs: list[ResultRun] = []
        self.sent_at = -math.inf
        self.tail = ResultRun(self.permit, Outcome.IGNORED)
        self.cooldowns: dict[str, tuple[int, Cooldown]] = {}
        self.retry_budget = LocalRetryBudget()
        self.flush_interval = FlushInterval()
        self.used_at = self._local_cooldown_until = self._cooldown_until = -math.inf
        self._cooldown_reason = ""

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
        self.rejected.add_result(outcome)
        if outcome in FAILURES or outcome is Outcome.REJECTED:  # the circuit is not clean any more
            self.free_until = min(self.free_until, self.refresh_at)
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
        if (held := self.holds_until(now)) > now:
            return held
        return max(now + FLUSH_SECONDS, self.view.at + self.flush_interval.interval if self.view else now)

    def is_clean(self, view: CircuitView) -> bool:
        """Return whether the circuit is closed, and neither the fleet nor this process has seen a failure in its window."""
        failed = view.failures or view.slow or view.streak or view.rejected
        if failed or view.state is not CircuitState.CLOSED or self.ramp.is_on:
            return False
        return not any(run.outcome in FAILURES or run.outcome is Outcome.REJECTED for run in self.runs)

    def holds_until(self, now: float) -> float:
        """Return the time until which unsent successes are kept; minus infinity if they, or anything else, must be sent now.

        The fleet needs the successes of a circuit without any failure only as the denominator of a rate to come. Where a refresh that
        finds nothing new costs next to nothing, they gather, as long as a view of such a circuit admits calls: a refresh that sent them
        would be a transaction. A failure that this process or the fleet sees ends that.
        """
        view = self.view
        if (
            not self._watched
            or view is None
            or not view.shared
            or self.probe_request is not None
            or not self.is_clean(view)
        ):
            return -math.inf
        if self.cooldowns or self.retry_budget.retries or self.ramp.wanted:
            return -math.inf
        until = self.sent_at + clean_limit(self.policy)
        return until if until > now else -math.inf

    def note_pace(self, asked: float) -> None:
        """Note how often calls come, before the view is replaced by one that was asked for at *asked*.

        A call that finds its view old and asks for another one helps the next call. Where calls come more rarely than views get old,
        each would ask, and meet a view as old as the time between two calls. The renewal without a call is as good there, and
        wakes the thread less often. Only in a watched store, where nothing else is sent between two calls either.
        """
        counted, self._counted = self._counted, self._taken + sum(run.count for run in self.runs)
        if self._watched and self.view is not None:
            calls = self._counted - counted
            self.is_sparse = calls * self.policy.max_staleness <= asked - self.view.at

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
            self.ramp.begin()
        self.free_until = -math.inf

    def take_requests(self, sample: Callable[[], float], *, hold: bool = False) -> list[StepRequest]:
        """Take everything unsent, as at least one request: one for each policy where calls brought their own.

        The last request carries the cool-downs, the changes to the retry budget, and the requests for a probe and for attempts.

        Args:
            sample: returns random numbers from 0 to 1, for jitter.
            hold: whether to ask only, and keep what is unsent: before the first reply no epoch is known that it could count in.
        """
        if hold:
            return [StepRequest(client=self.client, policy=self.policy, jitter_sample=sample())]
        runs, self.runs, self.tail = self.runs, [], ResultRun(self.permit, Outcome.IGNORED)
        attempts, retries = self.retry_budget.take_unsent()
        results = sum(run.count for run in runs)
        self._taken += results
        attempts += results
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
            replace(
                last,
                cooldowns=cooldowns,
                token=token,
                wanted=self.ramp.take_wanted(),
                rejected_functions=len(self.rejected.functions),
                rejected_requests=len(self.rejected.requests),
                attempts=attempts,
                retries=retries,
            ),
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

    def adopt_unsent(self, epoch: int) -> None:
        """Let what is unsent count in *epoch*: it is of attempts from before the first reply, when no epoch was known."""
        for run in self.runs:
            run.permit = replace(run.permit, epoch=epoch)
        self.cooldowns = {reason: (epoch, cooldown) for reason, (_, cooldown) in self.cooldowns.items()}

    def drop_unsent(self, epoch: int) -> None:
        """Drop the results of other epochs than *epoch*: they would be late and only count as attempts."""
        self.flush_interval = FlushInterval()
        self.retry_budget.attempts += sum(run.count for run in self.runs if run.permit.epoch != epoch)
        self.runs = [run for run in self.runs if run.permit.epoch == epoch]
        self.tail = ResultRun(self.permit, Outcome.IGNORED)


def clean_limit(policy: BreakerPolicy) -> float:
    """Return the seconds for which the view of a circuit without failures admits calls."""
    return min(_CLEAN_MAX, _CLEAN_FACTOR * policy.max_staleness)
