"""The state machine of a circuit breaker: pure, run by every store, and the specification of the script that runs inside Redis.

This module is the law. It reads no clock, draws no random number and knows no process and no store. The time is an argument, in
milliseconds of the store's own clock. The random number comes with the request. A step takes the data of a circuit and a request; it
returns new data and a reply. It never changes the data that it was given.

States. *Closed* admits every call and counts it. *Open* refuses every call until its time is over. *Half-open* admits as many calls
as there are leases. *Forced open* and *disabled* are an operator's orders: no result moves the circuit out of them. They end when
their time is over or with another order. In both cases the circuit starts closed, with an empty window.

Epochs. Every transition begins a new epoch, max(epoch + 1, now). So no epoch is used twice, even after the store has lost its memory.
A result carries the epoch of its permit. A result of another epoch changes nothing and is reported as late. So a failure of a call
that began before the circuit opened neither lengthens the opening nor re-opens a recovered circuit, and a late success closes nothing.

The window. Results count when they arrive, in buckets a tenth of the window long. A bucket is live while it began less than one window
ago. Every transition empties the window. After each result the rules are checked in the order of `WindowCounts.violated_rule`:
failures in a row within the window; the share of failed calls; the share of slow calls. A share is judged only over enough calls. A
run of equal results moves the circuit exactly as the same results would one by one.

Opening. The n-th opening in a row lasts min(open_max, open_for * open_growth ** (n - 1)), with jitter. A circuit that has been closed
for a whole window forgets its earlier openings. When the time of an opening is over, nothing happens until a process asks for a lease.

Leases. A lease is granted while two conditions hold: fewer than half_open_probes leases are unexpired, and the unexpired ones together
with the successes so far are fewer than closing could need. Asking again with the same token returns the same lease. A refused request
writes nothing, so it prolongs no other lease. An expired lease gives up its place. Its token is remembered for a while, and its result
still counts in the same epoch: probes slower than their lease cannot keep a healthy client out. *Ignored* returns the lease and counts
nothing. A failed probe re-opens the circuit; so does a slow one, where slow calls are judged. Enough successes close it.

Cool-downs stand beside the state, and their end only moves later. A stated cool-down is the provider's own word and applies whatever
its epoch. A doubling cool-down is our estimate. It doubles each time, until a call succeeds. It is ignored if it comes from an older
epoch, and while a cool-down with the same reason is running: a hundred calls that were in flight together count once.

The retry budget. A token bucket for retries stands beside the state, one for the whole fleet. No transition or order fills or empties
it, and it is used in every state. It starts full, with retry_burst tokens. Every attempt pays in retry_ratio when it ends, whatever its
outcome and its epoch; probes too. Every retry, when it is decided, takes out one token and what it will pay in itself: so only first
tries add tokens. The bucket also refills by retry_floor tokens a minute. What exceeds a full bucket is lost. Within one request,
attempts pay in before retries take out. The circuit itself refuses no retry: a process retries only if at least one token is left.
Several processes may take the same last token and overdraw the bucket; the deficit is made up before anyone retries again. Over any
period the retries of a fleet are at most retry_burst + retry_ratio * first tries + retry_floor * minutes, plus one overdraft. The
data holds what is missing from a full bucket (`retry_budget.py`).

Lost memory. A store may be emptied, or come back with an older copy of the circuit. Epochs only grow, so a process that saw a later
epoch notices. It asks to restore what it saw. The circuit obeys only while its own epoch is older: so once.

Clocks. The store's clock can go back, after a failover or because it was set. Then every time in the data moves back by the same
amount, and that is saved. An opening or a lease longer than the current policy allows is shortened to it, and a half-open circuit that
already has the required successes closes: new thresholds take effect with the first step after a deploy.

Change together: this file; `window.py`, `leases.py`, `retry_budget.py` and `state.py`; and `stores/step.lua`, which does the same under the
same names.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from resilience.breaker import leases, retry_budget
from resilience.breaker.messages import (
    FAILURES,
    Batch,
    Cooldown,
    Operation,
    Order,
    Outcome,
    StepReply,
    StepRequest,
    Transition,
    TransitionRule,
)
from resilience.breaker.policy import MAX_EXPONENT, BreakerPolicy
from resilience.breaker.state import CircuitData, CircuitState, move_times_back
from resilience.breaker.window import WindowCounts, add_to_buckets, sum_buckets

_ORDERED_STATES: Final = {Operation.OPEN: CircuitState.FORCED_OPEN, Operation.DISABLE: CircuitState.DISABLED}
_OVERRIDES: Final = frozenset(_ORDERED_STATES.values())
_DEFAULT_POLICY: Final = BreakerPolicy()  # its window applies to requests without a policy


def step(data: CircuitData, now: int, request: StepRequest) -> tuple[CircuitData, StepReply]:
    """Apply one request to a circuit and describe the result.

    The order matters and is the same in step.lua: clock, expired override, order, new thresholds, results, cool-downs, retry budget,
    probe. Results come before the probe request, so that a process that reports a failure is not granted a probe by the same step.

    Args:
        data: the circuit; not changed.
        now: the store's time in milliseconds.
        request: the results to count, and what is asked for.

    Returns:
        The data to save, equal to *data* if nothing has to be written, and the reply.
    """
    current = _Step(data, now, request)
    current.adjust_clock()
    current.expire()
    if request.order is not None:
        current.apply_order(request.order)
    late = 0
    granted = False
    if request.policy is not None:
        current.enforce_limits()
        late = sum(current.apply_batch(batch) for batch in request.batches)
        for epoch, cooldown in request.cooldowns:
            current.cool_down(epoch, cooldown)
        retry_budget.update_budget(current.draft, now, request, request.policy)
        granted = current.acquire_probe(request.token)
    if current.draft != data:
        current.draft.at = now
    return current.draft, current.reply(granted=granted, late=late)


def observe(data: CircuitData, now: int, request: StepRequest) -> CircuitData:
    """Count the results of a closed circuit without judging them.

    While the store decides, a process keeps its offline circuits up to date with this: when the store fails they know the window.
    Arguments are those of `step`. The data that is returned never has another state.
    """
    current = _Step(data, now, request)
    current.adjust_clock()
    if data.state is CircuitState.CLOSED:
        for batch in request.batches:
            if batch.epoch == data.epoch:
                for outcome, count in batch.runs:
                    current.count_results(outcome, count, batch.reason)
    return current.draft


class _Step:
    """The working copy of one step. Each step makes a new one."""

    __slots__ = ("draft", "now", "policy", "request", "transitions")

    def __init__(self, data: CircuitData, now: int, request: StepRequest) -> None:
        self.draft = replace(data)
        self.now = now
        self.request = request
        self.policy = request.policy or _DEFAULT_POLICY
        self.transitions: list[Transition] = []

    # -- time -------------------------------------------------------------------------------------------------------------------

    def adjust_clock(self) -> None:
        """Move every time back by as much as the store's clock went back.

        Otherwise an open circuit would stay open for the length of the jump. A clock that goes forward needs nothing: it only ends
        openings early.
        """
        jump = self.draft.at - self.now
        if jump > 0:
            move_times_back(self.draft, jump)

    def expire(self) -> None:
        """End an override whose time is over."""
        draft = self.draft
        if draft.state in _OVERRIDES and 0 < draft.state_until <= self.now:
            self.move(CircuitState.CLOSED, TransitionRule.LAPSED, reason=draft.reason)

    def enforce_limits(self) -> None:
        """Shorten openings and leases to what the current policy allows; close if it already has the successes it requires."""
        draft, policy = self.draft, self.policy
        if draft.state is CircuitState.OPEN:
            draft.state_until = min(
                draft.state_until, self.now + round(1000 * policy.open_max * (1 + policy.open_jitter))
            )
        draft.leases = leases.shorten(draft.leases, self.now, policy)
        if draft.state is CircuitState.HALF_OPEN and draft.successes >= policy.successes_to_close:
            self.recover()

    # -- results ----------------------------------------------------------------------------------------------------------------

    def apply_batch(self, batch: Batch) -> int:
        """Count a batch of results. Return how many were too late to count.

        The epoch is compared for every run, not once: a run may trip the circuit, and the runs after it are then late.
        """
        late = 0
        for outcome, count in batch.runs:
            if batch.epoch != self.draft.epoch:
                late += count
            elif batch.token:
                late += count - self.on_probe_result(batch.token, outcome, batch.reason)
            elif self.draft.state is CircuitState.CLOSED and outcome is not Outcome.IGNORED:
                late += self.on_result(outcome, count, batch.reason)
        return late

    def on_result(self, outcome: Outcome, count: int, reason: str) -> int:
        """Count a run of equal results in closed, and open the circuit if a rule is violated.

        Returns:
            How many results of the run came after the circuit opened.
        """
        violation = self.window().first_violation(outcome, count, self.policy)
        self.count_results(outcome, violation or count, reason)
        rule = self.window().violated_rule(self.policy) if violation else None
        if rule is None:
            return 0
        self.trip(rule)
        return count - violation

    def count_results(self, outcome: Outcome, count: int, reason: str) -> None:
        """Add a run of equal results to the window."""
        draft = self.draft
        draft.buckets = add_to_buckets(draft.buckets, self.now, outcome, count, self.policy)
        if outcome in FAILURES:
            draft.reason = reason or draft.reason
        else:
            draft.cooldown_count = 0

    def window(self) -> WindowCounts:
        """Return the sums of the window at this time."""
        return sum_buckets(self.draft.buckets, self.now, self.policy)

    # -- half-open --------------------------------------------------------------------------------------------------------------

    def on_probe_result(self, token: str, outcome: Outcome, reason: str) -> int:
        """Apply the result of a probe. Return how many results counted: 1, or 0 if the token is unknown."""
        draft = self.draft
        others = tuple(lease for lease in draft.leases if lease.token != token)
        if len(others) == len(draft.leases):
            return 0
        draft.leases = others
        if outcome in FAILURES:
            draft.reason = reason or draft.reason
            self.trip(TransitionRule.PROBE)
        elif outcome is Outcome.SLOW_SUCCESS and self.policy.slow_call_duration is not None:
            self.trip(TransitionRule.SLOW_RATE)
        elif outcome is not Outcome.IGNORED:
            draft.cooldown_count = 0
            draft.successes += 1
            if draft.successes >= self.policy.successes_to_close:
                self.recover()
        return 1

    def recover(self) -> None:
        """Close: the probes have shown that the client works again."""
        self.move(CircuitState.CLOSED, TransitionRule.PROBE, reason=self.draft.reason)
        self.draft.closed_at = self.now

    def acquire_probe(self, token: str) -> bool:
        """Grant a lease to *token* if one is free. Return whether *token* holds a live lease now."""
        draft = self.draft
        if not token or draft.cooldown_until > self.now:
            return False
        if draft.state is CircuitState.OPEN and draft.state_until <= self.now:
            self.move(CircuitState.HALF_OPEN, TransitionRule.LAPSED, reason=draft.reason)
        if draft.state is not CircuitState.HALF_OPEN:
            return False
        live = leases.live(draft.leases, self.now)
        if any(lease.token == token for lease in live):
            return True
        if not leases.has_free(len(live), draft.successes, self.policy):
            return False
        draft.leases = leases.grant(draft.leases, token, self.now, self.policy)
        return True

    # -- transitions ------------------------------------------------------------------------------------------------------------

    def trip(self, rule: TransitionRule) -> None:
        """Open the circuit; each opening in a row lasts longer."""
        draft = self.draft
        calm = draft.state is CircuitState.CLOSED and self.now - draft.closed_at >= round(
            1000 * self.policy.window
        )
        open_count = 1 if calm else draft.open_count + 1
        reason = rule.value if rule is TransitionRule.SLOW_RATE else draft.reason or rule.value
        wait = self.policy.open_duration_ms(open_count, self.request.jitter_sample)
        self.move(CircuitState.OPEN, rule, reason=reason, wait=wait)
        draft.open_count = open_count

    def move(
        self, state: CircuitState, rule: TransitionRule, *, reason: str = "", actor: str = "", wait: int = 0
    ) -> None:
        """Go to *state* and begin a new epoch; *wait* is its length in milliseconds, -1 without end, 0 if time does not end it."""
        draft, window = self.draft, self.window()
        from_state, draft.state = draft.state, state
        draft.epoch = max(draft.epoch + 1, self.now)
        draft.state_until = self.now + wait if wait > 0 else 0
        draft.leases, draft.buckets, draft.successes = (), (), 0
        draft.reason = "" if state is CircuitState.CLOSED else reason
        draft.actor = "" if state is CircuitState.CLOSED else actor
        transition = Transition(
            client=self.request.client,
            epoch=draft.epoch,
            at_ms=self.now,
            from_state=from_state,
            to_state=state,
            rule=rule,
            reason=reason,
            actor=actor,
            calls=window.calls,
            failures=window.failures,
            wait_ms=wait,
        )
        self.transitions.append(transition)

    # -- orders and cool-downs --------------------------------------------------------------------------------------------------

    def apply_order(self, order: Order) -> None:
        """Carry out an operator's order, or restore what the store has forgotten."""
        wait = -1 if order.seconds is None else max(1, round(1000 * order.seconds))
        match order.operation:
            case Operation.OPEN | Operation.DISABLE:
                state = _ORDERED_STATES[order.operation]
                self.move(state, TransitionRule.OPERATOR, reason=order.reason, actor=order.actor, wait=wait)
            case Operation.CLOSE | Operation.RESET:
                self.close(order, forget=order.operation is Operation.RESET)
            case Operation.RESTORE:
                self.restore(order, wait)

    def restore(self, order: Order, wait: int) -> None:
        """Restore the state that a process saw in a later epoch than this circuit remembers.

        Half-open is never restored: its leases are lost. A process that saw it restores an opening whose time is over.
        """
        draft, state = self.draft, order.state
        already_closed = state is draft.state is CircuitState.CLOSED
        if draft.epoch >= order.epoch or state is CircuitState.HALF_OPEN or already_closed:
            return
        draft.epoch = order.epoch
        wait = 0 if state is CircuitState.CLOSED else wait
        self.move(state, TransitionRule.RESTORED, reason=order.reason, actor=order.actor, wait=wait)
        draft.open_count = int(state is CircuitState.OPEN)

    def close(self, order: Order, *, forget: bool) -> None:
        """Admit calls again. Do nothing if there is nothing to end or to forget.

        A circuit without memory (epoch 0) moves even if it is closed already: it needs an epoch of its own, because otherwise a
        process that remembers an opening would restore it over this order.
        """
        draft = self.draft
        cooling = draft.cooldown_until > self.now
        history = draft.open_count or draft.cooldown_count or draft.buckets
        idle = draft.state is CircuitState.CLOSED and not cooling and not (forget and history)
        if idle and draft.epoch:
            return
        self.move(CircuitState.CLOSED, TransitionRule.OPERATOR, reason=order.reason, actor=order.actor)
        draft.closed_at = self.now
        draft.cooldown_until, draft.cooldown_reason = 0, ""
        if forget:
            draft.open_count = draft.cooldown_count = draft.closed_at = 0

    def cool_down(self, epoch: int, cooldown: Cooldown) -> None:
        """Start or extend the cool-down; never shorten it. *epoch* is that of the permit whose attempt asked for it."""
        draft, seconds = self.draft, cooldown.seconds
        if cooldown.doubling:
            running = draft.cooldown_until > self.now and draft.cooldown_reason == cooldown.reason
            if running or epoch != draft.epoch:
                return
            seconds *= 2.0 ** min(draft.cooldown_count, MAX_EXPONENT)
            draft.cooldown_count += 1
        until = self.now + round(1000 * min(seconds, cooldown.max_seconds))
        if until > max(draft.cooldown_until, self.now):
            draft.cooldown_until, draft.cooldown_reason = until, cooldown.reason

    # -- the reply --------------------------------------------------------------------------------------------------------------

    def reply(self, *, granted: bool, late: int) -> StepReply:
        """Describe the circuit after this step."""
        draft, window = self.draft, self.window()
        cooldown_ms = max(0, draft.cooldown_until - self.now)
        return StepReply(
            state=draft.state,
            epoch=draft.epoch,
            now_ms=self.now,
            wait_ms=self.wait_ms(),
            cooldown_ms=cooldown_ms,
            granted=granted,
            successes=window.successes,
            failures=window.failures,
            slow=window.slow,
            streak=window.streak,
            reason=draft.reason,
            cooldown_reason=draft.cooldown_reason if cooldown_ms else "",
            actor=draft.actor,
            late=late,
            budget_used=retry_budget.budget_used(draft, self.now, self.policy),
            transitions=tuple(self.transitions),
        )

    def wait_ms(self) -> int:
        """Return the milliseconds until the state may change by itself: -1 never, 0 if time does not change it.

        In half-open it is the time until the next lease expires, if none is free.
        """
        draft = self.draft
        if draft.state is CircuitState.HALF_OPEN:
            live = leases.live(draft.leases, self.now)
            free = leases.has_free(len(live), draft.successes, self.policy)
            return min(lease.expiry for lease in live) - self.now if live and not free else 0
        if draft.state in _OVERRIDES and not draft.state_until:
            return -1
        return 0 if draft.state is CircuitState.CLOSED else max(0, draft.state_until - self.now)
