"""What travels between the Redis store and `step.lua`: its ARGV, its reply, and the entries of the transition stream. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any, Final

from resilience.breaker import retry_budget
from resilience.breaker.messages import Order, Outcome, StepReply, StepRequest, Transition, TransitionRule
from resilience.breaker.policy import BreakerPolicy
from resilience.breaker.state import CircuitState

_LETTERS: Final = {
    Outcome.SUCCESS: "s",
    Outcome.FAILURE: "f",
    Outcome.SLOW_SUCCESS: "l",
    Outcome.SLOW_FAILURE: "g",
    Outcome.IGNORED: "i",
}
_MOVED: Final = (
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


@lru_cache(maxsize=256)
def thresholds(policy: BreakerPolicy) -> str:
    """ARGV[1]."""
    slow = policy.slow_call_rate if policy.slow_call_duration is not None else -1
    return _json(
        {
            "window": round(1000 * policy.window),
            "min_calls": policy.min_calls,
            "failure_rate": policy.failure_rate,
            "consecutive": policy.consecutive_failures,
            "slow_rate": slow,
            "open_for": policy.open_for,
            "open_growth": policy.open_growth,
            "open_max": policy.open_max,
            "open_jitter": policy.open_jitter,
            "probes": policy.half_open_probes,
            "successes": policy.successes_to_close,
            "lease": round(1000 * policy.probe_lease),
            "longest": round(1000 * policy.open_max * (1 + policy.open_jitter)),
            "deposit": retry_budget.deposit(policy),
            "floor": policy.retry_floor,
        }
    )


def telling(request: StepRequest) -> str:
    """ARGV[2]."""
    told: dict[str, Any] = {
        "mode": "look" if request.looks else "step" if request.policy else "order",
        "draw": request.draw,
    }
    if request.token:
        told["token"] = request.token
    if request.order:
        told["order"] = _order(request.order)
    if request.tries:
        told["tries"] = request.tries
    if request.retries:
        told["retries"] = request.retries
    if request.batches:
        told["batches"] = [
            (each.epoch, each.token, _text(each.reason), _runs(each.runs)) for each in request.batches
        ]
    if request.cooldowns:
        told["cooldowns"] = [
            (epoch, min(each.seconds, each.cap), each.cap, int(each.growing), _text(each.reason))
            for epoch, each in request.cooldowns
        ]
    return _json(told)


def _order(order: Order) -> tuple[str, str, str, int, str, int]:
    wait = -1 if order.seconds is None else max(1, round(1000 * order.seconds))
    return order.operation, _text(order.actor), _text(order.reason), wait, order.state, order.epoch


def _runs(runs: Iterable[tuple[Outcome, int]]) -> str:
    return "".join(f"{_LETTERS[outcome]}{count}" for outcome, count in runs)


def _text(text: str) -> str:
    """A text without halves of surrogates, which no UTF-8 can carry."""
    return text.encode("utf-8", "backslashreplace").decode()


def _json(value: Mapping[str, Any]) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def reply_of(client: str, reply: Sequence[Any]) -> StepReply:
    """Read what the script returned."""
    state, epoch, now, wait, blocked, permit, successes, failures, slow, streak = reply[:10]
    reason, blocked_by, actor, late, _, owed = reply[10:16]
    return StepReply(
        state=CircuitState(state),
        epoch=epoch,
        now_ms=now,
        wait_ms=wait,
        blocked_ms=blocked,
        permit=permit == 1,
        successes=successes,
        failures=failures,
        slow=slow,
        streak=streak,
        reason=reason,
        blocked_by=blocked_by,
        actor=actor,
        late=late,
        owed=owed,
        transitions=tuple(transition_of(client, dict(zip(_MOVED, each, strict=True))) for each in reply[16:]),
    )


def transition_of(client: str, moved: Mapping[str, Any], cursor: str = "") -> Transition:
    """Read a transition, from a reply or from the stream."""
    return Transition(
        client=client,
        epoch=int(moved["epoch"]),
        at_ms=int(moved["at_ms"]),
        from_state=CircuitState(moved["from_state"]),
        to_state=CircuitState(moved["to_state"]),
        rule=TransitionRule(moved["rule"]),
        reason=moved["reason"],
        actor=moved["actor"],
        calls=int(moved["calls"]),
        failures=int(moved["failures"]),
        wait_ms=int(moved["wait_ms"]),
        cursor=cursor,
    )
