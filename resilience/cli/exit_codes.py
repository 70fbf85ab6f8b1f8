"""Exit codes of all commands, and errors as one line each instead of a traceback.

A traceback is for bugs of ours. What an operator can mend is one line with the value, what is allowed and the remedy.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import typer

from resilience.cli.output import note
from resilience.errors import ConfigurationError, HistoryError
from resilience.redaction import redact_secrets

# 2 is what Click exits with after wrong arguments. A script can tell "it cannot work" (2) from "it works, and the answer is
# bad news" (1) for every command.
PROBLEMS_FOUND: Final = 1
"""The exit code of a check or an import that found problems, and of a demo with unanswered calls."""
NOT_FOUND: Final = 1
"""The exit code when the history does not have the record that was named."""
STORE_UNAVAILABLE: Final = 1
"""The exit code when the store of circuits cannot be used."""
SETUP_ERROR: Final = 2
"""The exit code of wrong usage, as Click has it, and of settings or a database that cannot work."""


@contextmanager
def exit_on_setup_error() -> Iterator[None]:
    """Turn a configuration or history error into one line on standard error and the exit code `SETUP_ERROR`.

    Raises:
        typer.Exit: the block raised one of them.
    """
    try:
        yield
    except (ConfigurationError, HistoryError) as exc:
        # Drivers repeat the URL they were given in their messages, with its password.
        note(redact_secrets(str(exc)))
        raise typer.Exit(SETUP_ERROR) from None
