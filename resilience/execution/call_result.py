"""How a call ended, as its engine hands it to the recorder. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from resilience.baml import Usage
from resilience.history import CallOutcome


@dataclass(slots=True, kw_only=True)
class CallResult:
    """How a call ended.

    Attributes:
        outcome: how it ended.
        started_at: start in epoch seconds.
        duration: seconds from start to end.
        client: the client that was asked first.
        client_final: the client that answered; None if none did.
        attempts: attempts made on all clients.
        retries: those of them that asked the same client again.
        fallbacks: how often another client was asked.
        usages: what each attempt used, failed ones included.
        recovery: seconds from the first error to the answer; None without either.
        time_to_first_token: of a stream, seconds from the start to the first content of the answer; None without one.
    """

    outcome: CallOutcome
    started_at: float
    duration: float
    client: str
    client_final: str | None
    attempts: int
    retries: int
    fallbacks: int
    usages: Sequence[Usage]
    recovery: float | None = None
    time_to_first_token: float | None = None
