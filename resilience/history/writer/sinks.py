"""The destinations of log lines besides the database, and how a failing one is kept from harming the others."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol
from weakref import WeakKeyDictionary

from resilience.history.store.process import Instance
from resilience.history.writer.log_presence import LogPresence
from resilience.logs import JsonLines
from resilience.records.log_events import Line, Loggable, config_line, lines

_log = logging.getLogger("resilience")


class Sink(Protocol):
    """A destination of log lines, for example `resilience.logs.JsonLines`."""

    def write(self, lines: Sequence[tuple[str, Mapping[str, Any]]]) -> None:
        """Write `(stream, line)` pairs. Called on the writer thread."""


class SinkGroup:
    """The sinks that get the lines of one part of a process, for example of the handlers with one log policy.

    Args:
        sinks: the destinations.
        settings: returns the settings in effect, for the first line; None writes no such line.
        left_out: the events that get no line.

    Attributes:
        sinks: as given.
        settings: as given.
        left_out: as given.
        folders: the log folders among them.
        has_foreign: whether the application brought one of them, which may hang.
    """

    __slots__ = ("__weakref__", "_files", "folders", "has_foreign", "left_out", "settings", "sinks")

    def __init__(
        self,
        sinks: Sequence[Sink] = (),
        settings: Callable[[], Mapping[str, Any]] | None = None,
        left_out: frozenset[str] = frozenset(),
    ) -> None:
        self.sinks = tuple(sinks)
        self.settings = settings
        self.left_out = left_out
        self._files = tuple(sink for sink in self.sinks if isinstance(sink, JsonLines))
        self.folders = tuple(sink.directory for sink in self._files)
        self.has_foreign = len(self._files) < len(self.sinks)

    @property
    def is_failing(self) -> bool:
        """Whether lines of the last batch are missing in the log files."""
        return any(sink.is_failing for sink in self._files)

    def __bool__(self) -> bool:
        return bool(self.sinks)


class AbandonedThreadError(BaseException):
    """This thread hung in a sink, and another one does its work since: it must end without touching anything."""


@dataclass(slots=True, eq=False)
class _SinkCall:
    """A call of a sink in progress.

    Attributes:
        sink: the sink.
        since: when the call began, by the monotonic clock.
        abandoned: whether another thread has taken over.
    """

    sink: Sink
    since: float
    abandoned: bool = False


class Sinks:
    """The opened sinks of one group in one process. Each gets every line, and the error of one does not reach the others.

    Args:
        group: the destinations.
        instance: this process, as every line names it.
    """

    def __init__(self, group: SinkGroup, instance: Instance) -> None:
        self._sinks = group.sinks
        self._instance = instance
        self._settings = group.settings
        self._left_out = group.left_out
        self._failing: set[int] = set()
        self._call: _SinkCall | None = None

    def __bool__(self) -> bool:
        return bool(self._sinks)

    def write(self, lines: Sequence[Line]) -> None:
        """Write *lines* to every sink, after the first line of this process. Log the first failure of each sink."""
        if self._settings is not None:
            lines, self._settings = [*self._settings_line(self._settings), *lines], None
        for sink in self._sinks:
            call = self._call = _SinkCall(sink, time.monotonic())
            try:
                sink.write(lines)
            except BaseException as exc:  # noqa: BLE001 - applications bring their own sinks, which may raise anything, SystemExit too
                if id(sink) not in self._failing:
                    _log.warning(
                        "log lines are being lost: %s failed (%s)", type(sink).__name__, type(exc).__name__
                    )
                self._failing.add(id(sink))
            else:
                self._failing.discard(id(sink))
            if call.abandoned:
                raise AbandonedThreadError
        self._call = None

    def leave_hanging_sink(self, limit: float) -> bool:
        """Give up a sink whose call has not returned for *limit* seconds. Return whether there was one.

        Called by another thread than the one that hangs in the sink. That thread cannot be stopped; it ends when the sink
        returns, and touches nothing of ours any more.
        """
        call = self._call
        if call is None or time.monotonic() - call.since < limit:
            return False
        call.abandoned, self._call = True, None
        self._sinks = tuple(sink for sink in self._sinks if sink is not call.sink)
        _log.warning(
            "log lines are being lost: %s has not returned for %g s; it gets no more lines, and its thread is left behind",
            type(call.sink).__name__,
            limit,
        )
        return True

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
            pairs = list(
                lines(record, instance.instance_id, instance.pid, instance.service, left_out=self._left_out)
            )
        except Exception as exc:  # noqa: BLE001 - a malformed record must not end the thread that writes the others
            _log.warning("a record was not logged: %s (%s)", type(record).__name__, type(exc).__name__)
            return []
        for _, line in pairs:
            line.update(extra)
        return pairs


class LogLines:
    """The log lines of one process on their way to its groups of sinks. Used by the writer thread, but for one method.

    Args:
        instance: this process.
        presence: its files in the log folders; None if no rows are kept.
    """

    def __init__(self, instance: Instance, presence: LogPresence | None) -> None:
        self._instance = instance
        self._presence = presence
        # By group, as long as the group is used: a handler that is gone leaves nothing of its sinks here.
        self._sinks: WeakKeyDictionary[SinkGroup, Sinks] = WeakKeyDictionary()
        self._lines: dict[SinkGroup, list[Line]] = {}

    def add(self, group: SinkGroup, record: Loggable, extra: Mapping[str, Any]) -> None:
        """Prepare the lines of *record* for *group*; *extra* are fields to add to each."""
        if group:
            self._lines.setdefault(group, []).extend(self._opened(group).lines(record, extra))

    def write(self) -> bool:
        """Write what was added.

        Returns:
            Whether the lines are where another process would find and import them, if this one was killed now. True for groups
            without files: none is expected there.
        """
        are_kept = True
        # Taken out one by one: if a sink hangs, the thread that takes over goes on with the lines of the other groups.
        while self._lines:
            group, lines = self._lines.popitem()
            if lines:
                is_found = self._presence is None or self._presence.enter(group.folders)
                self._opened(group).write(lines)
                are_kept &= is_found and not group.is_failing
        return are_kept

    def write_late(self, group: SinkGroup, record: Loggable, extra: Mapping[str, Any]) -> None:
        """Write the lines of *record* to the log files alone, after the writer thread has ended.

        The process ends, or its handler was closed while a call was in flight. Its mark is left behind, so that the next
        writer on the folder imports the row.
        """
        if self._presence is None or not group.folders:
            return
        self._presence.enter(group.folders)
        files = SinkGroup([sink for sink in group.sinks if isinstance(sink, JsonLines)])
        self._opened(files).write(list(self._opened(files).lines(record, extra)))
        self._presence.leave(complete=False)

    def leave_hanging_sink(self, limit: float) -> bool:
        """Give up a sink that has not returned for *limit* seconds. Return whether there was one. For another thread."""
        return any(sinks.leave_hanging_sink(limit) for sinks in list(self._sinks.values()))

    def _opened(self, group: SinkGroup) -> Sinks:
        sinks = self._sinks.get(group)
        if sinks is None:
            sinks = self._sinks[group] = Sinks(group, self._instance)
        return sinks
