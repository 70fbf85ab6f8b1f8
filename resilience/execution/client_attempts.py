"""The attempts of one call on one client: each admitted by the circuit, settled with it, and recorded."""

from __future__ import annotations

import math
from collections.abc import Generator
from dataclasses import dataclass, replace
from typing import Any, Final, TypeVar

from resilience.baml import Attempt, Usage, warn_of_unbuildable
from resilience.breaker import Outcome, Permit, outcome_for
from resilience.breaker.ramp import REASON as RAMP_REASON
from resilience.errors import AttemptTimeoutError, CircuitOpenError
from resilience.execution.classification import classify_attempt
from resilience.execution.context import CallContext, TimeLimit
from resilience.execution.decision import AttemptState, Decision, Fallback, Retry, decide
from resilience.execution.effects import Admit, Ask, Effect, Returned, Sleep, TimeLimitReached
from resilience.failure import ErrorCategory, Failure, RetryMode
from resilience.failure.control_flow import steers
from resilience.privacy import Content

_T = TypeVar("_T")
Steps = Generator[Effect, Any, _T]
"""A part of the engine: yields effects, is resumed with their replies, and returns a value."""

_REFUSED: Final = Failure(category=ErrorCategory.CIRCUIT_OPEN, recoverable=True, counts_against_client=False)
_NO_USAGE: Final = Usage()
_SHORT_REFUSALS: Final = frozenset({ErrorCategory.RATE_LIMIT.value, RAMP_REASON})
"""Refusals for these reasons end by themselves soon: worth a wait when no other client is free."""


@dataclass(slots=True)
class ClientAttempts:
    """The attempts on one client, until it answers or the decision leads elsewhere.

    Attributes:
        context: how far the call has come.
        client: the client that is asked.
        function: asks it once per attempt.
        result: what the client returned, after `run` returned True.
        failure: the latest failure.
        decision: what follows from it.
        retries: retries made on this client.
        output_retries: those of them that followed an unusable answer.
        refusals: waits for this client's circuit. They are not retries: no request was sent.
        waits_after: the failure that the call waits after before it asks this client again; None before the first.
        failed_at: when the latest attempt failed, on the monotonic clock.
        waits_since: when the wait for this client's circuit began, on the monotonic clock; None while the call does not wait.
    """

    context: CallContext
    client: str
    function: Any
    result: Any = None
    failure: Failure | None = None
    decision: Decision | None = None
    retries: int = 0
    output_retries: int = 0
    refusals: int = 0
    waits_after: Failure | None = None
    waits_since: float | None = None
    failed_at: float = 0.0

    def run(self, permit: Permit | None = None) -> Steps[bool]:
        """Ask until the client answers. Return whether it did.

        Args:
            permit: the permit of the first attempt; None to ask the circuit for one.
        """
        if isinstance(self.decision, Retry):  # the call has come back to this client
            yield from self._wait(self.decision.delay)
        while not (yield from self.attempt(permit)):
            permit = None
            if not isinstance(self.decision, Retry):
                return False
            yield from self._wait(self.decision.delay)
        return True

    def may_resume(self) -> bool:
        """Decide again on the latest failure, now that no other client is left. Return whether `run` may ask once more.

        What the client asked to wait counts from its failure.
        """
        failure = self.failure
        if failure is None or not failure.recoverable:
            return False
        refused = failure.category is ErrorCategory.CIRCUIT_OPEN
        recovers = (
            refused and failure.provider_code == RAMP_REASON
        )  # the client is well, and admits the call soon
        if refused and not recovers:
            return False
        budget = self.context.services.breaker.may_retry(self.client)
        sample = self.context.services.random()
        self._decide(failure, jitter_sample=sample, budget=budget, ends_soon=recovers)
        if not isinstance(self.decision, Retry):
            return False
        self.decision = Retry(max(0.0, self.decision.delay - (self.context.now - self.failed_at)))
        return True

    def _wait(self, seconds: float) -> Steps[None]:
        self._count_retry()
        if seconds > 0:
            yield Sleep(seconds)
            self.context.check_abort()

    def _count_retry(self) -> None:
        category = None if self.failure is None else self.failure.category
        # A wait for the client's circuit sent no request, so it does not use up a retry.
        if category is ErrorCategory.CIRCUIT_OPEN:
            self.refusals += 1
            return
        self.waits_after = self.failure
        self.retries += 1
        self.context.retries += 1
        self.output_retries += category is ErrorCategory.OUTPUT_INVALID

    def steps_aside(self) -> bool:
        """Return whether this client's due probe can run beside the call. If so, `decision` leads to the next, free client."""
        context = self.context
        if context.bind_probe is None or not context.policies.breaker.probe_beside:
            return False
        refusal = context.services.breaker.probe_refusal(self.client)
        if refusal is None or not self._has_free_backup():
            return False
        self._on_refusal(refusal)
        return isinstance(self.decision, Fallback)

    def attempt(self, permit: Permit | None = None) -> Steps[bool]:
        """Ask once. Return whether the client answered; otherwise `decision` says what follows.

        Args:
            permit: the permit of the attempt; None to ask the circuit for one.
        """
        context = self.context
        if permit is None and context.has_circuit(self.client):
            admitted = yield from self._admit()
            if isinstance(admitted, CircuitOpenError):
                self._on_refusal(admitted)
                return False
            permit = admitted
        try:
            context.check_deadline()
            self.waits_since = None
            context.attempts += 1
            context.recorder.trace.on_attempt(self.client)
            started = context.now
            limit = context.attempt_limit()
            reply = yield Ask(self.function, limit.seconds)
            reply = self._checked(reply, limit)
        except (
            BaseException
        ):  # cancelled, interrupted, steered or out of time: return the permit, count nothing
            if permit is not None:
                context.services.breaker.settle(permit, Outcome.IGNORED)
            reply = None  # the traceback of the error holds this frame, which must not hold the error
            raise
        duration = context.now - started
        if isinstance(reply, Returned):
            self.result = reply.result
            self._settle(permit, None, duration)
            self._on_success(started, duration, is_probe=permit is not None and permit.probe)
            return True
        self._on_failure(reply, permit, duration)
        return False

    def _checked(self, reply: Returned | Exception, limit: TimeLimit) -> Returned | Exception:
        """Return the reply to an attempt, with an error of ours where it reached its limit.

        Raises:
            Exception: what the client raised, if it steers a framework and is no failure.
            DeadlineExceededError: the limit was the deadline of the call, which ends here.
        """
        if isinstance(reply, TimeLimitReached):
            return self._time_limit_error(reply, limit)
        if isinstance(reply, Exception) and steers(reply, self.context.services.pass_through):
            self.context.interrupted = True
            try:
                raise reply
            finally:
                del reply
        return reply

    def _time_limit_error(self, reached: TimeLimitReached, limit: TimeLimit) -> AttemptTimeoutError:
        """Return the error of an attempt that reached its limit.

        Raises:
            DeadlineExceededError: the limit was the deadline of the call, which ends here.
        """
        if limit.is_deadline:
            raise self.context.deadline_error() from self.context.last_error()
        error = AttemptTimeoutError(self.client, limit.seconds or 0.0)
        error.__cause__ = reached.__cause__
        return error

    def _on_success(self, started: float, duration: float, *, is_probe: bool) -> None:
        context, usage = self.context, self._usage()
        first_token = self._first_token()
        if first_token is not None:
            context.time_to_first_token = started - context.started + first_token
        context.usages.append(usage)
        self._show_content(None)
        context.recorder.answered(
            self.client,
            attempt=self.retries + 1,
            duration=duration,
            usage=usage,
            only_attempt=context.attempts == 1,
            first_token=first_token,
            is_probe=is_probe,
        )

    def _first_token(self) -> float | None:
        """Return the seconds to the first content of the last attempt; None without content and for calls without a stream."""
        stream = self.context.stream
        return None if stream is None else stream.time_to_first_token

    def _usage(self) -> Usage:
        """Return what the last attempt used, where the function knows it. Never raises."""
        return self.function.usage() if isinstance(self.function, Attempt) else _NO_USAGE

    def _settle(
        self, permit: Permit | None, failure: Failure | None, duration: float, backoff: float = 0.0
    ) -> bool:
        """Report the result to the circuit. Return whether the circuit had changed since the permit was given."""
        if permit is None:
            return False
        breaker, policy = self.context.services.breaker, self.context.policies.breaker
        # A long answer is not a slow client. Of a stream, the time to its first content counts.
        first_token = self._first_token()
        seconds = duration if first_token is None else first_token
        outcome, cooldown = outcome_for(failure, seconds=seconds, policy=policy, backoff=backoff)
        if failure is None:
            return breaker.settle(permit, outcome)
        # A retry that waits for the cool-down takes nothing from the retry budget: the circuit paces it.
        retry = isinstance(self.decision, Retry) and not _is_cooldown_shared(permit, failure)
        reason = failure.category.value
        return breaker.settle(permit, outcome, cooldown=cooldown, reason=reason, retry=retry)

    # --- after a failure ----------------------------------------------------------------------------------------

    def _admit(self) -> Steps[Permit | CircuitOpenError]:
        """Ask for a permit. Where another call is finding out about the client, wait for it only if no backup is free."""
        admitted = yield Admit(self.client)
        if isinstance(admitted, CircuitOpenError) and admitted.pending and not self._has_free_backup():
            admitted = yield Admit(self.client, self._max_wait())
        if not isinstance(
            admitted, Permit | CircuitOpenError
        ):  # no refusal: the breaker itself cannot be used
            raise admitted if isinstance(admitted, Exception) else TypeError(type(admitted).__name__)
        return admitted

    def _has_free_backup(self) -> bool:
        """Return whether another client may be asked now instead of waiting for what another call finds out about this one."""
        return any(map(self.context.is_free, self.context.candidates(_REFUSED)))

    def _max_wait(self) -> float:
        remaining = self.context.remaining()
        return math.inf if remaining is None else remaining

    def _on_refusal(self, refusal: CircuitOpenError) -> None:
        context = self.context
        failure = replace(
            _REFUSED,
            retry_after=refusal.retry_after,
            provider_code=refusal.reason,
            message=str(refusal),
            exception_type=type(refusal).__name__,
        )
        goes_on = self.waits_since is not None
        if not goes_on:
            self.waits_since = context.now
        waits_after = self.waits_after
        is_own = (
            waits_after is not None
            and waits_after.starts_cooldown
            and refusal.reason in (waits_after.category.value, RAMP_REASON)
        )
        ends_soon = is_own or refusal.reason in _SHORT_REFUSALS
        self._decide(failure, ends_soon=ends_soon, is_committed=is_own and self._prefers_this_client())
        # An error of an earlier attempt stays: the provider's answer tells the caller more than our refusal to ask again.
        context.errors.setdefault(self.client, refusal)
        # A refusal that leads to another client is not an error. One that only prolongs a wait is in the record of that wait.
        if isinstance(self.decision, Fallback) or (isinstance(self.decision, Retry) and (goes_on or is_own)):
            return
        self._record(failure)

    def _note_error(self, exc: Exception) -> None:
        errors = self.context.errors
        self.failed_at = self.context.now
        errors.pop(self.client, None)  # re-inserted: the most recent failure comes last
        errors[self.client] = exc

    def _on_failure(self, exc: Exception, permit: Permit | None, duration: float) -> None:
        context, breaker = self.context, self.context.services.breaker
        failure = classify_attempt(exc, self.function, context, client=self.client, permit=permit)
        self._note_error(exc)
        # A client that cannot be built says nothing about the request: its category must not count for the call.
        if isinstance(self.function, Attempt) and self.function.could_not_be_built(exc):
            context.unbuildable |= {self.client}
            warn_of_unbuildable(self.client, failure.message)
        else:
            context.categories.add(failure.category)
        jitter_sample = context.services.random()
        backoff = context.policies.retry.backoff(self.retries + 1, jitter_sample)
        # Decide before settling, so that the circuit learns of the failure and of its retry in one step.
        self._decide(
            failure,
            jitter_sample=jitter_sample,
            budget=permit is None or breaker.may_retry(self.client),
            silence=0.0 if context.stream is not None and context.stream.has_content else duration,
            is_cooldown_shared=_is_cooldown_shared(permit, failure),
        )
        late = self._settle(permit, failure, duration, backoff)
        usage = self._usage()
        context.usages.append(usage)
        self._show_content(exc)
        self._record(
            failure,
            duration=duration,
            late=late,
            content=self._content(exc),
            usage=usage,
            first_token=self._first_token(),
            is_probe=permit is not None and permit.probe,
        )

    def _content(self, exc: Exception | None) -> Content | None:
        """Return prompt and answer, where the privacy level keeps them and the function knows them."""
        keeps = self.context.services.privacy.keeps_content
        return self.function.content(exc) if keeps and isinstance(self.function, Attempt) else None

    def _show_content(self, exc: Exception | None) -> None:
        """Put prompt and answer on the spans, where the application asked for it."""
        recorder = self.context.recorder
        if recorder.trace.wants_content and (content := self._content(exc)) is not None:
            recorder.record_content(content)

    def _prefers_this_client(self) -> bool:
        """Return whether the policy asks this client again, after what it waits for, although another client is free."""
        mode = (
            None if self.waits_after is None else self.context.policies.retry.retry_mode_for(self.waits_after)
        )
        return mode in (RetryMode.ONCE, RetryMode.ALWAYS)

    def _decide(self, failure: Failure, **more: Any) -> None:
        """Decide what follows *failure*; *more* are further fields of the `AttemptState`."""
        context = self.context
        context.stated_waits[self.client] = failure.retry_after
        candidates = context.candidates(failure)
        state = AttemptState(
            failure=failure,
            retries=self.retries,
            output_retries=self.output_retries,
            refusals=self.refusals,
            more=bool(candidates),
            free=any(map(context.is_free, candidates)),
            remaining=context.remaining(),
            waited=0.0 if self.waits_since is None else context.now - self.waits_since,
            stream_began=context.stream is not None and context.attempts > 0,
            content_shown=context.stream is not None and context.stream.content_shown,
            **more,
        )
        self.failure = failure
        self.decision = decide(state, context.policies.retry)

    def _record(
        self,
        failure: Failure,
        *,
        duration: float = 0.0,
        late: bool = False,
        content: Content | None = None,
        usage: Usage = _NO_USAGE,
        first_token: float | None = None,
        is_probe: bool = False,
    ) -> None:
        context = self.context
        context.recorder.error(
            failure,
            client=self.client,
            attempt=self.retries + 1,
            decision=self.decision,
            duration=duration,
            late=late,
            state=context.services.breaker.state(self.client) if context.has_circuit(self.client) else None,
            content=content,
            usage=usage,
            first_token=first_token,
            is_probe=is_probe,
        )


def _is_cooldown_shared(permit: Permit | None, failure: Failure) -> bool:
    """Return whether the circuit of the client holds the cool-down that *failure* starts."""
    return permit is not None and permit.policy.enabled and failure.starts_cooldown
