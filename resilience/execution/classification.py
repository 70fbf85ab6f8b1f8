"""What a failed attempt means: evidence first, then the project's own rules, then the behaviour of the client."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from resilience.baml import Attempt
from resilience.breaker import Permit, refuses_request
from resilience.execution.context import CallContext
from resilience.execution.digests import digest_of
from resilience.failure import Failure, classify


def classify_attempt(
    exc: Exception, function: Any, context: CallContext, *, client: str, permit: Permit | None
) -> Failure:
    """Return the failure that an exception of an attempt is.

    Args:
        exc: what the attempt raised.
        function: the attempt, which may know more evidence than its exception.
        context: the call.
        client: the client that was asked.
        permit: the permit of the attempt; None for one without a circuit.
    """
    classifier = function.classify if isinstance(function, Attempt) else classify
    failure: Failure = classifier(exc, now=context.time())
    if (own_rules := context.services.own_rules) is not None:
        failure = own_rules.apply(exc, failure)
    if permit is None or not refuses_request(failure):
        return failure
    # Requests are distinguished by a digest of their arguments, which stays in this process.
    digest = digest_of(function, context.arguments)
    corrected = context.services.breaker.note_rejected(client, context.function, digest)
    return replace(failure, corrected=corrected)
