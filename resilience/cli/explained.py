"""Errors of the set-up as one line and an exit code, instead of a traceback."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import typer

from resilience.errors import ConfigurationError, HistoryError

BAD_USE: Final = 2
"""The exit code of a set-up that cannot work."""


@contextmanager
def explained() -> Iterator[None]:
    """Turn an error of the set-up into one line on stderr and the exit code of bad use."""
    try:
        yield
    except (ConfigurationError, HistoryError) as exc:
        sys.stderr.write(f"resilience: {exc}\n")
        raise typer.Exit(BAD_USE) from None
