"""The engine of a call: which client is asked next, and how the call ends.

The rules of a call are here, in `client_attempts.py` and in `decision.py`, once for every kind of call. They do no I/O, read no
clock and wait for nothing: they yield effects (`effects.py`) and are resumed with the replies. Drivers carry the effects
out: `async_driver.py` on an event loop, `sync_driver.py` on the caller's thread.

One rule stands above the others: the caller's own result or exception is never replaced, delayed or lost because the
store, the history or a log failed. A cancellation goes through at once and returns what the call held.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from resilience.breaker import Permit
from resilience.errors import AllClientsFailedError, CircuitOpenError, ForkedRuntimeError
from resilience.execution.call_result import CallResult
from resilience.execution.client_attempts import ClientAttempts, Steps
from resilience.execution.context import CallContext
from resilience.execution.decision import Fallback
from resilience.execution.effects import ProbeBeside
from resilience.failure import ErrorCategory, Failure, RetryMode
from resilience.records.records import CallOutcome, FallbackRecord


@dataclass(slots=True)
class Call:
    """One request of the user. Give it to a driver: `await run_async(call, args, kwargs)` or `run_sync(call, args, kwargs)`.

    Attributes:
        context: what the attempts share.
        fallback: the record of the fallback in progress, until the client it leads to has answered or failed.
        fallback_started: start of that fallback on the monotonic clock, in seconds.
        first: the function and the permit of the first attempt, where a driver has made it before the engine; else None.
    """

    context: CallContext
    fallback: FallbackRecord | None = None
    fallback_started: float = 0.0
    first: tuple[Callable[..., Any], Permit | None] | None = None

    def run(self) -> Steps[tuple[Any, str]]:
        """Execute the call. Return the result and the name of the client that gave it.

        Raises:
            Exception: the client's own, when only one client was asked.
            AllClientsFailedError: several clients were asked, and none answered.
            CircuitOpenError: the only client was not asked.
            DeadlineExceededError: the policy's deadline passed.
        """
        context = self.context
        # A cancellation is no `Exception`: it skips the except clause below and reaches `finally` with this value.
        outcome, answered_by = CallOutcome.CANCELLED, None
        context.recorder.start(context.started_at, context.preferred)
        try:
            result, answered_by = yield from self._ask_clients()
            outcome = self._success_outcome()
        except Exception:
            # The soft time limit of Celery is an Exception too. It ends the call from outside and says nothing of a client.
            if not context.interrupted:
                outcome = CallOutcome.FAILED if context.attempts else CallOutcome.REJECTED
            raise
        else:
            return result, answered_by
        finally:
            self._end(outcome, answered_by)

    # --- which client -------------------------------------------------------------------------------------------

    def _ask_clients(self) -> Steps[tuple[Any, str]]:
        context = self.context
        asked: list[ClientAttempts] = []
        function, permit = self.first or (context.bind(context.preferred), None)
        attempts: ClientAttempts | None = ClientAttempts(context, context.preferred, function)
        while attempts is not None:
            context.tried.append(attempts.client)
            if permit is None and context.bind_probe is not None and attempts.steps_aside():
                yield ProbeBeside(attempts.client)
                succeeded = False
            else:
                succeeded = yield from attempts.run(permit)
            permit = None
            self._end_fallback(succeeded=succeeded)
            if succeeded:
                return attempts.result, attempts.client
            asked.append(attempts)
            attempts = self._next_client(asked)
        raise self._error()

    def _next_client(self, asked: list[ClientAttempts]) -> ClientAttempts | None:
        """Return the attempts on the client to fall back to; None ends the call.

        The first client whose circuit would admit an attempt is asked, else the first.
        """
        context, last = self.context, asked[-1]
        if last.failure is None:
            return None
        if isinstance(last.decision, Fallback):
            # A free client is asked before one whose circuit is open: an open circuit would cost a refusal, or a probe.
            left = context.candidates(last.failure)
            chosen = next((client for client in left if context.is_free(client)), left[0])
            following = ClientAttempts(context, chosen, context.bind(chosen))
        elif _concerns_one_client(last.failure):
            # The client with too little room, without credit or without the model has the last word on itself only. One that was
            # merely busy is asked again, with the retries that it has left.
            resumed = next((attempts for attempts in asked[:-1] if attempts.may_resume()), None)
            if resumed is None:
                return None
            following = resumed
        else:
            return None
        self.fallback = context.recorder.fallback(
            len(context.tried), last.client, following.client, last.failure.category
        )
        self.fallback_started = context.now
        return following

    # --- how it ends --------------------------------------------------------------------------------------------

    def _error(self) -> Exception:
        context = self.context
        for error in context.errors.values():
            if isinstance(error, ForkedRuntimeError):  # BAML cannot run in this process: no client has failed
                return error
        if len(context.errors) == 1:
            (error,) = context.errors.values()
            if isinstance(error, CircuitOpenError) and not context.has_backups():
                error.add_note(
                    "no other client can answer: name some in FallbackPolicy(clients=...) or in a fallback strategy"
                )
            return error
        return AllClientsFailedError(context.function, context.errors, context.retry_after())

    def _success_outcome(self) -> CallOutcome:
        if len(self.context.tried) > 1:
            return CallOutcome.RECOVERED_FALLBACK
        failed = self.context.recorder.first_error_at is not None
        return CallOutcome.RECOVERED_RETRY if failed else CallOutcome.OK

    def _end_fallback(self, *, succeeded: bool | None) -> None:
        if self.fallback is not None:
            fallback, self.fallback = self.fallback, None
            seconds = self.context.now - self.fallback_started
            self.context.recorder.fallback_ended(fallback, succeeded=succeeded, duration=seconds)

    def _end(self, outcome: CallOutcome, answered_by: str | None) -> None:
        context = self.context
        context.errors = {}  # an exception holds its frames, and the frames hold this call: a reference cycle
        self._end_fallback(succeeded=None)  # still in progress only when the call was cancelled or timed out
        context.recorder.end(
            CallResult(
                outcome=outcome,
                started_at=context.started_at,
                duration=context.now - context.started,
                client=context.preferred,
                client_final=answered_by,
                attempts=context.attempts,
                retries=context.retries,
                fallbacks=len(context.tried) - 1,
                usages=context.usages,
                time_to_first_token=context.time_to_first_token,
            )
        )


def _concerns_one_client(failure: Failure) -> bool:
    """Return whether no retry of that client can help, although another client may answer the same request."""
    if failure.category is ErrorCategory.CONTEXT_LENGTH:
        return True
    return failure.rules.allow_fallback and failure.rules.retry_mode is RetryMode.NEVER
