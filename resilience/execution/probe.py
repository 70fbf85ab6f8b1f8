"""The engine of a probe that runs beside a call: one attempt, whose answer is discarded.

The call that finds a probe due is answered by a free backup and learns nothing of this. A probe is recorded as a call of its own
with `probe=true`, so that its tokens are counted and its failure is seen.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from resilience.breaker import Outcome, Permit
from resilience.execution.call_result import CallResult
from resilience.execution.client_attempts import ClientAttempts, Steps
from resilience.execution.context import CallContext, Policies
from resilience.execution.decision import Fallback
from resilience.execution.effects import Admit
from resilience.failure import Failure
from resilience.fallback import FallbackPolicy
from resilience.records.records import CallOutcome
from resilience.telemetry import CallTrace


@dataclass(slots=True)
class _ProbeAttempts(ClientAttempts):
    """The one attempt of a probe. Whatever its failure, the call has gone on with another client."""

    def _decide(self, failure: Failure, **_: Any) -> None:
        self.failure, self.decision = failure, Fallback()


@dataclass(slots=True)
class Probe:
    """A probe of one client. Give it to `run_async`, which returns None in place of the answer.

    Attributes:
        caller: the context of the call that found the probe due.
        client: the client to probe.
        function: asks the client once.
        context: the context of the probe.
    """

    caller: CallContext
    client: str
    function: Callable[..., Any]
    context: CallContext = field(init=False)

    def __post_init__(self) -> None:
        caller = self.caller
        self.context = CallContext(
            caller.services,
            _policies_of_probe(caller.policies),
            caller.function,
            self.client,
            lambda _: self.function,
        )
        recorder = self.context.recorder
        # Spans belong to calls, and a probe may outlive the span of the call beside it.
        recorder.is_probe, recorder.trace = True, CallTrace()
        recorder.request_id, recorder.tenant = caller.recorder.request_id, caller.recorder.tenant

    def run(self) -> Steps[tuple[Any, str]]:
        """Ask once, if the circuit grants a lease. Record the attempt and discard the answer."""
        permit = yield Admit(self.client)
        if not isinstance(permit, Permit):  # another process probes
            return None, self.client
        if not permit.probe:  # the circuit has closed meanwhile
            self.context.services.breaker.settle(permit, Outcome.IGNORED)
            return None, self.client
        outcome = CallOutcome.CANCELLED
        attempts = _ProbeAttempts(self.context, self.client, self.function)
        try:
            succeeded = yield from attempts.attempt(permit)
            outcome = CallOutcome.OK if succeeded else CallOutcome.FAILED
        finally:
            self._end(outcome)
        return None, self.client

    def _end(self, outcome: CallOutcome) -> None:
        context = self.context
        context.errors = {}  # as at the end of a call: an exception would close a reference cycle
        context.recorder.end(
            CallResult(
                outcome=outcome,
                started_at=context.started_at,
                duration=context.now - context.started,
                client=self.client,
                client_final=self.client if outcome is CallOutcome.OK else None,
                attempts=context.attempts,
                retries=0,
                fallbacks=0,
                usages=context.usages,
            )
        )


def _policies_of_probe(policies: Policies) -> Policies:
    """Return *policies* for one attempt that ends with its lease: after that another process probes."""
    limits = (policies.retry.attempt_timeout, policies.breaker.probe_lease)
    limit = min(limit for limit in limits if limit is not None)
    retry = replace(policies.retry, attempt_timeout=limit, deadline=None)
    return Policies(retry=retry, fallback=FallbackPolicy(), breaker=policies.breaker)
