"""Warnings that a newcomer must see: they also reach standard error where logging is not configured.

A library must not configure logging, so its warnings are invisible in a program that does not either. That is right for most of
them. It is wrong for the few which say that what the package was installed for does not happen: no history, circuits that are not shared.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import suppress
from typing import Final

from resilience.terminal import escape

_printed: Final[set[str]] = set()


def warn(logger: logging.Logger, kind: str, message: str) -> None:
    """Log a warning; print it as well, once for each *kind* in a process, if no handler of the application gets it.

    Args:
        logger: the logger.
        kind: what the warning is about.
        message: the text, with its remedy.
    """
    logger.warning("%s", message)
    if kind in _printed or any(
        not isinstance(handler, logging.NullHandler) for handler in handlers_of(logger)
    ):
        return
    _printed.add(kind)
    print_warning(message)


def print_warning(message: str) -> None:
    """Print *message* to standard error. Never raises."""
    # Standard error may be closed, or be a pipe that no process reads any more. At exit a signal may have interrupted a print to it.
    with suppress(Exception):
        sys.stderr.write(f"resilience: {escape(message)}\n")
        sys.stderr.flush()


def handlers_of(logger: logging.Logger) -> Iterator[logging.Handler]:
    """Yield the handlers that get a warning of *logger*, also those of its parents."""
    current: logging.Logger | None = logger
    while current is not None:
        yield from current.handlers
        current = current.parent if current.propagate else None
