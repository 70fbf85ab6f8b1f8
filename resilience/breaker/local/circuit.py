"""One client in one process: the last view of its circuit, what was not yet told, and what may be decided without asking.

A ledger does no I/O and holds no lock: whoever changes it holds the exchange's. Instants are seconds of the monotonic clock.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, replace
from typing import Final

from resilience.breaker.local.batching import ResultRun, join
from resilience.breaker.local.flush_interval import FLUSH_SECONDS, FlushInterval
from resilience.breaker.messages import (
    FAILURES,
    Batch,
    Cooldown,
    Operation,
    Order,
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

_MOST_RUNS: Final = 1024  # kept while the store is slow; what is beyond is not told
_HERD: Final = 0.1  # wake-ups are spread over this share of the wait,
_HERD_MOST: Final = 1.0  # but over no more than so many seconds
_ASK_AGAIN: Final = 1.0  # a refused ask is repeated after at most so many seconds
_SOON: Final = 0.05  # when to come back while another call of this process is asking
_HAIR: Final = 1e-6  # who slept for exactly the time we named must not be refused for a rounding


@dataclass(slots=True, eq=False)
class ProbeRequest:
    """A request for a probe lease that is under way. `reply` is set before the future is done."""

    token: str
    future: Future[None]
    policy: BreakerPolicy
    reply: StepReply | None = None
    withdrawn: bool = False


class LocalCircuit:
    """What this process knows and owes of one client.

    Args:
        client: whose ledger.
        policy: the thresholds used unless a call brings its own.
    """

    __slots__ = (
        "_block_reason",
        "_blocked_end",
        "_blocked_until",
        "_open_end",
        "_open_until",
        "_own_block",
        "_permits",
        "_seen",
        "alarm",
        "ask",
        "client",
        "cooldowns",
        "epoch",
        "free_until",
        "pace",
        "permit",
        "policy",
        "purse",
        "refused_until",
        "runs",
        "shared_epoch",
        "tail",
        "tokens",
        "view",
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
        self.alarm = False
        self.tokens: set[str] = set()
        self.ask: ProbeRequest | None = None
        self.waiters: list[Future[None]] = []
        self.runs: list[ResultRun] = []
        self.tail = ResultRun(self.permit, Outcome.IGNORED)
        self.cooldowns: dict[str, tuple[int, Cooldown]] = {}
        self.purse = LocalRetryBudget()
        self.pace = FlushInterval()
        self._own_block = self._blocked_until = self._open_until = self._seen = -math.inf
        self._block_reason = ""
        self._open_end = self._blocked_end = 0

    # -- deciding ---------------------------------------------------------------------------------------------------------------

    def stale(self, now: float, policy: BreakerPolicy) -> bool:
        """Must the view be refreshed before it decides? Not to ask for a probe: the answer to that refreshes it as well."""
        view = self.view
        if view is None:
            return True
        old = view.shared and (self.alarm or now - view.at >= policy.max_staleness)
        return old and (self.ask is not None or not self._may_ask(view, now))

    def decide(self, now: float, policy: BreakerPolicy) -> Permit | None:
        """Give a permit by the view; None when only the store can tell, by lending a probe.

        Raises:
            CircuitOpenError: the view forbids it.
        """
        view = self.view
        if view is None or view.state is CircuitState.DISABLED:
            return self.permit_under(policy)
        until, reason = self._shut(view)
        if until - now > _HAIR:
            raise self._refusal(reason, until - now)
        if view.state is CircuitState.CLOSED:
            return self.permit_under(policy)
        if self.refused_until - now > _HAIR:
            raise self._refusal(view.reason, self.refused_until - now)
        return None

    def _may_ask(self, view: CircuitView, now: float) -> bool:
        """Is the time of an opening over, and nobody known to be probing?"""
        shut = max(self._shut(view)[0], self.refused_until)
        return view.state in (CircuitState.OPEN, CircuitState.HALF_OPEN) and shut - now <= _HAIR

    def refuse_while_asked(self) -> CircuitOpenError:
        """The refusal for those who come while another call of this process asks for a probe."""
        return self._refusal(self.view.reason if self.view else "", _SOON)

    def free(self, now: float) -> bool:
        """Would an ordinary permit be given by the view alone, however old it is?"""
        view = self.view
        if view is None or view.state is CircuitState.DISABLED:
            return True
        return view.state is CircuitState.CLOSED and self._shut(view)[0] <= now

    def permit_under(self, policy: BreakerPolicy) -> Permit:
        """The one permit of this epoch and policy: sharing it keeps equal results together."""
        permit = self._permits.get(policy)
        if permit is None:
            permit = self._permits[policy] = Permit(self.client, self.epoch, "", policy)
        return permit

    def _shut(self, view: CircuitView) -> tuple[float, str]:
        """Until when the view forbids every call, and why."""
        if view.state is CircuitState.FORCED_OPEN:
            return view.until, view.state.value
        blocked = max(self._blocked_until, self._own_block)
        if view.state is CircuitState.OPEN and self._open_until >= blocked:
            return self._open_until, view.reason
        return blocked, self._block_reason

    def _refusal(self, reason: str, wait: float) -> CircuitOpenError:
        return CircuitOpenError(
            self.client, reason=reason or "unknown", retry_after=None if math.isinf(wait) else wait
        )

    def may_retry(self, now: float) -> bool:
        """Is there a retry left in the fleet's budget, by the view, the time since, and what this process has spent since?"""
        tokens, since = (self.view.retry_tokens, now - self._seen) if self.view else (math.inf, 0.0)
        return self.purse.has_token(tokens, since, self.policy)

    # -- telling ----------------------------------------------------------------------------------------------------------------

    def add(self, permit: Permit, outcome: Outcome, reason: str) -> None:
        """Note a result to be told."""
        tail = self.tail
        if tail.permit is not permit or tail.outcome is not outcome or not tail.count:
            if len(self.runs) >= _MOST_RUNS:
                self.purse.attempts += 1
                return
            tail = self.tail = ResultRun(permit, outcome)
            self.runs.append(tail)
        tail.count += 1
        tail.reason = reason or tail.reason
        if outcome in FAILURES and not permit.token and self._alarming(permit.policy):
            self.alarm = True
            self.free_until = -math.inf

    def tell_by(self, now: float, *, failed: bool, last_turn: float) -> float:
        """When what was noted now must be told."""
        if failed:
            return last_turn + self.pace.gap
        return max(now + FLUSH_SECONDS, self.view.at + self.pace.interval if self.view else now)

    def cool(self, permit: Permit, cooldown: Cooldown, now: float) -> None:
        """Note a cool-down to be told, and keep it here from now on."""
        until = now + min(cooldown.seconds, cooldown.max_seconds)
        if not now < until < math.inf or (cooldown.doubling and permit.epoch != self.epoch):
            return
        key = cooldown.reason if cooldown.doubling else ""
        if key not in self.cooldowns or cooldown.seconds > self.cooldowns[key][1].seconds:
            self.cooldowns[key] = (permit.epoch, cooldown)
        if until > max(self._own_block, self._blocked_until):
            self._own_block, self._block_reason = until, cooldown.reason
        self.free_until = -math.inf

    def collect(self, draw: Callable[[], float]) -> list[StepRequest]:
        """Take everything there is to tell and ask, as requests: one, or one a policy where calls brought their own."""
        runs, self.runs, self.tail = self.runs, [], ResultRun(self.permit, Outcome.IGNORED)
        tries, retries = self.purse.take_unsent()
        tries += sum(run.count for run in runs)
        cooldowns, self.cooldowns = tuple(self.cooldowns.values()), {}
        grouped: list[tuple[BreakerPolicy, list[Batch]]] = []
        for run in runs:
            policy = run.permit.policy
            if not grouped or grouped[-1][0] is not policy:
                grouped.append((policy, []))
            join(grouped[-1][1], run)
        requests = [
            StepRequest(client=self.client, policy=policy, batches=tuple(batches), jitter_sample=draw())
            for policy, batches in grouped
        ]
        last = (
            requests.pop()
            if requests
            else StepRequest(client=self.client, policy=self.policy, jitter_sample=draw())
        )
        token = self.ask.token if self.ask else ""
        return [*requests, replace(last, cooldowns=cooldowns, token=token, attempts=tries, retries=retries)]

    def _alarming(self, policy: BreakerPolicy) -> bool:
        """Should the next call wait until the failures that were not told yet are answered?"""
        view = self.view
        closed = view is not None and view.state is CircuitState.CLOSED
        return closed and (self.pace.prompt or self._may_trip(policy))

    def _may_trip(self, policy: BreakerPolicy) -> bool:
        """Could what was not told yet open the circuit? Errs towards yes."""
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

    # -- learning ---------------------------------------------------------------------------------------------------------------

    def load(self, view: CircuitView, reply: StepReply, now: float, draw: Callable[[], float]) -> None:
        """Take a reply for the truth."""
        self.view, self._seen = view, now
        if self.epoch != reply.epoch:
            self._begin(reply.epoch)
        if not self.cooldowns:
            self._own_block = -math.inf
        # A wait seen for the first time gets a lag behind its end, so that a fleet does not wake in step; once over, it stays over.
        opening = reply.wait_ms if reply.state is CircuitState.OPEN else 0
        if opening > 0 and reply.now_ms + opening != self._open_end:
            self._open_end = reply.now_ms + opening
            self._open_until = view.until + draw() * min(_HERD_MOST, _HERD * opening / 1000)
        if reply.cooldown_ms > 0 and reply.now_ms + reply.cooldown_ms != self._blocked_end:
            self._blocked_end = reply.now_ms + reply.cooldown_ms
            self._blocked_until = view.cooldown_until + draw() * min(
                _HERD_MOST, _HERD * reply.cooldown_ms / 1000
            )
            self._block_reason = reply.cooldown_reason
        untold = any(run.outcome in FAILURES and not run.permit.token for run in self.runs)
        self.alarm = untold and self._alarming(self.policy)
        self.free_until = self._fresh_until(view, now)

    def doubt(self) -> None:
        """The view is this process's own; the store is back and knows better."""
        if self.view is not None:
            self.view = replace(self.view, at=-math.inf, shared=True)
        self.free_until = -math.inf

    def deny(self, reply: StepReply, now: float, draw: Callable[[], float]) -> None:
        """No lease was to be had: refuse for a while without asking."""
        wait = min(_ASK_AGAIN, reply.wait_ms / 1000 if reply.wait_ms > 0 else _ASK_AGAIN)
        self.refused_until = now + max(0.005, wait * (0.5 + draw() / 2))

    def restoration(self, reply: StepReply, now: float) -> StepRequest | None:
        """What to put back when the store's memory is not as young as ours; None when nothing was lost that matters."""
        view = self.view
        if view is None or reply.epoch >= self.shared_epoch:
            return None
        order = cooldown = None
        if {view.state, reply.state} != {CircuitState.CLOSED}:
            # Leases are lost: a circuit under probe is put back as an opening whose time is over.
            probing = view.state is CircuitState.HALF_OPEN
            order = Order(
                operation=Operation.RESTORE,
                actor=view.actor,
                reason=view.reason,
                seconds=0.0 if probing else None if math.isinf(view.until) else max(0.0, view.until - now),
                state=CircuitState.OPEN if probing else view.state,
                epoch=self.shared_epoch,
            )
        if (left := view.cooldown_until - now) > 0:
            cooldown = Cooldown(seconds=left, max_seconds=left, reason=view.cooldown_reason)
        if order is None and cooldown is None:
            return None
        return StepRequest(
            client=self.client,
            policy=self.policy,
            order=order,
            cooldowns=((0, cooldown),) if cooldown else (),
        )

    def _begin(self, epoch: int) -> None:
        self.epoch = epoch
        self.permit = Permit(self.client, epoch, "", self.policy)
        self._permits = {self.policy: self.permit}
        self.tokens.clear()
        self.refused_until = self._open_until = self._blocked_until = -math.inf
        self._open_end = self._blocked_end = 0
        self.pace = FlushInterval()
        self.purse.attempts += sum(run.count for run in self.runs if run.permit.epoch != epoch)
        self.runs = [run for run in self.runs if run.permit.epoch == epoch]
        self.tail = ResultRun(self.permit, Outcome.IGNORED)

    def _fresh_until(self, view: CircuitView, now: float) -> float:
        if self.alarm or view.state not in (CircuitState.CLOSED, CircuitState.DISABLED):
            return -math.inf
        if view.state is CircuitState.CLOSED and self._shut(view)[0] > now:
            return -math.inf
        return view.at + self.policy.max_staleness if view.shared else math.inf
