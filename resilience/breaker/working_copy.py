"""The working copy of one step, and the transitions that a step may make. Pure; the rules are those of `circuit.py`."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from resilience.breaker import ramp, rejections
from resilience.breaker.messages import StepRequest, Transition, TransitionRule
from resilience.breaker.policy import BreakerPolicy
from resilience.breaker.state import CircuitData, CircuitState
from resilience.breaker.window import WindowCounts, sum_buckets

_DEFAULT_POLICY: Final = BreakerPolicy()  # its window applies to requests without a policy


class WorkingCopy:
    """What one step changes: a copy of the circuit, and the transitions so far.

    Args:
        data: the circuit; not changed.
        now: the store's time in milliseconds.
        request: the request of the step.

    Attributes:
        draft: the copy, which becomes the circuit.
        policy: the thresholds of the request.
        transitions: the transitions of this step.
        damaged: whether the circuit had a time that no policy and no clock explains.
    """

    __slots__ = ("damaged", "draft", "now", "policy", "request", "transitions")

    def __init__(self, data: CircuitData, now: int, request: StepRequest) -> None:
        self.draft = replace(data)
        self.now = now
        self.request = request
        self.policy = request.policy or _DEFAULT_POLICY
        self.transitions: list[Transition] = []
        self.damaged = False

    def window(self) -> WindowCounts:
        """Return the sums of the window at this time."""
        return sum_buckets(self.draft.buckets, self.now, self.policy)

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

    def recover(self) -> None:
        """Close: the probes have shown that the client works again. Its traffic returns by a ramp."""
        self.move(CircuitState.CLOSED, TransitionRule.PROBE, reason=self.draft.reason)
        self.draft.closed_at = self.now
        if self.draft.cooldown_until <= self.now:
            ramp.begin(self.draft, ramp.AFTER_CLOSING)
            self.draft.ramp_at = self.now  # the probe was its first attempt

    def move(
        self, state: CircuitState, rule: TransitionRule, *, reason: str = "", actor: str = "", wait: int = 0
    ) -> None:
        """Go to *state* and begin a new epoch; *wait* is its length in milliseconds, -1 without end, 0 if time does not end it."""
        draft, window = self.draft, self.window()
        from_state, draft.state = draft.state, state
        draft.born_at = draft.born_at if draft.epoch else self.now
        draft.epoch = max(draft.epoch + 1, self.now)
        draft.state_until = self.now + wait if wait > 0 else 0
        draft.leases, draft.buckets, draft.successes = (), (), 0
        draft.reason = "" if state is CircuitState.CLOSED else reason
        draft.actor = "" if state is CircuitState.CLOSED else actor
        rejections.end_row(draft)
        # A cool-down outlives a transition, and so does the ramp that follows it.
        ramp.begin(draft, ramp.AFTER_COOLDOWN if draft.cooldown_until > self.now else 0)
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
