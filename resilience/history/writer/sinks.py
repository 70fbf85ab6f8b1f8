"""The destinations of log lines besides the database, and how a failing one is kept from harming the others."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Protocol

from resilience.history.store.database import Instance
from resilience.records.log_events import Line, Loggable, config_line, lines

_log = logging.getLogger("resilience")


class Sink(Protocol):
    """A destination of log lines, for example `resilience.logs.JsonLines`."""

    def write(self, lines: Sequence[tuple[str, Mapping[str, Any]]]) -> None:
        """Write `(stream, line)` pairs. Called on the writer thread."""


class Sinks:
    """All sinks of one process. Each gets every line, and the error of one does not reach the others.

    Args:
        sinks: the destinations.
        instance: this process, as every line names it.
        settings: returns the settings in effect, for the first line of the process; None writes no such line.
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

    def write(self, lines: Sequence[Line]) -> None:
        """Write *lines* to every sink, after the first line of this process. Log the first failure of each sink."""
        if self._settings is not None:
            lines, self._settings = [*self._settings_line(self._settings), *lines], None
        for sink in self._sinks:
            try:
                sink.write(lines)
            except Exception as exc:  # noqa: BLE001 - applications bring their own sinks, which may raise anything
                if id(sink) not in self._failing:
                    _log.warning(
                        "log lines are being lost: %s failed (%s)", type(sink).__name__, type(exc).__name__
                    )
                self._failing.add(id(sink))
            else:
                self._failing.discard(id(sink))

    def _settings_line(self, settings: Callable[[], Mapping[str, Any]]) -> list[Line]:
        try:
            return [config_line(self._instance.identity(), settings(), datetime.now(UTC))]
        except Exception as exc:  # noqa: BLE001 - lines about calls must not be lost for a line about settings
            _log.warning("the settings were not logged (%s)", type(exc).__name__)
            return []

    def lines(self, record: Loggable, extra: Mapping[str, Any]) -> Iterable[Line]:
        """Return the log lines of *record*. Never raises.

        Args:
            record: what to log.
            extra: fields to add to each line: why the record has no row.
        """
        instance = self._instance
        try:
            pairs = list(lines(record, instance.instance_id, instance.pid, instance.service))
        except Exception as exc:  # noqa: BLE001 - a malformed record must not end the thread that writes the others
            _log.warning("a record was not logged: %s (%s)", type(record).__name__, type(exc).__name__)
            return []
        return [(stream, {**line, **extra}) for stream, line in pairs] if extra else pairs
