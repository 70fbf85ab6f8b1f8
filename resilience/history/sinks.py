"""Where lines go besides the database, and what happens when one of those places fails."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

from resilience.history.lines import Line, lines
from resilience.history.rows import Record

_log = logging.getLogger("resilience")


class Sink(Protocol):
    """Where lines go besides the database, for example `resilience.logs.JsonLines`."""

    def write(self, lines: Sequence[tuple[str, Mapping[str, Any]]]) -> None:
        """Take `(stream, line)` pairs; called on the writer thread."""


class Sinks:
    """All sinks of one process: each gets every line, and none harms another."""

    def __init__(self, sinks: Sequence[Sink], instance_id: str, pid: int) -> None:
        self._sinks = tuple(sinks)
        self._instance_id = instance_id
        self._pid = pid
        self._failing: set[int] = set()

    def __bool__(self) -> bool:
        return bool(self._sinks)

    def tell(self, told: Sequence[Line]) -> None:
        """Give *told* to every sink."""
        for sink in self._sinks:
            try:
                sink.write(told)
            except Exception as exc:  # noqa: BLE001 - a sink may be anybody's; its trouble is not the caller's
                if id(sink) not in self._failing:
                    _log.warning(
                        "log lines are being lost: %s failed (%s)", type(sink).__name__, type(exc).__name__
                    )
                self._failing.add(id(sink))
            else:
                self._failing.discard(id(sink))

    def lines(self, record: Record, unkept: Mapping[str, Any]) -> Iterable[Line]:
        """The lines of *record*, each with what is to be said of it when it has no row."""
        try:
            told = list(lines(record, self._instance_id, self._pid))
        except Exception as exc:  # noqa: BLE001 - a record made wrongly must not end the thread that keeps the others
            _log.warning("a record was not logged: %s (%s)", type(record).__name__, type(exc).__name__)
            return []
        return [(stream, {**line, **unkept}) for stream, line in told] if unkept else told
