"""Drive a call on the caller's thread.

The caller waits on a lock or sleeps, which signal handlers that raise (Ctrl-C, the soft time limit of Celery) interrupt. Whatever
interrupts it, the client is aborted where that is possible, the permit is returned, and the exception goes on at once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from types import CoroutineType
from typing import Any, Final

from resilience.baml import SyncAttempt
from resilience.errors import CircuitOpenError, ForkedRuntimeError
from resilience.execution.call import Call
from resilience.execution.call_threads import BlockingCall, CallThreads
from resilience.execution.context import CallContext
from resilience.execution.effects import (
    ABORT_POLL,
    Admit,
    Ask,
    Effect,
    Reply,
    Returned,
    Sleep,
    TimeLimitReached,
)
from resilience.execution.planned_call import PlannedCall, begin
from resilience.greenlets import threads_are_greenlets

_threads: Final = CallThreads()


def call_sync(planned: PlannedCall, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[Any, str]:
    """Make a call whose functions are blocking functions. Its engine is made only if something has to be decided.

    Args:
        planned: a call that has not started.
        args: positional arguments of the function.
        kwargs: keyword arguments of the function.

    Returns:
        The result and the name of the client that gave it.

    Raises:
        Exception: as `Call.run`.
    """
    try:
        reply = _ask(Ask(planned.attempt, planned.limit), args, kwargs) if planned.open() else None
    except BaseException as exc:  # an interruption
        planned.interrupt(exc)  # raises it again
        raise
    if isinstance(reply, Returned):
        return planned.answered(reply.result), planned.preferred
    try:
        return run_sync(planned.engine(), args, kwargs, reply)
    finally:
        del reply  # as in run_sync


def run_sync(
    call: Call, args: tuple[Any, ...], kwargs: Mapping[str, Any], first: Exception | None = None
) -> tuple[Any, str]:
    """Carry out the effects of *call* on this thread.

    Args:
        call: an engine that has not run; the functions it asks are blocking functions.
        args: positional arguments of the function.
        kwargs: keyword arguments of the function.
        first: the reply to the first effect, where it was carried out already; see `PlannedCall.engine`.

    Returns:
        The result and the name of the client that gave it.

    Raises:
        Exception: as `Call.run`.
    """
    context, clock = call.context, call.context.services.clock
    context.arguments = (args, kwargs)
    steps = call.run()
    reply: Reply = first
    try:
        effect = begin(context, steps, first)
        while True:
            try:
                reply = _perform(call, effect, args, kwargs)
            except BaseException as exc:  # noqa: BLE001 - an interruption: the engine returns the permit and raises it again
                context.now, context.interrupted = clock.monotonic(), True
                steps.throw(exc)  # never returns: the engine gives the permit back and raises it again
            context.now = clock.monotonic()
            effect = steps.send(reply)
    except StopIteration as stop:
        result: tuple[Any, str] = stop.value
        return result
    except RuntimeError as exc:
        # No generator can raise a StopIteration. That of a client arrives here inside a RuntimeError (PEP 479).
        if not isinstance(reply, StopIteration) or exc.__cause__ is not reply:
            raise
        stopped = reply
    finally:
        # A signal may have raised between two effects: the engine returns the permit and records the end of the call.
        steps.close()
        # The reply may be the error that is on its way to the caller, whose traceback holds this frame: a reference cycle.
        del reply, first
    try:
        raise stopped
    finally:
        del stopped


def _perform(call: Call, effect: Effect, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Reply:
    if isinstance(effect, Ask):
        return _ask(effect, args, kwargs)
    if isinstance(effect, Admit):
        try:
            return call.context.services.breaker.admit_blocking(effect.client, max_wait=effect.max_wait)
        except CircuitOpenError as refusal:
            return refusal
    if isinstance(effect, Sleep):  # a probe beside the call is never asked for here
        _sleep(call.context, effect.seconds)
    return None


def _sleep(context: CallContext, seconds: float) -> None:
    clock, abort = context.services.clock, context.abort
    if abort is None:
        clock.sleep_blocking(seconds)
        return
    end = clock.monotonic() + seconds
    while not abort.is_set and (left := end - clock.monotonic()) > 0:
        clock.sleep_blocking(min(ABORT_POLL, left))


def _ask(effect: Ask, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Returned | Exception:
    function = effect.function
    attempt = function if isinstance(function, SyncAttempt) else None
    if attempt is not None:
        try:
            function = attempt.begin()
        except ForkedRuntimeError as exc:  # classified like other failures
            return exc  # only this one: a signal handler may raise anything else here
    task = _start(partial(function, *args, **kwargs), attempt)
    try:
        finished = _wait(task, effect.timeout, attempt)
    except BaseException:
        _leave(task, attempt)
        raise
    if not finished:
        _leave(task, attempt)
        return TimeLimitReached()
    # Taken away from the task: the traceback of the error holds a frame that holds the task, which closes a reference cycle.
    error, task.error = task.error, None
    if error is None:
        return Returned(_blocking_result(task.result))
    if isinstance(error, Exception):
        return error
    try:
        raise error  # SystemExit or KeyboardInterrupt, raised by the function itself
    finally:
        del error


def _start(work: Callable[[], Any], attempt: SyncAttempt | None) -> BlockingCall:
    """Start *work* on a thread, even without a time limit: the caller's thread must stay free for signal handlers."""
    if attempt is None:  # gevent may have patched what the function uses, so it belongs on a greenlet there
        return _threads.start(work)
    start = _threads.start_beside_greenlets if threads_are_greenlets() else _threads.start
    try:
        return start(work, attempt.abort)
    except BaseException:  # an interruption: a thread may have the work already
        attempt.abort()
        raise


def _blocking_result(result: Any) -> Any:
    """Return *result*, if it is one.

    Raises:
        TypeError: it is a coroutine. The function is at fault, not its client, so the call ends without a retry.
    """
    if isinstance(result, CoroutineType):
        result.close()
        msg = (
            "a blocking call got a function that returns a coroutine, which was closed: give a blocking function, "
            "or await the handler's verb of the same name without `.sync`"
        )
        raise TypeError(msg)
    return result


def _wait(task: BlockingCall, timeout: float | None, attempt: SyncAttempt | None) -> bool:
    """Wait for *task*. Return whether it finished within *timeout* seconds."""
    if attempt is None or not attempt.has_callers_controller:
        return task.done.wait(timeout)
    remaining = float("inf") if timeout is None else timeout
    while remaining > 0 and not task.done.wait(min(ABORT_POLL, remaining)):
        remaining -= ABORT_POLL
        attempt.follow_callers_controller()
    return task.done.is_set()


def _leave(task: BlockingCall, attempt: SyncAttempt | None) -> None:
    if attempt is not None:
        attempt.abort()
    _threads.leave(task)
