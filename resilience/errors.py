"""Every error this package raises: one base class, refusals that say when to try again, and no prompt or key in a text.

Errors travel between processes (`ProcessPoolExecutor`, Celery). They are rebuilt without their constructor, which takes other
arguments than the message, in subclasses of applications too. An error that arrives damaged breaks the pool, so whatever cannot make
the journey is left behind: also attributes that tracers and frameworks hang on it.
"""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from typing import Any, Self, TypeVar

_E = TypeVar("_E", bound=Exception)


class ResilienceError(Exception):
    """Base class of every error that this package raises itself."""

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuilt, (type(self), self.args), _travelling(self.__dict__)

    def __copy__(self) -> Self:
        return _copied(self, _rebuilt(type(self), self.args))

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self.__copy__()


class ResilienceWarning(UserWarning):
    """Warning about a set-up that will not do what its author expects."""


class ConfigurationError(ResilienceError, ValueError):
    """A setting, client name or function name that cannot work. Raised at start; the message has the remedy."""


class MissingClientError(ConfigurationError, ImportError):
    """No generated BAML client can be imported; `baml-cli generate` makes one."""


class ForkedRuntimeError(ResilienceError, RuntimeError):
    """The BAML runtime was in use before this process was forked; a call would hang here (BoundaryML/baml#2776)."""


class CircuitOpenError(ResilienceError):
    """A call that was refused without a request, because the client's circuit does not admit attempts now.

    Attributes:
        client: the client that was not asked.
        reason: why: the category of the failures that opened the circuit or started the cool-down, or the operator's
            override.
        retry_after: seconds until another call may be admitted; None when that is unknown.
        pending: whether another call of this process is finding out about the client, so that a call could wait for that.
    """

    pending: bool = False

    def __init__(self, client: str, *, reason: str, retry_after: float | None = None) -> None:
        self.client = client
        self.reason = reason
        self.retry_after = retry_after
        wait = "" if retry_after is None else f"; ask again in {retry_after:.1f} s"
        super().__init__(f"client {client!r} is not being asked ({reason}){wait}")


class AttemptTimeoutError(ResilienceError, TimeoutError):
    """One attempt took longer than `RetryPolicy.attempt_timeout`.

    Attributes:
        client: the client that did not answer in time.
        seconds: the limit in seconds.
    """

    def __init__(self, client: str, seconds: float) -> None:
        self.client = client
        self.seconds = seconds
        super().__init__(f"client {client!r} did not answer within {seconds:g} s")


class StreamStalledError(AttemptTimeoutError):
    """A stream that began and then brought no content for `RetryPolicy.stall_timeout`.

    Attributes:
        client: the client whose stream stalled.
        seconds: the limit in seconds.
    """

    def __init__(self, client: str, seconds: float) -> None:
        super().__init__(client, seconds)
        self.args = (f"the stream of client {client!r} brought no content for {seconds:g} s",)


class StreamLeftError(ResilienceError):
    """The final response of a stream whose last reader had left before its end, which ended the request."""


class DeadlineExceededError(ResilienceError, TimeoutError):
    """The whole call, with its retries, waits and fallbacks, reached `RetryPolicy.deadline`.

    Attributes:
        function: the function that was called.
        deadline: the limit in seconds.
    """

    def __init__(self, function: str, deadline: float) -> None:
        self.function = function
        self.deadline = deadline
        super().__init__(f"{function} had no answer within its deadline of {deadline:g} s")


class AnswerError(ResilienceError):
    """An answer that BAML accepted although the provider had cut it, withheld it, left it empty or failed while writing it.

    Attributes:
        client: the client that answered.
        result: what BAML made of the answer, for callers that can use it. It is in no message.
        reason: the end of the message; subclasses name their cause.
    """

    reason = "is unusable"

    def __init__(self, client: str, result: object = None) -> None:
        self.client = client
        self.result = result
        super().__init__(f"the answer of client {client!r} {self.reason}")


class OutputTruncatedError(AnswerError):
    """The provider stopped at the token limit or the end of its context, and BAML closed the open brackets."""

    reason = "was cut at the token limit"


class EmptyAnswerError(AnswerError):
    """The provider answered without content."""

    reason = "is empty"


class StreamCutError(OutputTruncatedError):
    """A stream ended without the word of the provider that it is complete, or a part of it could not be read."""

    reason = "ended before it was complete"


class StreamFailedError(AnswerError):
    """The provider reported an error inside a stream that had begun, and BAML passed over it."""

    reason = "ended with an error of the provider"


class ContentRefusedError(AnswerError):
    """The provider's content filter ended or withheld the answer."""

    reason = "was ended by the provider's content filter"


class AllClientsFailedError(ResilienceError, ExceptionGroup[Exception]):
    """Every client of a call failed or was not admitted. The group has one error per client, the one tried last at the end.

    Attributes:
        function: the function that was called.
        by_client: the last error of each client, in the order they were tried.
        retry_after: the shortest wait that a client stated, in seconds; None when none did.
    """

    # The parts that `split` and `except*` make of this group are plain ExceptionGroups without these attributes.
    # Set in __new__, not in __init__: an ExceptionGroup is built there, from the message and the exceptions.
    function: str
    by_client: Mapping[str, Exception]
    retry_after: float | None

    def __new__(
        cls, function: str, by_client: Mapping[str, Exception], retry_after: float | None = None
    ) -> Self:
        """Create the group. Its message names classes only: the texts of the errors may quote a prompt."""
        listed = ", ".join(f"{client}: {type(exc).__name__}" for client, exc in by_client.items())
        self = super().__new__(cls, f"{function}: no client answered ({listed})", tuple(by_client.values()))
        self.function = function
        self.by_client = dict(by_client)
        self.retry_after = retry_after
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        # Errors of SDKs often cannot be pickled, or raise when they are unpickled: their constructors need the response.
        by_client = {
            client: exc
            if _travels(exc)
            else ResilienceError(f"{type(exc).__name__}, which cannot be pickled")
            for client, exc in self.by_client.items()
        }
        state = {**_travelling(self.__dict__), "by_client": by_client}
        return _unpickle_group, (type(self), self.message, tuple(by_client.values())), state

    def __copy__(self) -> Self:
        return _copied(self, type(self)(self.function, self.by_client, self.retry_after))

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self.__copy__()

    @property
    def last(self) -> Exception:
        """The error of the client tried last."""
        return tuple(self.by_client.values())[-1]


class StoreError(ResilienceError):
    """The store of shared circuits cannot be used. Calls never raise this: they go on with local circuits."""


class HistoryError(ResilienceError):
    """The history cannot be read or written. Only queries and commands raise this; calls never do."""


def _unpickle_group(
    cls: type[AllClientsFailedError], message: str, exceptions: tuple[Exception, ...]
) -> AllClientsFailedError:
    # Not by its constructor, which would write another message where an error is replaced. The attributes follow as state.
    return ExceptionGroup.__new__(cls, message, exceptions)


def _rebuilt(cls: type[_E], args: tuple[Any, ...]) -> _E:
    """Return an error with its message alone; its attributes follow as state."""
    error = cls.__new__(cls, *args)
    error.args = args  # OSError, the base of TimeoutError, leaves this to its constructor
    return error


def _travelling(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Return *attributes* with None for what cannot travel: classes of BAML's TypeBuilder, locks, open connections."""
    return {name: value if _travels(value) else None for name, value in attributes.items()}


def _travels(value: object) -> bool:
    """Return whether *value* survives the way to another process."""
    try:
        pickle.loads(pickle.dumps(value))  # noqa: S301 - our own bytes
    except Exception:  # noqa: BLE001 - classes of others may raise anything
        return False
    return True


def _copied(original: _E, copied: _E) -> _E:
    """Return *copied* with the attributes, notes included, that *original* has."""
    copied.__dict__.update(original.__dict__)
    return copied
