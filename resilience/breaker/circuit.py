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

Cool-downs stand beside the state, and their end only moves later. Each one for the same reason is longer than the one before, until a
call succeeds (`cooldowns.py`).

The ramp. After a cool-down, and after a closing by probes, a closed circuit lets its traffic back in by steps that double: one attempt
(four after a closing) in the first 100 ms, then twice as many in each step (`ramp.py`). A process asks for attempts, and gets at most
what is left of the step. After two seconds the ramp is over and every call is admitted. A transition ends the ramp; a cool-down starts it
again.

Refused requests. A *rejected* result changes no window. It adds to the row of requests that the provider refused as wrong, and a success
ends the row. `rejections.py` says when the row shows a client that refuses everything. No state depends on it.

The retry budget. A token bucket for retries stands beside the state, one for the whole fleet. No transition or order fills or empties
it, and it is used in every state. It starts full, with retry_burst tokens. Every attempt pays in retry_ratio when it ends, whatever its
outcome and its epoch; probes too. Every retry, when it is decided, takes out one token and what it will pay in itself: so only first
tries add tokens. The bucket also refills by retry_floor tokens a minute. What exceeds a full bucket is lost. Within one request,
attempts pay in before retries take out. The circuit itself refuses no retry: a process retries only if at least one token is left.
Several processes may take the same last token and overdraw the bucket; the deficit is made up before anyone retries again. Over any
period the retries of a fleet are at most retry_burst + retry_ratio * first tries + retry_floor * minutes, plus one overdraft. The
data holds what is missing from a full bucket (`retry_budget.py`).

Lost memory. A store may be emptied, or come back with an older copy of the circuit. Epochs only grow, so a process that saw a later
epoch notices. It asks to restore what it saw. The circuit obeys only while its own epoch is older: so once. It does not obey over an
operator's order that is in effect in a circuit that began after the loss.

Clocks and limits. The store's clock can go back, after a failover or because it was set. Then every time in the data moves back by the
same amount, and that is saved. What is longer than the current policy allows is cut to it (`limits.py`), and a half-open circuit that
already has the required successes closes: new thresholds take effect with the first step after a deploy, and damaged data does no lasting
harm.

Change together: this file; `cooldowns.py`, `leases.py`, `limits.py`, `orders.py`, `ramp.py`, `rejections.py`, `results.py`,
`retry_budget.py`, `state.py`, `window.py` and `working_copy.py`; and `stores/step.lua`, which does the same under the same names.
"""

from __future__ import annotations

from resilience.breaker import leases, ramp, rejections, retry_budget
from resilience.breaker.cooldowns import cool_down
from resilience.breaker.limits import cut_to_policy
from resilience.breaker.messages import StepReply, StepRequest, TransitionRule
from resilience.breaker.operator_orders import OVERRIDES, apply_order
from resilience.breaker.policy import BreakerPolicy
from resilience.breaker.results import apply_batch, count_results
from resilience.breaker.state import CircuitData, CircuitState, move_times_back
from resilience.breaker.working_copy import WorkingCopy


def step(data: CircuitData, now: int, request: StepRequest) -> tuple[CircuitData, StepReply]:
    """Apply one request to a circuit and describe the result.

    The order matters and is the same in step.lua: clock, expired override, order, new thresholds, results, cool-downs, retry budget,
    probe, ramp. Results come before the requests for a probe and for attempts, so that a process that reports a failure is not granted
    any by the same step.

    Args:
        data: the circuit; not changed.
        now: the store's time in milliseconds.
        request: the results to count, and what is asked for.

    Returns:
        The data to save, equal to *data* if nothing has to be written, and the reply.
    """
    copy = WorkingCopy(data, now, request)
    _adjust_clock(copy)
    _expire(copy)
    if request.order is not None:
        apply_order(copy, request.order)
    late = admitted = 0
    granted = False
    if request.policy is not None:
        copy.damaged = cut_to_policy(copy.draft, now, request.policy)
        _close_if_enough(copy)
        late = sum(apply_batch(copy, batch) for batch in request.batches)
        rejections.note_kinds(copy.draft, request)
        for epoch, cooldown in request.cooldowns:
            cool_down(copy.draft, now, epoch, cooldown, request.policy)
        retry_budget.update_budget(copy.draft, now, request, request.policy)
        granted = _acquire_probe(copy, request.token)
        admitted = ramp.admit(copy.draft, now, request.wanted)
    if copy.draft != data:
        copy.draft.at = now
    return copy.draft, _reply(copy, granted=granted, admitted=admitted, late=late)


def observe(data: CircuitData, now: int, request: StepRequest) -> CircuitData:
    """Count the results of a closed circuit without judging them.

    While the store decides, a process keeps its offline circuits up to date with this: when the store fails they know the window.
    Arguments are those of `step`. The data that is returned never has another state.
    """
    copy = WorkingCopy(data, now, request)
    _adjust_clock(copy)
    if data.state is CircuitState.CLOSED:
        for batch in request.batches:
            if batch.epoch == data.epoch:
                for outcome, count in batch.runs:
                    count_results(copy, outcome, count, batch.reason)
    return copy.draft


def _adjust_clock(copy: WorkingCopy) -> None:
    """Move every time back by as much as the store's clock went back.

    Otherwise an open circuit would stay open for the length of the jump. A clock that goes forward needs nothing: it only ends openings
    early.
    """
    jump = copy.draft.at - copy.now
    if jump > 0:
        move_times_back(copy.draft, jump)


def _expire(copy: WorkingCopy) -> None:
    """End an override whose time is over."""
    draft = copy.draft
    if draft.state in OVERRIDES and 0 < draft.state_until <= copy.now:
        copy.move(CircuitState.CLOSED, TransitionRule.LAPSED, reason=draft.reason)


def _close_if_enough(copy: WorkingCopy) -> None:
    """Close a half-open circuit that has the successes which the policy requires: a deploy may have lowered their number."""
    draft = copy.draft
    if draft.state is CircuitState.HALF_OPEN and draft.successes >= copy.policy.successes_to_close:
        copy.recover()


def _acquire_probe(copy: WorkingCopy, token: str) -> bool:
    """Grant a lease to *token* if one is free. Return whether *token* holds a live lease now."""
    draft, now, policy = copy.draft, copy.now, copy.policy
    if not token or draft.cooldown_until > now:
        return False
    if draft.state is CircuitState.OPEN and draft.state_until <= now:
        copy.move(CircuitState.HALF_OPEN, TransitionRule.LAPSED, reason=draft.reason)
    if draft.state is not CircuitState.HALF_OPEN:
        return False
    live = leases.live(draft.leases, now)
    if any(lease.token == token for lease in live):
        return True
    if not leases.has_free(len(live), draft.successes, policy):
        return False
    draft.leases = leases.grant(draft.leases, token, now, policy)
    return True


def _reply(copy: WorkingCopy, *, granted: bool, admitted: int, late: int) -> StepReply:
    """Describe the circuit after this step."""
    draft, now, window = copy.draft, copy.now, copy.window()
    cooldown_ms = max(0, draft.cooldown_until - now)
    return StepReply(
        state=draft.state,
        epoch=draft.epoch,
        now_ms=now,
        wait_ms=_wait_ms(draft, now, copy.policy),
        cooldown_ms=cooldown_ms,
        granted=granted,
        admitted=admitted,
        ramp_ms=ramp.wait_ms(draft, now),
        successes=window.successes,
        failures=window.failures,
        slow=window.slow,
        streak=window.streak,
        rejected=draft.rejected,
        rejected_functions=draft.rejected_functions,
        rejected_requests=draft.rejected_requests,
        reason=draft.reason,
        cooldown_reason=draft.cooldown_reason if cooldown_ms else "",
        actor=draft.actor,
        born_at=draft.born_at,
        late=late,
        budget_used=retry_budget.budget_used(draft, now, copy.policy),
        damaged=copy.damaged,
        transitions=tuple(copy.transitions),
    )


def _wait_ms(draft: CircuitData, now: int, policy: BreakerPolicy) -> int:
    """Return the milliseconds until the state may change by itself: -1 never, 0 if time does not change it.

    In half-open it is the time until the next lease expires, if none is free.
    """
    if draft.state is CircuitState.HALF_OPEN:
        live = leases.live(draft.leases, now)
        free = leases.has_free(len(live), draft.successes, policy)
        return min(lease.expiry for lease in live) - now if live and not free else 0
    if draft.state in OVERRIDES and not draft.state_until:
        return -1
    return 0 if draft.state is CircuitState.CLOSED else max(0, draft.state_until - now)
