"""What the engine of a call asks its driver to do, and what the driver hands back.

The engine yields an effect and is resumed with its reply. Before each resumption the driver sets `CallContext.now`.

| effect | reply |
|---|---|
| `Admit` | a `Permit`, or the `CircuitOpenError` |
| `Ask` | a `Returned`, or the exception of the client |
| `Sleep` | None |
| `ProbeBeside` | None |

The values are not frozen: a frozen dataclass takes three times as long to make, and each call makes four of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from resilience.breaker import Permit
from resilience.errors import CircuitOpenError

ABORT_POLL: Final = 0.05
"""Seconds between two looks at an abort controller of the caller, which notifies nothing."""


@dataclass(slots=True)
class Admit:
    """Ask the circuit of `client` for a permit.

    Attributes:
        client: the client.
        max_wait: seconds to wait for another call of this process that is finding out about the client.
    """

    client: str
    max_wait: float = 0.0


@dataclass(slots=True)
class ProbeBeside:
    """Let a task of its own find out whether `client` works again. Only the driver for event loops is asked to."""

    client: str


@dataclass(slots=True)
class Ask:
    """Call `function` with the arguments of the call.

    Attributes:
        function: asks one client once.
        timeout: seconds the driver waits for it; None without a limit. At the limit the driver stops the function as well as
            it can and replies with a `TimeLimitReached`.
    """

    function: Any
    timeout: float | None


@dataclass(slots=True)
class Sleep:
    """Wait for `seconds`, or until the caller aborts the call if that comes first."""

    seconds: float


@dataclass(slots=True)
class Returned:
    """What the client returned. A value of its own, since a client may return an exception as its result."""

    result: Any


class TimeLimitReached(Exception):  # noqa: N818 - not an error of the caller: the engine turns it into one
    """The time limit of an `Ask` passed."""


Effect = Admit | Ask | Sleep | ProbeBeside
Reply = Permit | CircuitOpenError | Returned | Exception | None
