"""Everything we raise: one base, refusals that carry their answer, and no text of a prompt or a key."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self


class ResilienceError(Exception):
    """The base of every error this package raises itself."""


class ResilienceWarning(UserWarning):
    """Something in the set-up will not do what its author expects."""


class ConfigurationError(ResilienceError, ValueError):
    """A setting, client or function name that cannot work, told at start with its remedy."""


class MissingClientError(ConfigurationError, ImportError):
    """No generated BAML client could be imported; run `baml-cli generate`."""


class ForkedRuntimeError(ResilienceError, RuntimeError):
    """The BAML runtime was in use before this process was forked and would hang here (BoundaryML/baml#2776)."""


class CircuitOpenError(ResilienceError):
    """A call refused without asking the client, because the fleet knows that it would fail.

    Attributes:
        client: the client that was not asked.
        reason: the failure category, or operator override, that closed the way.
        retry_after: seconds until asking again makes sense; None when nobody can say.
    """

    def __init__(self, client: str, *, reason: str, retry_after: float | None = None) -> None:
        self.client = client
        self.reason = reason
        self.retry_after = retry_after
        wait = "" if retry_after is None else f"; ask again in {retry_after:.1f} s"
        super().__init__(f"client {client!r} is not being asked ({reason}){wait}")

    def __reduce__(self) -> tuple[Any, ...]:
        return _revive_refusal, (type(self), self.client, self.reason, self.retry_after)


class AttemptTimeoutError(ResilienceError, TimeoutError):
    """One attempt took longer than `RetryPolicy.attempt_timeout`.

    Attributes:
        client: the client that did not answer in time.
        seconds: how long it was given.
    """

    def __init__(self, client: str, seconds: float) -> None:
        self.client = client
        self.seconds = seconds
        super().__init__(f"client {client!r} did not answer within {seconds:g} s")

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.client, self.seconds)


class DeadlineExceededError(ResilienceError, TimeoutError):
    """The whole call, with its retries, waits and fallbacks, reached `RetryPolicy.deadline`.

    Attributes:
        function: the function that was called.
        deadline: the seconds the call was given.
    """

    def __init__(self, function: str, deadline: float) -> None:
        self.function = function
        self.deadline = deadline
        super().__init__(f"{function} had no answer within its deadline of {deadline:g} s")

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.function, self.deadline)


class AnswerError(ResilienceError):
    """An answer that BAML took for good and that is not.

    Attributes:
        client: the client that answered.
        result: what BAML made of the answer, for callers who want it all the same. Never shown in messages.
    """

    reason = "is unusable"

    def __init__(self, client: str, result: object = None) -> None:
        self.client = client
        self.result = result
        super().__init__(f"the answer of client {client!r} {self.reason}")

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.client, self.result)


class OutputTruncatedError(AnswerError):
    """The provider stopped at its token limit and BAML closed the open brackets (finish reason `length`)."""

    reason = "was cut at the token limit"


class EmptyAnswerError(AnswerError):
    """The provider answered with no content at all."""

    reason = "is empty"


class ContentRefusedError(AnswerError):
    """The provider's content filter ended the answer."""

    reason = "was ended by the provider's content filter"


class AllClientsFailedError(ResilienceError, ExceptionGroup[Exception]):
    """Every client of a call failed or was not asked; one cause a client, in the order they were tried.

    Attributes:
        function: the function that was called.
        by_client: the last error of each client.
        retry_after: the shortest stated wait of any client in seconds; None when none stated one.
    """

    function: str
    by_client: Mapping[str, Exception]
    retry_after: float | None

    def __new__(
        cls, function: str, by_client: Mapping[str, Exception], retry_after: float | None = None
    ) -> Self:
        """Group the causes; their own texts stay out of our message."""
        told = ", ".join(f"{client}: {type(exc).__name__}" for client, exc in by_client.items())
        self = super().__new__(cls, f"{function}: no client answered ({told})", tuple(by_client.values()))
        self.function = function
        self.by_client = dict(by_client)
        self.retry_after = retry_after
        return self

    @property
    def last(self) -> Exception:
        """The error of the client tried last."""
        return tuple(self.by_client.values())[-1]


class StoreError(ResilienceError):
    """The store of shared circuits cannot be used; callers never see this, their calls go on locally."""


class HistoryError(ResilienceError):
    """The history cannot be read or written; only queries and commands raise this, calls never do."""


def _revive_refusal(
    kind: type[CircuitOpenError], client: str, reason: str, retry_after: float | None
) -> CircuitOpenError:
    return kind(client, reason=reason, retry_after=retry_after)
