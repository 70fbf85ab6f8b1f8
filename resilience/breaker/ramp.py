"""The ramp: how a closed circuit lets its traffic back in, in steps of 100 ms that double. Pure.

A whole fleet waits for the end of a cool-down, and for the closing of a circuit. Without a ramp all of it would ask in the same instant
and trip the client's limit again. So the first step admits one attempt after a cool-down, or four after a closing, and each further step
twice as many as the one before. Answers may take seconds: so no success is waited for, only time passes. A refusal starts the next
cool-down, and with it a new ramp. After `STEPS` steps the ramp is over. By then it would admit a million attempts in one step.

After a cool-down the ramp begins with the first attempt that asks, not with the end of the cool-down: a client that nothing asks for a
while needs it too. After a closing it begins at once, for the probe was its first attempt.
What a step does not use is lost. A process gets the attempts of one step at a time, and no more than it has callers for.
"""

from __future__ import annotations

from typing import Final

from resilience.breaker.state import CircuitData, CircuitState

# step.lua has the same numbers.
STEP_MS: Final = 100
"""How long a step lasts, in milliseconds."""
STEPS: Final = 20
"""How many steps there are: two seconds."""
AFTER_COOLDOWN: Final = 1
"""Attempts in the first step after a cool-down: the client has just said that it has no room."""
AFTER_CLOSING: Final = 4
"""Attempts in the first step after a closing: a probe has just succeeded."""
REASON: Final = "recovering"
"""The reason of a `CircuitOpenError` for a call that waits for its turn in a ramp."""


def begin(data: CircuitData, first: int) -> None:
    """Let a ramp begin with the next attempt.

    Args:
        data: the circuit.
        first: attempts in the first step; 0 for no ramp.
    """
    data.ramp_first, data.ramp_at, data.ramp_step, data.ramp_used = first, 0, 0, 0


def end_if_over(data: CircuitData, now: int) -> None:
    """Forget a ramp whose last step is over, so that a busy circuit stays small."""
    if data.ramp_at and now - data.ramp_at >= STEPS * STEP_MS:
        begin(data, 0)


def admit(data: CircuitData, now: int, wanted: int) -> int:
    """Return how many of *wanted* attempts the ramp admits at *now* (milliseconds of the store's clock); 0 where there is no ramp."""
    if not (wanted and data.ramp_first and data.state is CircuitState.CLOSED) or data.cooldown_until > now:
        return 0
    if not data.ramp_at:
        data.ramp_at = now
    step = (now - data.ramp_at) // STEP_MS
    if step != data.ramp_step:
        data.ramp_step, data.ramp_used = step, 0
    admitted = min(wanted, max(0, (data.ramp_first << step) - data.ramp_used))
    data.ramp_used += admitted
    return admitted


def wait_ms(data: CircuitData, now: int) -> int:
    """Return the milliseconds until the next step; -1 if the ramp has not begun, 0 without one."""
    elapsed = now - data.ramp_at
    if not data.ramp_first or (data.ramp_at and elapsed >= STEPS * STEP_MS):
        return 0
    return STEP_MS - elapsed % STEP_MS if data.ramp_at else -1
