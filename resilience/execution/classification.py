"""What a failed attempt means: evidence first, then the project's own rules, then the behaviour of the client."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from resilience.baml import Attempt
from resilience.breaker import Permit, refuses_request
from resilience.execution.argument_digests import digest_of
from resilience.execution.context import CallContext
from resilience.failure import Failure, classify, sent_arguments

_DATA: Final = (str, bytes, Mapping, list, tuple)


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
    now, arguments = context.time(), _arguments(function, context.arguments)
    if isinstance(function, Attempt):
        failure: Failure = function.classify(exc, now=now, arguments=arguments)
    else:
        failure = classify(exc, now=now, sent=sent_arguments(arguments))
    if (own_rules := context.services.own_rules) is not None:
        failure = own_rules.apply(exc, failure)
    if permit is None or not refuses_request(failure):
        return failure
    # Requests are distinguished by a digest of their arguments, which stays in this process.
    digest = digest_of(function, context.arguments)
    corrected = context.services.breaker.note_rejected(client, context.function, digest)
    return replace(failure, corrected=corrected)


def _arguments(function: Any, arguments: tuple[Any, Any]) -> tuple[Any, ...]:
    """Return the arguments of a call, with those that a `functools.partial` or the closure of a function holds."""
    if isinstance(function, functools.partial):
        return *arguments, function.args, function.keywords
    cells = getattr(function, "__closure__", None) or ()
    # Of the objects around a function (a client, a session) none is an argument.
    return *arguments, [value for cell in cells if isinstance(value := _content(cell), _DATA)]


def _content(cell: Any) -> object:
    try:
        return cell.cell_contents
    except ValueError:  # a variable that has no value yet
        return None
