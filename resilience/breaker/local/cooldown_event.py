"""Cool-downs as events: a process reports the one that its results began. Pure."""

from __future__ import annotations

from resilience.breaker.messages import StepReply, StepRequest, Transition, TransitionRule


def cooldown_event(request: StepRequest, reply: StepReply, known_end_ms: int) -> Transition | None:
    """Return the event of a cool-down that *request* began or made longer; None if it did neither.

    The store keeps the end of a cool-down, and every reply states it exactly. So processes whose results asked for the same cool-down
    make the same event, and the history keeps it once.

    Args:
        request: a request with its cool-downs.
        reply: its reply.
        known_end_ms: the end that this process knew before, in milliseconds of the store's clock.
    """
    # The end is constant while the cool-down runs, whatever the time of the reply: both numbers come from the store's clock. So it
    # identifies the cool-down, as an epoch identifies a transition. The sign keeps the two apart in one column.
    end_ms = reply.now_ms + reply.cooldown_ms
    if not request.cooldowns or reply.cooldown_ms <= 0 or end_ms == known_end_ms:
        return None
    return Transition(
        client=request.client,
        epoch=-end_ms,
        at_ms=reply.now_ms,
        from_state=reply.state,
        to_state=reply.state,
        rule=TransitionRule.COOL_DOWN,
        reason=reply.cooldown_reason,
        calls=reply.successes + reply.failures,
        failures=reply.failures,
        wait_ms=reply.cooldown_ms,
    )
