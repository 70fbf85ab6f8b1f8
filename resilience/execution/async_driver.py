"""Drive a call on an event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from resilience.errors import CircuitOpenError
from resilience.execution.client_attempts import Steps
from resilience.execution.context import CallContext
from resilience.execution.effects import (
    ABORT_POLL,
    Admit,
    Ask,
    Effect,
    ProbeBeside,
    Reply,
    Returned,
    Sleep,
    TimeLimitReached,
)
from resilience.execution.planned_call import PlannedCall, begin


class Engine(Protocol):
    """What a driver runs: a `Call`, or a `Probe`."""

    @property
    def context(self) -> CallContext:
        """How far it has come."""

    def run(self) -> Steps[tuple[Any, str]]:
        """Yield effects, and return the result and the name of the client that gave it."""


async def call_async(
    planned: PlannedCall, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> tuple[Any, str]:
    """Make a call whose functions are coroutine functions. Its engine is made only if something has to be decided.

    Args:
        planned: a call that has not started.
        args: positional arguments of the function.
        kwargs: keyword arguments of the function.

    Returns:
        The result and the name of the client that gave it.

    Raises:
        Exception: as `Call.run`.
    """
    if not planned.open():
        return await run_async(planned.engine(), args, kwargs)
    reply: Returned | Exception
    try:
        if planned.limit is None:
            reply = Returned(await planned.attempt(*args, **kwargs))
        else:
            reply = await _ask_within(planned.attempt, planned.limit, args, kwargs)
    except Exception as exc:  # noqa: BLE001 - the engine classifies it
        reply = exc
    except BaseException as exc:  # a cancellation
        planned.interrupt(exc)  # raises it again
        raise
    if isinstance(reply, Returned):
        return planned.answered(reply.result), planned.preferred
    try:
        return await run_async(planned.engine(), args, kwargs, reply)
    finally:
        del reply  # as in run_async


async def run_async(
    call: Engine, args: tuple[Any, ...], kwargs: Mapping[str, Any], first: Exception | None = None
) -> tuple[Any, str]:
    """Carry out the effects of *call* with coroutines.

    Args:
        call: an engine that has not run; the functions it asks are coroutine functions.
        args: positional arguments of the function.
        kwargs: keyword arguments of the function.
        first: the reply to the first effect, where it was carried out already; see `PlannedCall.engine`.

    Returns:
        The result and the name of the client that gave it.

    Raises:
        Exception: as `Call.run`.
    """
    context, clock = call.context, call.context.services.clock
    monotonic = clock.monotonic
    context.arguments = (args, kwargs)
    steps = call.run()
    reply: Reply = None
    try:
        effect = begin(context, steps, first)
        while True:
            try:
                # The two usual effects are carried out here: a coroutine for each would cost every call a microsecond.
                if isinstance(effect, Ask):
                    if effect.timeout is None:
                        reply = Returned(await effect.function(*args, **kwargs))
                    else:
                        reply = await _ask_within(effect.function, effect.timeout, args, kwargs)
                elif isinstance(effect, Admit):
                    reply = await context.services.breaker.admit(effect.client, max_wait=effect.max_wait)
                else:
                    await _perform(context, effect, args, kwargs)
                    reply = None
            except Exception as exc:  # noqa: BLE001 - the engine classifies what may be a reply
                reply = _reply_of(effect, exc)
            except BaseException as exc:  # a cancellation
                context.now, context.interrupted = monotonic(), True
                steps.throw(exc)  # never returns: the engine gives the permit back and raises it again
                raise
            context.now = monotonic()
            effect = steps.send(reply)
    except StopIteration as stop:
        result: tuple[Any, str] = stop.value
        return result
    finally:
        steps.close()  # does nothing, unless a signal handler raised between two effects
        # The reply may be the error that is on its way to the caller, whose traceback holds this frame: a reference cycle.
        del reply, first


async def _perform(
    context: CallContext, effect: Effect, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> None:
    """Carry out an effect that is rare."""
    if isinstance(effect, Sleep):
        await _sleep(context, effect.seconds)
    elif isinstance(effect, ProbeBeside) and context.services.probes is not None:
        context.services.probes.start(context, effect.client, args, kwargs)


async def _sleep(context: CallContext, seconds: float) -> None:
    clock, abort = context.services.clock, context.abort
    if abort is None:
        await clock.sleep(seconds)
        return
    end = clock.monotonic() + seconds
    while not abort.is_set and (left := end - clock.monotonic()) > 0:
        await clock.sleep(min(ABORT_POLL, left))


def _reply_of(effect: Effect, exc: Exception) -> Exception:
    """Return *exc* if it is a failure of the client or a refusal. Anything else is raised: it must not pass for a permit."""
    if isinstance(effect, Ask) or isinstance(exc, CircuitOpenError):
        return exc
    raise exc


async def _ask_within(
    function: Callable[..., Any], seconds: float, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> Returned | Exception:
    limit = asyncio.timeout(seconds)
    try:
        async with limit:
            return Returned(await function(*args, **kwargs))
    except TimeoutError as exc:
        # A TimeoutError before the limit is the client's own.
        return _limit_reached(exc) if limit.expired() else exc


def _limit_reached(cause: TimeoutError) -> TimeLimitReached:
    # Not in the frame that caught the cause: its traceback holds that frame, and a local name would close a reference cycle.
    reached = TimeLimitReached()
    reached.__cause__ = cause
    return reached
