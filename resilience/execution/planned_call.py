"""A call that has not started, and the clean call: a closed circuit admits it, and its first attempt is answered.

The rules of a call are in its engine (`call.py`). A clean call needs none of them, and nearly all calls are clean. A call that has
just returned from its network wait runs with cold CPU caches, so each function that it does not enter saves it microseconds.
Therefore a driver first makes the one attempt that the engine would ask for here, and nothing else: no context, no ids, no
records. If the attempt ends in any other way, the engine is made now, in the state in which it waits for the reply to that
attempt, and gets the reply. So all decisions stay in the engine.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, TypeVar

from resilience import telemetry
from resilience.baml import AbortSignal, Attempt, StreamProgress, Usage
from resilience.breaker import Outcome, Permit, outcome_for
from resilience.execution.call import Call
from resilience.execution.client_attempts import Steps
from resilience.execution.context import CallContext, CallServices, Policies
from resilience.execution.effects import Effect, Returned
from resilience.records.deferred import DeferredRecord
from resilience.records.ids import new_id
from resilience.records.records import CallOutcome, CallRecord
from resilience.request_id import current_request_id
from resilience.telemetry import NO_TRACE, CallTrace
from resilience.tenant import current_tenant

_NO_USAGE: Final = Usage()
_T = TypeVar("_T")


@dataclass(slots=True, eq=False)
class PlannedCall:
    """One request of the user, before it starts. Give it to a driver once: `call_async` or `call_sync`.

    Attributes:
        services: the breaker, the clock and the sinks of records.
        policies: the policies of the function.
        function: the function's name, for records and messages.
        preferred: the client that is asked first.
        bind: returns the function that asks the named client.
        members: clients that a `fallback` strategy of BAML asks after the preferred one, before those of the policy.
        unguarded: a client whose circuit takes no part, because its name means nothing to the fleet; None for none.
        stream: how far the stream of the call has come; None for a call without a stream.
        bind_probe: as in `CallContext`.
        abort_controller: the caller's abort controller; None without one.
        attempt: asks the preferred client; None until the call is open.
        limit: seconds that the first attempt may take; None without a limit.
        request_id: the id of the request that is being served; None where the application set none.
        tenant: for whom the application makes the call; None if it does not say.
        started_at: start in epoch seconds.
    """

    services: CallServices
    policies: Policies
    function: str
    preferred: str
    bind: Callable[[str], Callable[..., Any]]
    members: tuple[str, ...] = ()
    unguarded: str | None = None
    stream: StreamProgress | None = None
    bind_probe: Callable[[str], Callable[..., Any]] | None = None
    abort_controller: Any = None
    attempt: Any = None
    limit: float | None = None
    request_id: str | None = None
    tenant: str | None = None
    started_at: float = 0.0
    _started: float = 0.0
    _permit: Permit | None = None
    _trace: CallTrace | None = None

    def open(self) -> bool:
        """Begin the first attempt, if nothing has to be decided or shown before it. Return whether that is so.

        If so, the driver calls `attempt` now, and then `answered`, `engine` or `interrupt`.
        """
        services, client = self.services, self.preferred
        if services.log_start is not None:
            return False
        if client != self.unguarded and (permit := services.breaker.free_permit(client)) is not None:
            self._permit = permit
        elif client != self.unguarded:
            return False
        # Read here, in the task or thread of the caller: later steps may run elsewhere.
        self._trace = telemetry.trace(self.function, client, services.privacy.keeps_texts)
        if self._trace is not NO_TRACE:
            return False
        self.request_id, self.tenant = current_request_id(), current_tenant()
        clock, retry = services.clock, self.policies.retry
        self._started, self.started_at = clock.monotonic(), clock.time()
        if retry.attempt_timeout is not None or retry.deadline is not None:
            limits = (retry.attempt_timeout if self.stream is None else None, retry.deadline)
            self.limit = min((limit for limit in limits if limit is not None), default=None)
        try:
            self.attempt = self.bind(client)
        except Exception as exc:  # noqa: BLE001 - the engine raises it, and records the call
            self.bind = _Raise(exc)
            return False
        return True

    def answered(self, result: Any) -> Any:
        """End a call whose first attempt was answered. Return *result*."""
        try:
            record = self._settle()
        except BaseException as exc:
            self.interrupt(exc)  # raises it again
            raise
        self.services.record_clean(record)
        return result

    def _settle(self) -> CleanCall:
        """Report the success to the circuit. Return the record of the call."""
        services = self.services
        duration = services.clock.monotonic() - self._started
        stream, permit = self.stream, self._permit
        first_token = None if stream is None else stream.time_to_first_token
        if permit is not None:
            policy, outcome = self.policies.breaker, Outcome.SUCCESS
            if policy.slow_call_duration is not None:  # of a stream, the time to its first content counts
                seconds = duration if first_token is None else first_token
                outcome, _ = outcome_for(None, seconds=seconds, policy=policy, backoff=0.0)
            services.breaker.settle(permit, outcome)
        return CleanCall(self, duration, first_token)

    def interrupt(self, error: BaseException) -> None:
        """Let the engine end a call that was cancelled or interrupted before its first attempt was recorded.

        Raises:
            BaseException: *error*.
        """
        call = self.engine()
        steps, context, clock = call.run(), call.context, self.services.clock
        if self.attempt is None:
            context.start(clock.monotonic(), clock.time())
        steps.send(None)  # up to the attempt that is under way
        context.now, context.interrupted = clock.monotonic(), True
        steps.throw(error)

    def engine(self) -> Call:
        """Return the engine of this call. If the call is open, the first effect of the engine is the attempt that was made."""
        context = CallContext(
            self.services,
            self.policies,
            self.function,
            self.preferred,
            self.bind,
            self.members,
            self.unguarded,
            bind_probe=self.bind_probe,
            abort=None if self.abort_controller is None else AbortSignal(self.abort_controller),
            trace=self._trace,
        )
        if self.stream is not None:
            context.follow(self.stream)
        if self.attempt is None:
            return Call(context)
        context.start(self._started, self.started_at)
        recorder = context.recorder
        recorder.request_id, recorder.tenant = self.request_id or recorder.call_id, self.tenant
        return Call(context, first=(self.attempt, self._permit))


class CleanCall(DeferredRecord):
    """The record of a clean call, which the writer thread builds: its id, its row, what it used.

    Args:
        call: the call.
        duration: seconds from its start to its answer.
        first_token: of a stream, seconds to the first content of the answer.
    """

    __slots__ = ("_call", "_duration", "_first_token")

    def __init__(self, call: PlannedCall, duration: float, first_token: float | None) -> None:
        self._call = call
        self._duration = duration
        self._first_token = first_token

    def build(self) -> CallRecord:
        """Build the record that the engine's recorder makes of such a call, without the engine's steps to it."""
        call, call_id = self._call, new_id()
        services, attempt, client = call.services, call.attempt, call.preferred
        usage = attempt.usage() if isinstance(attempt, Attempt) else _NO_USAGE
        record = CallRecord(
            call_id=call_id,
            request_id=call.request_id or call_id,
            started_at=datetime.fromtimestamp(call.started_at, UTC),
            duration=self._duration,
            function=call.function,
            client=client,
            client_final=client,
            outcome=CallOutcome.OK,
            attempts=1,
            retries=0,
            fallbacks=0,
            input_tokens=usage.input_tokens,
            output_tokens=usage.output_tokens,
            streamed=call.stream is not None,
            time_to_first_token=self._first_token,
            namespace=services.namespace,
            tenant=call.tenant,
            answer_duration=self._duration,
        )
        redactor = services.privacy.redactor
        # It has no free text: only a field that the project leaves out can change it.
        return redactor.record(record) if redactor.paths else record


class _Raise:
    """Stands for a `bind` that has raised: raises its error once more, in the engine."""

    __slots__ = ("_error",)

    def __init__(self, error: Exception) -> None:
        self._error: Exception | None = error

    def __call__(self, _client: str) -> Callable[..., Any]:
        error, self._error = (
            self._error,
            None,
        )  # its traceback holds a frame that holds this: a reference cycle
        if error is None:
            msg = "the function of the first client was asked for twice"
            raise RuntimeError(msg)
        try:
            raise error
        finally:
            del error


def begin(context: CallContext, steps: Steps[_T], first: Returned | Exception | None) -> Effect:
    """Start an engine. Return the first effect that is still to be carried out.

    Args:
        context: the context of the engine.
        steps: the engine.
        first: the reply to its first effect, where a driver carried that out before there was an engine; else None.
    """
    clock = context.services.clock
    if first is None:
        context.start(clock.monotonic(), clock.time())
        return next(steps)
    next(steps)
    context.now = clock.monotonic()
    try:
        return steps.send(first)
    finally:
        del first  # it may be on its way to the caller, and its traceback holds this frame: a reference cycle
