"""Where lines go besides the database, and what happens when one of those places fails."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Protocol

from resilience.history.store.database import Instance
from resilience.records.log_events import Line, Loggable, config_line, lines

_log = logging.getLogger("resilience")


class Sink(Protocol):
    """Where lines go besides the database, for example `resilience.logs.JsonLines`."""

    def write(self, lines: Sequence[tuple[str, Mapping[str, Any]]]) -> None:
        """Take `(stream, line)` pairs; called on the writer thread."""


class Sinks:
    """All sinks of one process: each gets every line, and none harms another.

    Args:
        sinks: where lines go.
        instance: this process, as every line names it.
        settings: what the process goes by, for its first line; none is written without.
    """

    def __init__(
        self,
        sinks: Sequence[Sink],
        instance: Instance,
        settings: Callable[[], Mapping[str, Any]] | None = None,
    ) -> None:
        self._sinks = tuple(sinks)
        self._instance = instance
        self._settings = settings
        self._failing: set[int] = set()

    def __bool__(self) -> bool:
        return bool(self._sinks)

    def tell(self, told: Sequence[Line]) -> None:
        """Give *told* to every sink, after the first line of this process."""
        if self._settings is not None:
            told, self._settings = [*self._first(self._settings), *told], None
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

    def _first(self, settings: Callable[[], Mapping[str, Any]]) -> list[Line]:
        try:
            return [config_line(self._instance.identity(), settings(), datetime.now(UTC))]
        except Exception as exc:  # noqa: BLE001 - a line about settings must not cost the lines about calls
            _log.warning("the settings were not logged (%s)", type(exc).__name__)
            return []

    def lines(self, record: Loggable, unkept: Mapping[str, Any]) -> Iterable[Line]:
        """The lines of *record*, each with what is to be said of it when it has no row."""
        of = self._instance
        try:
            told = list(lines(record, of.instance_id, of.pid, of.service))
        except Exception as exc:  # noqa: BLE001 - a record made wrongly must not end the thread that keeps the others
            _log.warning("a record was not logged: %s (%s)", type(record).__name__, type(exc).__name__)
            return []
        return [(stream, {**line, **unkept}) for stream, line in told] if unkept else told
