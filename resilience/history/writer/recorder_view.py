"""A recorder as one part of a process uses it: with the sinks of that part. The queue, the thread and the database are shared."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from functools import partial
from typing import Any, TypeVar

from resilience.history.writer.recorder import Recorder
from resilience.history.writer.sinks import Sink, SinkGroup
from resilience.records.deferred import DeferredRecord
from resilience.records.records import NAMESPACE, Record

T = TypeVar("T")


def _ignore(_: Record | DeferredRecord) -> None:
    """Keep nothing."""


class RecorderView:
    """A recorder whose log lines go to sinks of its own.

    Args:
        recorder: the recorder.
        sinks: destinations of the log lines of what is recorded here.
        settings: returns the settings in effect, for the first log line and for `policies`.
        left_out: the events that get no line.
        namespace: the namespace of the deployment.

    Attributes:
        namespace: as given.
        recorder: as given.
        record: as `Recorder.record`.
        log: as `Recorder.log`.
    """

    def __init__(
        self,
        recorder: Recorder,
        sinks: Sequence[Sink],
        settings: Callable[[], Mapping[str, Any]],
        left_out: frozenset[str] = frozenset(),
        namespace: str = NAMESPACE,
    ) -> None:
        self.namespace = namespace
        self.recorder = recorder
        self._group = SinkGroup(sinks, settings, left_out)
        recorder.announce(self._group)
        # Bound once: each call records, and a method here would cost it one more call.
        self.record: Callable[[Record | DeferredRecord], None] = recorder.record
        if self._group:
            self.record = partial(recorder.record, sinks=self._group)
        elif not recorder.has_database:  # nothing is kept, so the thread must not even wake
            self.record = _ignore
        self.log = partial(recorder.log, sinks=self._group)

    @property
    def logs(self) -> bool:
        """Whether there are sinks, so that log-only events are worth building."""
        return bool(self._group)

    @property
    def has_database(self) -> bool:
        """Whether rows are kept at all."""
        return self.recorder.has_database

    @property
    def instance_id(self) -> str:
        """Id of this process in the history."""
        return self.recorder.instance_id

    @property
    def queue_depth(self) -> int:
        """Number of records of this process that are not written yet."""
        return self.recorder.queue_depth

    @property
    def dropped(self) -> int:
        """Number of records of this process that were given up."""
        return self.recorder.dropped

    @property
    def sampled(self) -> int:
        """Number of records of this process that sampling left without a row."""
        return self.recorder.sampled

    def exit_limit(self) -> float:
        """Return the seconds that closing may take."""
        return self.recorder.exit_limit()

    def submit(self, work: Callable[[Any], T], *, after: float = 0.0) -> Future[T]:
        """Run *work* on the writer thread, as `Recorder.submit` does."""
        return self.recorder.submit(work, after=after)

    def flush(self, timeout: float = 2.0) -> bool:
        """Write everything recorded so far by this process. Return whether that succeeded within *timeout* seconds."""
        return self.recorder.flush(timeout)

    async def aflush(self, timeout: float = 2.0) -> bool:  # noqa: ASYNC109 - as in the recorder
        """Write everything recorded so far, like `flush`, without blocking the event loop."""
        return await self.recorder.aflush(timeout)
