"""The data format between the Redis store and `step.lua`: its ARGV, its reply, and the entries of the transition stream. Pure.

Change together: this module and the head of step.lua, which lists the same fields.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any, Final

from resilience.breaker import ramp, retry_budget
from resilience.breaker.messages import Order, Outcome, StepReply, StepRequest, Transition, TransitionRule
from resilience.breaker.policy import BreakerPolicy
from resilience.breaker.state import LONGEST_TEXT, CircuitState
from resilience.breaker.stores.checks import LATEST_MS, checked_transition

# One letter each: step.lua reads runs such as "s12f3" with the pattern (%a)(%d+).
_LETTERS: Final = {
    Outcome.SUCCESS: "s",
    Outcome.FAILURE: "f",
    Outcome.SLOW_SUCCESS: "l",
    Outcome.SLOW_FAILURE: "g",
    Outcome.REJECTED: "r",
    Outcome.IGNORED: "i",
}
# In a reply a transition is a list in this order; in the stream it has these names. step.lua has both.
_TRANSITION_FIELDS: Final = (
    "epoch",
    "at_ms",
    "from_state",
    "to_state",
    "rule",
    "reason",
    "actor",
    "calls",
    "failures",
    "wait_ms",
)


_MAX_NUMBER: Final = 2**53  # Lua's numbers are exact up to here
_FAILURES: Final = frozenset({Outcome.FAILURE, Outcome.SLOW_FAILURE})
_SUCCESSES: Final = frozenset({Outcome.SUCCESS, Outcome.SLOW_SUCCESS})


# Every command carries the policy, and a fleet has few policies: each is encoded once.
@lru_cache(maxsize=256)
def encode_policy(policy: BreakerPolicy) -> str:
    """Return ARGV[1]. Durations that the script compares with its clock are converted to milliseconds here."""
    slow_call_rate = policy.slow_call_rate if policy.slow_call_duration is not None else -1
    return _json(
        {
            "window": round(1000 * policy.window),
            "min_calls": policy.min_calls,
            "failure_rate": policy.failure_rate,
            "consecutive_failures": policy.consecutive_failures,
            "slow_call_rate": slow_call_rate,
            # Lengths of openings stay in seconds: the script multiplies
            # them first and rounds once, as `open_duration_ms` does.
            "open_for": policy.open_for,
            "open_growth": policy.open_growth,
            "open_max": policy.open_max,
            "open_jitter": policy.open_jitter,
            "half_open_probes": policy.half_open_probes,
            "successes_to_close": policy.successes_to_close,
            "probe_lease": round(1000 * policy.probe_lease),
            "longest_open": policy.longest_open_ms,
            "longest_cooldown": policy.longest_cooldown_ms,
            "deposit": retry_budget.deposit(policy),
            "largest_deficit": retry_budget.largest_deficit(policy),
            "retry_floor": policy.retry_floor,
        }
    )


def encode_request(request: StepRequest) -> str:
    """Return ARGV[2]. Parts that are absent are left out."""
    fields: dict[str, Any] = {
        "mode": "look" if request.read_only else "step" if request.policy else "order",
        "jitter_sample": request.jitter_sample,
    }
    if request.token:
        fields["token"] = request.token
    if request.order:
        fields["order"] = _order(request.order)
    counts = ("wanted", "attempts", "retries", "rejected_functions", "rejected_requests")
    fields |= {name: count for name in counts if (count := getattr(request, name))}
    if request.batches:
        fields["batches"] = [
            (batch.epoch, batch.token, _text(batch.reason), _runs(batch.runs)) for batch in request.batches
        ]
    if request.cooldowns:
        fields["cooldowns"] = [
            (
                epoch,
                # A stated wait may be infinite, which JSON cannot carry; the maximum never is.
                min(cooldown.seconds, cooldown.max_seconds),
                cooldown.max_seconds,
                int(cooldown.doubling),
                _text(cooldown.reason),
            )
            for epoch, cooldown in request.cooldowns
        ]
    return _json(fields)


def _order(order: Order) -> tuple[str, str, str, int, str, int, int]:
    # At least 1 ms, as in `apply_order` of circuit.py: an override with a wait of 0 would last until another order.
    wait = -1 if order.seconds is None else max(1, round(1000 * order.seconds))
    texts = order.operation, _text(order.actor), _text(order.reason)
    return *texts, wait, order.state, order.epoch, order.born_at


def _runs(runs: Iterable[tuple[Outcome, int]]) -> str:
    return "".join(f"{_LETTERS[outcome]}{count}" for outcome, count in runs)


def _text(text: str) -> str:
    """Return *text* with lone surrogates written as escapes, since UTF-8 cannot carry them, and as long as the script reads."""
    return text.encode("utf-8", "backslashreplace")[:LONGEST_TEXT].decode(errors="ignore")


def _json(value: Mapping[str, Any]) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def decode_reply(request: StepRequest, reply: Sequence[Any]) -> StepReply:
    """Return what the script replied to *request*. The order is that of "Returns" in the head of step.lua.

    A server that does not run the script may reply anything. A reply that the script cannot have made is refused; one that claims more
    than the policy allows is cut to it, so that no reply can stop the calls of this process for longer than an opening may last.

    Raises:
        ValueError: it is no reply of the script.
        TypeError: likewise.
    """
    found = _decode(request.client, reply)
    if not _has_counted(request, found):
        msg = "the server does not keep the results that it is sent"
        raise ValueError(msg)
    return found if request.policy is None else _cut(found, request, request.policy)


def unreadable_fields(reply: Sequence[Any]) -> int:
    """Return how many fields of the circuit the script could not read."""
    return int(reply[23])


def _has_counted(request: StepRequest, reply: StepReply) -> bool:
    """Return whether the window shows the results of *request*, where the script must have counted them.

    It counts them if the circuit is closed, their epoch is its own, and the step made no transition, which would empty the window.
    """
    if reply.state is not CircuitState.CLOSED or reply.transitions or reply.late:
        return True
    sent = [
        run
        for batch in request.batches
        if batch.epoch == reply.epoch and not batch.token
        for run in batch.runs
    ]
    failures = sum(count for outcome, count in sent if outcome in _FAILURES)
    successes = sum(count for outcome, count in sent if outcome in _SUCCESSES)
    return reply.failures >= failures and reply.successes >= successes


def _cut(reply: StepReply, request: StepRequest, policy: BreakerPolicy) -> StepReply:
    """Cut what a reply says to what the policy allows. An order without end is not cut, nor is one with an end."""
    longest = {
        CircuitState.OPEN: policy.longest_open_ms,
        CircuitState.HALF_OPEN: round(1000 * policy.probe_lease),
    }
    wait = min(reply.wait_ms, longest.get(reply.state, reply.wait_ms))
    asked = [round(1000 * cooldown.max_seconds) for _, cooldown in request.cooldowns]
    cooldown = min(reply.cooldown_ms, max(policy.longest_cooldown_ms, *asked, 0))
    admitted, ramp_ms = min(reply.admitted, request.wanted), min(reply.ramp_ms, ramp.STEP_MS)
    if (wait, cooldown, admitted, ramp_ms) == (
        reply.wait_ms,
        reply.cooldown_ms,
        reply.admitted,
        reply.ramp_ms,
    ):
        return reply
    return replace(
        reply, wait_ms=wait, cooldown_ms=cooldown, admitted=admitted, ramp_ms=ramp_ms, damaged=True
    )


def _decode(client: str, reply: Sequence[Any]) -> StepReply:
    _check_types(reply)
    state, epoch, now, wait, cooldown, granted, successes, failures, slow, streak = reply[:10]
    # The value left out is `created`, which concerns the store alone: see `_decode` in redis.py.
    reason, cooldown_reason, actor, late, _, budget_used, admitted, ramp_ms = reply[10:18]
    rejected, rejected_functions, rejected_requests, born_at, damaged = reply[18:23]
    return StepReply(
        state=CircuitState(state),
        epoch=epoch,
        now_ms=now,
        wait_ms=wait,
        cooldown_ms=cooldown,
        granted=granted == 1,
        admitted=admitted,
        ramp_ms=ramp_ms,
        successes=successes,
        failures=failures,
        slow=slow,
        streak=streak,
        rejected=rejected,
        rejected_functions=rejected_functions,
        rejected_requests=rejected_requests,
        born_at=born_at,
        reason=reason,
        cooldown_reason=cooldown_reason,
        actor=actor,
        late=late,
        budget_used=budget_used,
        damaged=damaged == 1,
        transitions=tuple(
            decode_transition(client, dict(zip(_TRANSITION_FIELDS, values, strict=True)))
            for values in reply[24:]
        ),
    )


_NUMBERS: Final = (*range(1, 10), 13, *range(15, 24))
_TEXTS: Final = (0, 10, 11, 12)


def _check_types(reply: Sequence[Any]) -> None:
    """Check that the parts of a reply are what they should be. The sync thread calculates with them after the step.

    Raises:
        ValueError: one is of another type or size.
    """
    numbers = (
        isinstance(reply, list)
        and len(reply) > max(_NUMBERS)
        and all(isinstance(reply[n], int) and -1 <= reply[n] <= _MAX_NUMBER for n in _NUMBERS)
    )
    if not numbers or not all(isinstance(reply[n], str) for n in _TEXTS) or reply[2] > LATEST_MS:
        msg = "the server replied what no script of this package replies"
        raise ValueError(msg)


def decode_transition(client: str, fields: Mapping[str, Any], cursor: str = "") -> Transition:
    """Return a transition that came in a reply or in the stream.

    Raises:
        KeyError: a field is missing.
        ValueError: a field has a value that this version does not know, or that none can have written.
        TypeError: likewise.
    """
    return checked_transition(
        Transition(
            client=client,
            # int(): a reply has numbers, but an entry of the stream has texts.
            epoch=int(fields["epoch"]),
            at_ms=int(fields["at_ms"]),
            from_state=CircuitState(fields["from_state"]),
            to_state=CircuitState(fields["to_state"]),
            rule=TransitionRule(fields["rule"]),
            reason=fields["reason"],
            actor=fields["actor"],
            calls=int(fields["calls"]),
            failures=int(fields["failures"]),
            wait_ms=int(fields["wait_ms"]),
            cursor=cursor,
        )
    )
