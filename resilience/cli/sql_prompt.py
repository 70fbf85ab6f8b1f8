"""The prompt of `resilience sql` on a terminal: one query after the other."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Final

from resilience.cli.output import note, print_line

_PROMPT: Final = "sql> "
_MORE: Final = "...> "
_ENDS: Final = frozenset({"quit", "exit", ".quit", ".exit", "\\q"})


def is_wanted() -> bool:
    """Return whether a person types at a terminal."""
    return sys.stdin.isatty()


def queries(read: Callable[[str], str] = input) -> Iterator[str]:
    """Yield the queries that a person types. A semicolon or an empty line ends a query, Ctrl-C forgets a half-typed one.

    Args:
        read: prints a prompt and returns the line that is typed; raises EOFError at Ctrl-D, which ends the prompt as `quit` does.
    """
    with suppress(ImportError):
        importlib.import_module("readline")  # its import gives `input` the keys for editing and earlier lines
    note("end a query with a semicolon; `views` lists the views, Ctrl-D or `quit` ends")
    lines: list[str] = []
    while True:
        try:
            line = read(_MORE if lines else _PROMPT).strip()
        except EOFError:
            print_line("")
            return
        except KeyboardInterrupt:
            print_line("")
            lines = []
            continue
        if not lines and line.removesuffix(";").lower() in _ENDS:
            return
        lines += [line] if line else []
        if lines and (not line or line.endswith(";") or lines == ["views"]):
            yield "\n".join(lines)
            lines = []
