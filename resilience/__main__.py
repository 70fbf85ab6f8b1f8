"""The command `resilience`, also as `python -m resilience`."""

from __future__ import annotations

import signal
import sys

_INTERRUPTED = 130


def main() -> None:
    """Run the command line. Ctrl-C ends it without a traceback and with exit code 130, also while it is being imported."""
    try:
        if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
            # In place of the handler that `resilience/__init__.py` set for the start: from here on an interruption is caught.
            signal.signal(signal.SIGINT, signal.default_int_handler)
        # Here, and not at the top: this import is most of the time before a command begins, when a slip is noticed.
        from resilience.cli import app  # noqa: PLC0415 - as above

        app()
    except KeyboardInterrupt:
        sys.exit(_INTERRUPTED)


if __name__ == "__main__":
    main()
