"""The data format between the Redis store and `step.lua`: its ARGV, its reply, and the entries of the transition stream. Pure.

Change together: this module and the head of step.lua, which lists the same fields.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any, Final

from resilience.breaker import retry_budget
from resilience.breaker.messages import Order, Outcome, StepReply, StepRequest, Transition, TransitionRule
from resilience.breaker.policy import BreakerPolicy
from resilience.breaker.state import CircuitState

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
    """Return *text* with lone surrogates written as escapes, since UTF-8 cannot carry them."""
    return text.encode("utf-8", "backslashreplace").decode()


def _json(value: Mapping[str, Any]) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def decode_reply(client: str, reply: Sequence[Any]) -> StepReply:
    """Return what the script replied. The order is that of "Returns" in the head of step.lua.

    Raises:
        ValueError: it is no reply of the script.
        TypeError: likewise.
    """
    _check_types(reply)
    state, epoch, now, wait, cooldown, granted, successes, failures, slow, streak = reply[:10]
    # The value left out is `created`, which concerns the store alone: see `_decode` in redis.py.
    reason, cooldown_reason, actor, late, _, budget_used, admitted, ramp_ms = reply[10:18]
    rejected, rejected_functions, rejected_requests, born_at = reply[18:22]
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
        transitions=tuple(
            decode_transition(client, dict(zip(_TRANSITION_FIELDS, values, strict=True)))
            for values in reply[22:]
        ),
    )


_NUMBERS: Final = (*range(1, 10), 13, *range(15, 22))
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
    if not numbers or not all(isinstance(reply[n], str) for n in _TEXTS):
        msg = "the server replied what no script of this package replies"
        raise ValueError(msg)


def decode_transition(client: str, fields: Mapping[str, Any], cursor: str = "") -> Transition:
    """Return a transition that came in a reply or in the stream.

    Raises:
        KeyError: a field is missing.
        ValueError: a field has a value that this version does not know.
    """
    return Transition(
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
