"""Hand events to the standard `logging`, for applications with their own handlers and formatters."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any, Final

EVENTS_LOGGER: Final = "resilience.events"
"""The logger of all events. Give it a handler, or let them propagate to the handlers of the root logger."""

_RESERVED: Final = frozenset({"message", "asctime", *vars(logging.makeLogRecord({}))})
_LEVELS: Final = {name.lower(): number for name, number in logging.getLevelNamesMapping().items()}
_TEXT_FIELDS: Final = ("function", "client", "from_client", "to_client", "category", "outcome", "message")


class Bridge:
    """A sink that logs each line: its message is short and for people, and the line's fields are attributes of the record.

    A field with a name that `logging` reserves gets a trailing underscore, such as `message_`.

    Args:
        logger: receives the records; the logger `resilience.events` by default.
    """

    def __init__(self, logger: logging.Logger | None = None) -> None:
        self._logger = logging.getLogger(EVENTS_LOGGER) if logger is None else logger

    def write(self, lines: Sequence[tuple[str, Mapping[str, Any]]]) -> None:
        """Log each `(stream, line)` at the line's level."""
        for _, line in lines:
            level = _LEVELS[line["level"]]
            if self._logger.isEnabledFor(level):
                self._logger.handle(self._record(level, line))

    def _record(self, level: int, line: Mapping[str, Any]) -> logging.LogRecord:
        record = self._logger.makeRecord(
            self._logger.name, level, __file__, 0, "%s", (_text(line),), exc_info=None
        )
        # Overwrites what the application's record factory added, such as a request id: on the writer thread it knows no request.
        record.__dict__.update(_extra(line))
        return record


def _text(line: Mapping[str, Any]) -> str:
    return " ".join(str(line[name]) for name in ("event", *_TEXT_FIELDS) if line.get(name))


def _extra(line: Mapping[str, Any]) -> dict[str, Any]:
    return {f"{name}_" if name in _RESERVED else name: value for name, value in line.items()}
