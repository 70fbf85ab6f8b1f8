"""Errors of the set-up as one line and an exit code, instead of a traceback; warnings as one line each."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import typer

from resilience.cli.output import note
from resilience.errors import ConfigurationError, HistoryError
from resilience.redaction import redact_secrets

BAD_USE: Final = 2
"""The exit code of a set-up that cannot work."""


@contextmanager
def explained() -> Iterator[None]:
    """Turn an error of the set-up into one line on stderr and the exit code of bad use."""
    try:
        yield
    except (ConfigurationError, HistoryError) as exc:
        sys.stderr.write(f"resilience: {redact_secrets(str(exc))}\n")
        raise typer.Exit(BAD_USE) from None


class Warnings(logging.Handler):
    """Tells on stderr what the rooms warn of. A library leaves that to the program, and here we are the program."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)

    def filter(self, record: logging.LogRecord) -> bool:
        """Our words for people, not the events of the bridge."""
        return record.name == "resilience" and bool(super().filter(record))

    def emit(self, record: logging.LogRecord) -> None:
        """One line."""
        try:
            note(record.getMessage())
        except Exception:  # noqa: BLE001 - as every handler of `logging`
            self.handleError(record)
