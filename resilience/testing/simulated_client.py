"""The handle of one simulated client: what it does now, next, and on a timetable."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from resilience import validation
from resilience.testing.behaviours import Answer, Behaviour, Choice, Status
from resilience.testing.request import Request


@dataclass(frozen=True, slots=True)
class Outage:
    """A line of the timetable: *behaviour* from *start* until *end*, in seconds since the simulator started."""

    start: float
    end: float
    behaviour: Choice


class SimulatedClient:
    """One client of a `ProviderSimulator`, to be told how to behave.

    What it does with a request is the first of these that is there: the next of `script`, an `outage` of this
    moment, what `set` or `answer` said, a good answer. All of it may be changed while requests run, from any thread.

    Attributes:
        name: the client's name.
        url: its base URL, for `base_url` of the client in your `.baml` file.
        counts: how often each behaviour was sent, by its name in the log.
    """

    def __init__(self, name: str, url: str) -> None:
        self.name = name
        self.url = url
        self.counts: Counter[str] = Counter()
        self._standing: Choice = Answer()
        self._script: deque[Choice] = deque()
        self._timetable: tuple[Outage, ...] = ()

    @property
    def asked(self) -> int:
        """How many requests came."""
        return self.counts.total()

    def set(self, behaviour: Choice) -> None:
        """Do this from now on."""
        self._standing = behaviour

    def answer(
        self,
        body: Any = None,
        *,
        status: int = 200,
        headers: Mapping[str, str] | None = None,
        delay: float = 0.0,
    ) -> None:
        """Answer like this from now on: `set` in one breath.

        Args:
            body: with status 200 the answer's content as in `Answer`, with others the response body as in `Status`.
            status: the HTTP status.
            headers: response headers to add.
            delay: seconds before the first byte.
        """
        good = status == 200  # noqa: PLR2004 - HTTP's own number
        self.set(
            Answer(body, headers=headers, delay=delay)
            if good
            else Status(status, body=body, headers=headers, delay=delay)
        )

    def script(self, behaviours: Iterable[Choice]) -> None:
        """Do these with the next requests, each once and before anything else; they queue behind what is scripted."""
        self._script.extend(behaviours)

    def outage(self, start: float, end: float, behaviour: Choice) -> None:
        """Do this from *start* until *end*, seconds since the simulator started; of two at once the later said wins.

        Raises:
            ValueError: *start* is negative or *end* is not after it.
        """
        validation.number("outage", "start", start)
        validation.number("outage", "end", end, low=start, above=True)
        self._timetable = (Outage(start, end, behaviour), *self._timetable)

    def heal(self) -> None:
        """Give good answers from now on: forget script, timetable and what was set."""
        self._script.clear()
        self._timetable = ()
        self._standing = Answer()

    def choose(self, request: Request) -> Behaviour:
        """What to do with *request*; takes it from the script if one is there."""
        choice = self._next(request.at)
        return choice(request) if callable(choice) else choice

    def _next(self, at: float) -> Choice:
        if self._script:
            return self._script.popleft()
        now = (outage.behaviour for outage in self._timetable if outage.start <= at < outage.end)
        return next(now, self._standing)
