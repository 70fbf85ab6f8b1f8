"""The circuit: the pure state machine that every store runs, and the specification of the one that runs inside Redis.

The law. All of it is here, and nothing here reads a clock, draws a random number, or knows what a process or a store is: the time
is an argument, in milliseconds of the store's own clock, and the draw comes with the request. A step takes a document and a
request and gives back a new document and the reply; the document it was given is left as it was.

States. *Closed* admits every call and counts it. *Open* refuses until its time is over. *Half-open* admits as many calls as there
are leases. *Forced open* and *disabled* are an operator's word: no result moves them; they end by their time or by another order,
and both times the circuit starts closed with an empty window.

Epochs. Every transition begins a new epoch, max(epoch + 1, now), so that an epoch is never used twice, not even after the store
lost its memory. A result carries the epoch of its permit. One of another epoch changes nothing and is reported as late: a failure
of a call that began before the trip neither lengthens an opening nor re-opens a recovered circuit, and a success closes nothing.

The window. Results are counted when they arrive, in buckets a tenth of the window long. A bucket is live while it began less than
a window ago. Every transition empties the window. After each result the rules are asked in the order of `Tally.broken`: so many
failures in a row within the window; a share of failed calls; a share of slow ones; the shares only over enough calls. A run of
equal results moves the circuit exactly as the same results one by one.

Opening. The n-th opening in succession lasts min(open_max, open_for * open_growth ** (n - 1)), with jitter. A circuit that has been
closed for a whole window has forgotten earlier openings. When the time is over nothing happens until someone asks for a lease.

Leases. An ask is granted while fewer than half_open_probes leases are unexpired and the probes that may still succeed, with those
that have, do not exceed what closing could need. Asking again under the same token is the same lease. A refused ask writes
nothing: it prolongs nobody's lease. An expired lease gives its place away, but its token is remembered for a while, and its result
still counts in the same epoch: probes slower than their lease cannot keep a healthy client out. *Ignored* gives the lease back
and counts nothing. A failed probe re-opens; so does a slow one, where slow calls are judged; enough successes close.

Cool-downs stand beside the state and only grow. A stated one is the client's own word and holds from whatever epoch it comes.
A growing one is our guess: it doubles with each cool-down after which no call succeeded, is ignored from an older epoch, and does
not grow while one of the same reason is running, so that a hundred calls that were under way together count as one.

The retry budget. A bucket of retries stands beside the state as well, one for the whole fleet: no transition, order or override
fills or empties it, and it is drawn from in every state. It begins full, with retry_burst. Every attempt pays in retry_ratio when it
ends, whatever came of it, in whatever epoch it began, probes too; every retry takes out one, and what it will pay in itself, when it
is decided; so first tries alone earn. It fills by retry_floor a minute. What does not fit is lost; within one telling attempts pay
in before retries take out. The circuit grants nothing here: whoever finds less than one retry left does not retry. As
several processes may take the same last one, the bucket may be overdrawn, and what is missing is made up before anyone retries again:
over any length of time the fleet's retries are at most retry_burst + retry_ratio * first tries + retry_floor * minutes, and what was
overdrawn once. The bucket is kept as what is missing from it (`budget.py`).

Lost memories. A store may be emptied, or come back with an older copy of the circuit; epochs only grow, so that whoever saw a
younger one knows. It asks to have put back what it saw, and the circuit obeys if it is still older than that: once, then.

Clocks. When the store's clock went back (failover, a clock that was set), every time in the document goes back by as much, and that
is written down. An opening or a lease longer than the present policy allows is cut to it, and a half-open circuit that has the
successes it asks for closes: the thresholds of a deploy take effect at once.

To change together: this file, `document.py`, `budget.py`, and the Lua script of the Redis store.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from resilience.breaker import retry_budget
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
from resilience.breaker.policy import BreakerPolicy
from resilience.breaker.state import CircuitData, CircuitState, Lease
from resilience.breaker.window import WindowCounts, counted, tally

_REMEMBERED: Final = 8  # expired leases whose results may still count
_STEEPEST: Final = 64  # doublings beyond this change nothing but the size of the number
_ORDERED: Final = {Operation.OPEN: CircuitState.FORCED_OPEN, Operation.DISABLE: CircuitState.DISABLED}
_OVERRIDES: Final = frozenset(_ORDERED.values())
_NEUTRAL: Final = BreakerPolicy()  # whose window a look without a policy adds up


def step(document: CircuitData, now: int, request: StepRequest) -> tuple[CircuitData, StepReply]:
    """Take one turn: obey, count, cool down, perhaps lend, and say how things stand.

    Args:
        document: the circuit; it is not changed.
        now: the store's time in milliseconds.
        request: what is told and asked.

    Returns:
        The document to keep, equal to the given one when nothing has to be written, and the reply.
    """
    turn = _Turn(document, now, request)
    turn.follow_clock()
    turn.lapse()
    if request.order is not None:
        turn.obey(request.order)
    late = 0
    permit = False
    if request.policy is not None:
        turn.cut()
        late = sum(turn.apply(batch) for batch in request.batches)
        for epoch, cooldown in request.cooldowns:
            turn.cool(epoch, cooldown)
        turn.draw_retries()
        permit = turn.lend(request.token)
    if turn.draft != document:
        turn.draft.at = now
    return turn.draft, turn.reply(permit=permit, late=late)


def witness(document: CircuitData, now: int, request: StepRequest) -> CircuitData:
    """Count a closed circuit's results without judging them: how a process keeps its own circuit warm while the store decides."""
    turn = _Turn(document, now, request)
    turn.follow_clock()
    if document.state is CircuitState.CLOSED:
        for batch in request.batches:
            if batch.epoch == document.epoch:
                for outcome, count in batch.runs:
                    turn.count(outcome, count, batch.reason)
    return turn.draft


def opening(opens: int, draw: float, policy: BreakerPolicy) -> int:
    """How long the *opens*-th opening in succession lasts, in milliseconds; *draw* from 0 to 1 places it within the jitter."""
    seconds = min(policy.open_max, policy.open_for * policy.open_growth ** min(opens - 1, _STEEPEST))
    return round(1000 * seconds * (1 + policy.open_jitter * (2 * draw - 1)))


class _Turn:
    """One step's working copy of a document; a new one for every step."""

    __slots__ = ("draft", "moves", "now", "policy", "request")

    def __init__(self, document: CircuitData, now: int, request: StepRequest) -> None:
        self.draft = replace(document)
        self.now = now
        self.request = request
        self.policy = request.policy or _NEUTRAL
        self.moves: list[Transition] = []

    # -- time -------------------------------------------------------------------------------------------------------------------

    def follow_clock(self) -> None:
        """Take every time back by as much as the clock went back."""
        draft, back = self.draft, self.draft.at - self.now
        if back <= 0:
            return
        draft.at = self.now
        draft.until = max(1, draft.until - back) if draft.until else 0
        draft.blocked_until = max(0, draft.blocked_until - back)
        draft.closed_at = max(0, draft.closed_at - back)
        draft.owed_at = max(0, draft.owed_at - back)
        draft.leases = tuple(replace(lease, expiry=lease.expiry - back) for lease in draft.leases)
        draft.buckets = tuple(replace(bucket, start=bucket.start - back) for bucket in draft.buckets)

    def lapse(self) -> None:
        """End an override whose time is over."""
        draft = self.draft
        if draft.state in _OVERRIDES and 0 < draft.until <= self.now:
            self.move(CircuitState.CLOSED, TransitionRule.LAPSED, reason=draft.reason)

    def cut(self) -> None:
        """Hold no opening and no lease longer, and ask for no more successes, than the present policy would."""
        draft, policy = self.draft, self.policy
        if draft.state is CircuitState.OPEN:
            draft.until = min(
                draft.until, self.now + round(1000 * policy.open_max * (1 + policy.open_jitter))
            )
        latest = self.now + round(1000 * policy.probe_lease)
        if any(lease.expiry > latest for lease in draft.leases):
            draft.leases = tuple(replace(lease, expiry=min(lease.expiry, latest)) for lease in draft.leases)
        if draft.state is CircuitState.HALF_OPEN and draft.successes >= policy.successes_to_close:
            self.recover()

    # -- results ----------------------------------------------------------------------------------------------------------------

    def apply(self, batch: Batch) -> int:
        """Count a batch; returns how many of its results were too late to count."""
        late = 0
        for outcome, count in batch.runs:
            if batch.epoch != self.draft.epoch:
                late += count
            elif batch.token:
                late += count - self.hear(batch.token, outcome, batch.reason)
            elif self.draft.state is CircuitState.CLOSED and outcome is not Outcome.IGNORED:
                late += self.judge(outcome, count, batch.reason)
        return late

    def judge(self, outcome: Outcome, count: int, reason: str) -> int:
        """Count a run in closed and open the circuit if a rule is broken; returns what was left of the run."""
        broken_at = self.window().breaking(outcome, count, self.policy)
        self.count(outcome, broken_at or count, reason)
        rule = self.window().broken(self.policy) if broken_at else None
        if rule is None:
            return 0
        self.trip(rule)
        return count - broken_at

    def count(self, outcome: Outcome, count: int, reason: str) -> None:
        """Add a run to the window."""
        draft = self.draft
        draft.buckets = counted(draft.buckets, self.now, outcome, count, self.policy)
        if outcome in FAILURES:
            draft.reason = reason or draft.reason
        else:
            draft.blocked_times = 0

    def window(self) -> WindowCounts:
        """What the window adds up to now."""
        return tally(self.draft.buckets, self.now, self.policy)

    # -- half-open --------------------------------------------------------------------------------------------------------------

    def hear(self, token: str, outcome: Outcome, reason: str) -> int:
        """Hear a probe's result; returns how many results counted, 1 or 0."""
        draft = self.draft
        held = tuple(lease for lease in draft.leases if lease.token != token)
        if len(held) == len(draft.leases):
            return 0
        draft.leases = held
        if outcome in FAILURES:
            draft.reason = reason or draft.reason
            self.trip(TransitionRule.PROBE)
        elif outcome is Outcome.SLOW_SUCCESS and self.policy.slow_call_duration is not None:
            self.trip(TransitionRule.SLOW_RATE)
        elif outcome is not Outcome.IGNORED:
            self.succeed()
        return 1

    def succeed(self) -> None:
        """Count a probe that succeeded, and close when it was the last that was needed."""
        self.draft.blocked_times = 0
        self.draft.successes += 1
        if self.draft.successes >= self.policy.successes_to_close:
            self.recover()

    def recover(self) -> None:
        """Close: the probes have shown that the client is back."""
        self.move(CircuitState.CLOSED, TransitionRule.PROBE, reason=self.draft.reason)
        self.draft.closed_at = self.now

    def lend(self, token: str) -> bool:
        """Grant a lease if there is one to be had."""
        draft = self.draft
        if not token or draft.blocked_until > self.now:
            return False
        if draft.state is CircuitState.OPEN and draft.until <= self.now:
            self.move(CircuitState.HALF_OPEN, TransitionRule.LAPSED, reason=draft.reason)
        if draft.state is not CircuitState.HALF_OPEN:
            return False
        live = [lease for lease in draft.leases if lease.expiry > self.now]
        if any(lease.token == token for lease in live):
            return True
        if not self.room(len(live)):
            return False
        gone = [lease for lease in draft.leases if lease.expiry <= self.now and lease.token != token]
        draft.leases = (
            *gone[-_REMEMBERED:],
            *live,
            Lease(token, self.now + round(1000 * self.policy.probe_lease)),
        )
        return True

    def room(self, live: int) -> bool:
        """May another probe go out beside *live* ones?"""
        most = max(self.policy.half_open_probes, self.policy.successes_to_close)
        return live < self.policy.half_open_probes and live + self.draft.successes < most

    # -- moves ------------------------------------------------------------------------------------------------------------------

    def trip(self, rule: TransitionRule) -> None:
        """Open, longer each time."""
        draft = self.draft
        calm = draft.state is CircuitState.CLOSED and self.now - draft.closed_at >= round(
            1000 * self.policy.window
        )
        opens = 1 if calm else draft.opens + 1
        reason = rule.value if rule is TransitionRule.SLOW_RATE else draft.reason or rule.value
        self.move(CircuitState.OPEN, rule, reason=reason, wait=opening(opens, self.request.draw, self.policy))
        draft.opens = opens

    def move(
        self, state: CircuitState, rule: TransitionRule, *, reason: str = "", actor: str = "", wait: int = 0
    ) -> None:
        """Begin a new epoch in *state*; *wait* milliseconds long, -1 without end, 0 where time does not end it."""
        draft, window = self.draft, self.window()
        before, draft.state = draft.state, state
        draft.epoch = max(draft.epoch + 1, self.now)
        draft.until = self.now + wait if wait > 0 else 0
        draft.leases, draft.buckets, draft.successes = (), (), 0
        draft.reason = "" if state is CircuitState.CLOSED else reason
        draft.actor = "" if state is CircuitState.CLOSED else actor
        moved = Transition(
            client=self.request.client,
            epoch=draft.epoch,
            at_ms=self.now,
            from_state=before,
            to_state=state,
            rule=rule,
            reason=reason,
            actor=actor,
            calls=window.calls,
            failures=window.failures,
            wait_ms=wait,
        )
        self.moves.append(moved)

    def obey(self, order: Order) -> None:
        """Carry out an operator's order, or put back what a store forgot."""
        wait = -1 if order.seconds is None else max(1, round(1000 * order.seconds))
        match order.operation:
            case Operation.OPEN | Operation.DISABLE:
                state = _ORDERED[order.operation]
                self.move(state, TransitionRule.OPERATOR, reason=order.reason, actor=order.actor, wait=wait)
            case Operation.CLOSE | Operation.RESET:
                self.close(order, forget=order.operation is Operation.RESET)
            case Operation.RESTORE:
                self.restore(order, wait)

    def restore(self, order: Order, wait: int) -> None:
        """Put back what somebody saw in an epoch that is younger than what the store remembers."""
        draft, state = self.draft, order.state
        idle = state is draft.state is CircuitState.CLOSED
        if draft.epoch >= order.epoch or state is CircuitState.HALF_OPEN or idle:
            return
        draft.epoch = order.epoch
        wait = 0 if state is CircuitState.CLOSED else wait
        self.move(state, TransitionRule.RESTORED, reason=order.reason, actor=order.actor, wait=wait)
        draft.opens = int(state is CircuitState.OPEN)

    def close(self, order: Order, *, forget: bool) -> None:
        """Admit calls again; does nothing to a circuit that has nothing to end or to forget.

        To a circuit without memory it gives one: otherwise those who remember an opening would put it back over this order.
        """
        draft = self.draft
        blocked = draft.blocked_until > self.now
        history = draft.opens or draft.blocked_times or draft.buckets
        idle = draft.state is CircuitState.CLOSED and not blocked and not (forget and history)
        if idle and draft.epoch:
            return
        self.move(CircuitState.CLOSED, TransitionRule.OPERATOR, reason=order.reason, actor=order.actor)
        draft.closed_at = self.now
        draft.blocked_until, draft.blocked_by = 0, ""
        if forget:
            draft.opens = draft.blocked_times = draft.closed_at = 0

    def cool(self, epoch: int, cooldown: Cooldown) -> None:
        """Lengthen the cool-down."""
        draft, seconds = self.draft, cooldown.seconds
        if cooldown.growing:
            running = draft.blocked_until > self.now and draft.blocked_by == cooldown.reason
            if running or epoch != draft.epoch:
                return
            seconds *= 2.0 ** min(draft.blocked_times, _STEEPEST)
            draft.blocked_times += 1
        until = self.now + round(1000 * min(seconds, cooldown.cap))
        if until > max(draft.blocked_until, self.now):
            draft.blocked_until, draft.blocked_by = until, cooldown.reason

    # -- the retry budget -------------------------------------------------------------------------------------------------------

    def draw_retries(self) -> None:
        """Let attempts pay in and retries take out."""
        request, draft = self.request, self.draft
        if (request.tries or request.retries) and self.policy.retry_ratio is not None:
            draft.owed = retry_budget.drawn(self.owed(), request.tries, request.retries, self.policy)
            draft.owed_at = self.now if draft.owed else 0

    def owed(self) -> int:
        """What is missing from the bucket now."""
        return retry_budget.refilled(self.draft.owed, self.now - self.draft.owed_at, self.policy)

    # -- the reply --------------------------------------------------------------------------------------------------------------

    def reply(self, *, permit: bool, late: int) -> StepReply:
        """Say how things stand."""
        draft, window = self.draft, self.window()
        blocked = max(0, draft.blocked_until - self.now)
        return StepReply(
            state=draft.state,
            epoch=draft.epoch,
            now_ms=self.now,
            wait_ms=self.wait(),
            blocked_ms=blocked,
            permit=permit,
            successes=window.successes,
            failures=window.failures,
            slow=window.slow,
            streak=window.streak,
            reason=draft.reason,
            blocked_by=draft.blocked_by if blocked else "",
            actor=draft.actor,
            late=late,
            owed=self.owed(),
            transitions=tuple(self.moves),
        )

    def wait(self) -> int:
        """Milliseconds until the state may change by itself."""
        draft = self.draft
        if draft.state is CircuitState.HALF_OPEN:
            live = [lease.expiry for lease in draft.leases if lease.expiry > self.now]
            return min(live) - self.now if live and not self.room(len(live)) else 0
        if draft.state in _OVERRIDES and not draft.until:
            return -1
        return 0 if draft.state is CircuitState.CLOSED else max(0, draft.until - self.now)
