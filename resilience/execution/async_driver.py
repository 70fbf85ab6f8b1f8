"""Drive a call on an event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from resilience.errors import CircuitOpenError
from resilience.execution.call import Call
from resilience.execution.effects import Admit, Answer, Ask, Effect, Reply, TimeLimitReached


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
    context.start(clock.monotonic(), clock.time())
    steps = call.run()
    reply: Reply = None
    try:
        while True:
            effect = steps.send(reply)
            try:
                reply = await _perform(call, effect, args, kwargs)
            except BaseException as exc:  # noqa: BLE001 - a cancellation: the engine returns the permit and raises it again
                context.now = clock.monotonic()
                steps.throw(exc)
            context.now = clock.monotonic()
    except StopIteration as stop:
        result: tuple[Any, str] = stop.value
        return result


async def _perform(call: Call, effect: Effect, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Reply:
    if isinstance(effect, Ask):
        return await _ask(effect, args, kwargs)
    if isinstance(effect, Admit):
        try:
            return await call.context.services.breaker.admit(effect.client)
        except CircuitOpenError as refusal:
            return refusal
    await call.context.services.clock.sleep(effect.seconds)
    return None


async def _ask(effect: Ask, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Answer | Exception:
    """Ask the client. Return what it raised instead of raising it: an exception here would be taken for a cancellation."""
    try:
        if effect.timeout is None:
            return Answer(await effect.function(*args, **kwargs))
        limit = asyncio.timeout(effect.timeout)
        try:
            async with limit:
                return Answer(await effect.function(*args, **kwargs))
        except TimeoutError as exc:
            if not limit.expired():  # a TimeoutError of the client itself
                return exc
            reached = TimeLimitReached()
            reached.__cause__ = exc
            return reached
    except Exception as exc:  # noqa: BLE001 - every failure of a client is classified; the caller gets it in the end
        return exc
