"""Events as records of the standard `logging`, for programs with handlers, formatters and shippers of their own."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any, Final

EVENTS_LOGGER: Final = "resilience.events"
"""The logger that gets every event; give it a handler, or let it reach the root logger's."""

_RESERVED: Final = frozenset({"message", "asctime", *vars(logging.makeLogRecord({}))})
_LEVELS: Final = {name.lower(): number for name, number in logging.getLevelNamesMapping().items()}
_TOLD: Final = ("function", "client", "from_client", "to_client", "category", "outcome", "message")


class Bridge:
    """Hands each line to `logging`: the record's text is short and for people, the line's fields are its `extra`.

    A field whose name `logging` keeps for itself gets a trailing underscore: `message_`.
    """

    def __init__(self, logger: logging.Logger | None = None) -> None:
        self._logger = logging.getLogger(EVENTS_LOGGER) if logger is None else logger

    def write(self, lines: Sequence[tuple[str, Mapping[str, Any]]]) -> None:
        """Log each line at its own level."""
        for _, line in lines:
            level = _LEVELS[line["level"]]
            if self._logger.isEnabledFor(level):
                self._logger.handle(self._record(level, line))

    def _record(self, level: int, line: Mapping[str, Any]) -> logging.LogRecord:
        """The line's fields go before those that a program's own record factory adds: it knows no request on this thread."""
        record = self._logger.makeRecord(
            self._logger.name, level, __file__, 0, "%s", (_text(line),), exc_info=None
        )
        record.__dict__.update(_extra(line))
        return record


def _text(line: Mapping[str, Any]) -> str:
    return " ".join(str(line[name]) for name in ("event", *_TOLD) if line.get(name))


def _extra(line: Mapping[str, Any]) -> dict[str, Any]:
    return {f"{name}_" if name in _RESERVED else name: value for name, value in line.items()}
