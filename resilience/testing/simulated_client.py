"""The handle of one simulated client: what it does now, next, and at planned times."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from resilience import validation
from resilience.testing.behaviours import Answer, Behaviour, Choice, Status
from resilience.testing.request import Request


@dataclass(frozen=True, slots=True)
class SimulatedOutage:
    """A planned outage.

    Attributes:
        start: start in seconds since the simulator started.
        end: end in the same seconds.
        behaviour: what the client does in between.
    """

    start: float
    end: float
    behaviour: Choice


class SimulatedClient:
    """One client of a `ProviderSimulator`.

    A request gets the first of these: the next behaviour of `script`, an `outage` that covers this moment, the behaviour of
    `set` or `answer`, a good answer. All of them may be changed from any thread while requests run.

    Attributes:
        name: the client's name.
        url: its base URL, for the option `base_url` of the client in a `.baml` file.
        counts: how often each behaviour was sent, by its name in the log.
    """

    # No lock: each change replaces or extends one attribute in a single step, and `choose` takes from each in a single step.
    def __init__(self, name: str, url: str) -> None:
        self.name = name
        self.url = url
        self.counts: Counter[str] = Counter()
        self._default: Choice = Answer()
        self._script: deque[Choice] = deque()
        self._outages: tuple[SimulatedOutage, ...] = ()

    @property
    def asked(self) -> int:
        """Number of requests so far."""
        return self.counts.total()

    def set(self, behaviour: Choice) -> None:
        """Use *behaviour* from now on, where neither script nor outage applies."""
        self._default = behaviour

    def answer(
        self,
        body: Any = None,
        *,
        status: int = 200,
        headers: Mapping[str, str] | None = None,
        delay: float = 0.0,
    ) -> None:
        """Use `Answer` or `Status` from now on: a shorthand of `set`.

        Args:
            body: with status 200 the `content` of `Answer`, otherwise the `body` of `Status`.
            status: the HTTP status.
            headers: response headers to add.
            delay: seconds before the first byte.
        """
        if status == HTTPStatus.OK:
            self.set(Answer(body, headers=headers, delay=delay))
        else:
            self.set(Status(status, body=body, headers=headers, delay=delay))

    def script(self, behaviours: Iterable[Choice]) -> None:
        """Use each of *behaviours* for one of the next requests, after those already scripted."""
        self._script.extend(behaviours)

    def outage(self, start: float, end: float, behaviour: Choice) -> None:
        """Plan an outage. Where two overlap, the one planned later wins.

        Args:
            start: start in seconds since the simulator started.
            end: end in the same seconds.
            behaviour: what to do in between.

        Raises:
            ValueError: *start* is negative or *end* is not after it.
        """
        validation.number("outage", "start", start)
        validation.number("outage", "end", end, low=start, above=True)
        self._outages = (
            SimulatedOutage(start, end, behaviour),
            *self._outages,
        )  # newest first: the first that covers a moment wins

    def heal(self) -> None:
        """Give good answers from now on: drop the script, the outages and the behaviour of `set`."""
        self._script.clear()
        self._outages = ()
        self._default = Answer()

    def choose(self, request: Request) -> Behaviour:
        """Return the behaviour for *request*, and remove it from the script if it is the next of it."""
        choice = self._next(request.at)
        return choice(request) if callable(choice) else choice

    def _next(self, at: float) -> Choice:
        with suppress(IndexError):  # empty, or emptied by another thread at this moment
            return self._script.popleft()
        current = (outage.behaviour for outage in self._outages if outage.start <= at < outage.end)
        return next(current, self._default)
