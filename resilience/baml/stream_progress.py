"""How far a stream of a call has come: shared by its attempts, its readers and the rules of the call."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

NO_SNAPSHOT: Final = object()
"""Stands for "nothing to read": None may be a snapshot."""


@dataclass(slots=True)
class StreamProgress:
    """The state of one stream over all its attempts.

    A snapshot is the whole answer so far, so only the latest one is kept: a slow reader skips those in between, as it does
    with BAML.

    Attributes:
        notify: called after each new snapshot, to wake the readers.
        client: the client of the latest attempt; empty before the first.
        attempt: the number of the latest attempt, from 1, counted over all clients; 0 before the first.
        restarts: how often an attempt began after the reader had seen content of an earlier one.
        has_content: whether content arrived in the latest attempt.
        time_to_first_token: seconds from the request of the latest attempt to its first content; None without content.
        content_shown: whether a reader has taken a snapshot with content, of any attempt.
    """

    notify: Callable[[], None]
    client: str = ""
    attempt: int = 0
    restarts: int = 0
    has_content: bool = False
    time_to_first_token: float | None = None
    content_shown: bool = False
    _shown_of_attempt: bool = False
    _latest: Any = NO_SNAPSHOT

    def begin(self, client: str) -> None:
        """Begin an attempt on *client*. A snapshot of the one before that was not read is dropped."""
        self.restarts += self._shown_of_attempt
        self.client = client
        self.attempt += 1
        self.has_content = self._shown_of_attempt = False
        self.time_to_first_token = None
        self._latest = NO_SNAPSHOT

    def has_begun(self, seconds: float) -> None:
        """Note content of the latest attempt, *seconds* after its request. Only the first content counts."""
        if not self.has_content:
            self.has_content, self.time_to_first_token = True, seconds

    def show(self, snapshot: Any) -> None:
        """Offer *snapshot* to the readers."""
        self._latest = snapshot
        self.notify()

    def take(self) -> Any:
        """Return the latest snapshot that no reader has taken; `NO_SNAPSHOT` without one."""
        snapshot, self._latest = self._latest, NO_SNAPSHOT
        if snapshot is not NO_SNAPSHOT and self.has_content:
            self.content_shown = self._shown_of_attempt = True
        return snapshot
