"""An outage of the store: one log line at its begin and at its end, and when the store is asked again."""

from __future__ import annotations

import logging
from typing import Final

from resilience import notices
from resilience.redaction import redact
from resilience.terminal import escape

_RETRY_SECONDS: Final = 0.1  # time until a store that is away is asked again; doubles each time,
_RETRY_MAX: Final = 2.0  # up to this; both are varied by half of them, so that a fleet does not ask in step

_logger = logging.getLogger("resilience")

_LONGEST: Final = 300  # characters of an error


def _described(error: Exception) -> str:
    """Return class and text of an error of the store. A server chooses the text: it may be long, and repeat what it was sent."""
    return escape(redact(f"{type(error).__name__}: {error}"[: 10 * _LONGEST]))[:_LONGEST]


class StoreOutage:
    """The current or the last outage. Times are seconds of the monotonic clock."""

    __slots__ = ("_failed_attempts", "_since")

    def __init__(self) -> None:
        self._since = 0.0
        self._failed_attempts = 0

    def begin(self, error: Exception, now: float) -> None:
        """Note that the store is away from *now* on, because of *error*."""
        self._since, self._failed_attempts = now, 0
        why = _described(error)
        message = (
            f"the store of circuits is away ({why}); calls go on with the circuits of this process alone"
        )
        notices.warn(_logger, "store", message)

    def end(self, now: float) -> None:
        """Note that the store is back."""
        _logger.info("the store of circuits is back after %.1f s", now - self._since)

    def reply_came(self) -> None:
        """Note a late reply: the store lives, and the next attempts follow soon."""
        self._failed_attempts = 0

    def next_wait(self, sample: float) -> float:
        """Return the seconds until the next attempt after a failed one.

        Args:
            sample: a random number from 0 to 1.
        """
        wait = min(_RETRY_MAX, _RETRY_SECONDS * 2.0 ** min(self._failed_attempts, 10))
        self._failed_attempts += 1
        return wait * (0.5 + sample)
