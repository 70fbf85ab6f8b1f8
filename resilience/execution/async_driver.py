"""Drive a call on an event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from resilience.execution.call import Call
from resilience.execution.effects import Admit, Answer, Ask, Reply, TimeLimitReached


async def run_async(call: Call, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[Any, str]:
    """Carry out the effects of *call* with coroutines.

    Args:
        call: a call that has not started; the functions it asks are coroutine functions.
        args: positional arguments of the function.
        kwargs: keyword arguments of the function.

    Returns:
        The result and the name of the client that gave it.

    Raises:
        Exception: as `Call.run`.
    """
    context, clock = call.context, call.context.services.clock
    monotonic = clock.monotonic
    context.start(monotonic(), clock.time())
    steps = call.run()
    try:
        effect = steps.send(None)
        while True:
            reply: Reply
            try:
                # The two usual effects are carried out here: a coroutine for each would cost every call a microsecond.
                if isinstance(effect, Ask):
                    if effect.timeout is None:
                        reply = Answer(await effect.function(*args, **kwargs))
                    else:
                        reply = await _ask_within(effect, effect.timeout, args, kwargs)
                elif isinstance(effect, Admit):
                    reply = await context.services.breaker.admit(effect.client)
                else:
                    await clock.sleep(effect.seconds)
                    reply = None
            except Exception as exc:  # noqa: BLE001 - a failure of the client, or a refusal: the engine classifies it
                reply = exc
            except BaseException as exc:  # a cancellation
                context.now = monotonic()
                steps.throw(exc)  # never returns: the engine gives the permit back and raises it again
                raise
            context.now = monotonic()
            effect = steps.send(reply)
    except StopIteration as stop:
        result: tuple[Any, str] = stop.value
        return result


async def _ask_within(effect: Ask, seconds: float, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Reply:
    limit = asyncio.timeout(seconds)
    try:
        async with limit:
            return Answer(await effect.function(*args, **kwargs))
    except TimeoutError as exc:
        if not limit.expired():  # a TimeoutError of the client itself
            return exc
        reached = TimeLimitReached()
        reached.__cause__ = exc
        return reached
