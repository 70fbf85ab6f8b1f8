"""The recorders of a process: one for each database, however many handlers, policies and sinks there are.

A recorder has a thread, a connection and a queue of 10 000 records. Handlers that differ in their policies or sinks share it,
and each gets a view with its own sinks. The last one that releases its view closes the recorder.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from resilience import lifecycle, telemetry
from resilience.config.settings import Settings, retention_policy
from resilience.history import Recorder, Sink
from resilience.history.writer.recorder_view import RecorderView
from resilience.records.records import NAMESPACE

_Key = tuple[str | None, str, str]


@dataclass(slots=True)
class _Shared:
    recorder: Recorder
    users: int = 0


_lock = threading.Lock()
"""Guards `_open`, for moments."""
_open: Final[dict[_Key, _Shared]] = {}


def acquire(
    settings: Settings,
    sinks: Sequence[Sink],
    describe_settings: Callable[[], Mapping[str, Any]],
    idle: Callable[[], None],
    degraded: Callable[[], bool],
    *,
    left_out: frozenset[str],
) -> RecorderView:
    """Return a view of the recorder for the database of *settings*. Open the recorder if it is the first.

    Args:
        settings: the settings, with every default filled in.
        sinks: destinations of the log lines of the view.
        describe_settings: returns the settings in effect, for the first log line of the view.
        idle: called by the writer thread when it has written; must not raise.
        degraded: returns whether a store of circuits is away.
        left_out: the events that get no log line.

    Returns:
        The view, to be given to `release` once.

    Raises:
        ConfigurationError: the URL cannot be used.
    """
    database = settings.database_url if settings.keeps_history else None
    key = (database, settings.durability or "", settings.service or "")
    with _lock:
        shared = _open.get(key)
        if shared is None:
            recorder = Recorder(
                database,
                degraded=degraded,
                flushed=telemetry.record_flush,
                idle=idle,
                service=settings.service or "",
                namespace=settings.namespace or NAMESPACE,
                durability="full" if settings.durability == "full" else "normal",
                retention=retention_policy(),
                exit_timeout=settings.exit_timeout,
            )
            shared = _open[key] = _Shared(recorder)
        namespace = settings.namespace or NAMESPACE
        view = RecorderView(shared.recorder, sinks, describe_settings, left_out, namespace)
        shared.users += 1
    return view


def release(view: RecorderView) -> None:
    """Write what was recorded, and close the recorder if no other view of it is in use. Blocks for its time limit at most."""
    with _lock:
        last = False
        for key, shared in list(_open.items()):
            if shared.recorder is view.recorder:
                shared.users -= 1
                last = not shared.users
                if last:
                    del _open[key]
    if last:
        view.recorder.close()
    elif not view.recorder.is_own_thread():
        view.recorder.flush(view.recorder.exit_limit())


def _replace_lock() -> None:
    global _lock  # noqa: PLW0603 - another thread may have held it at the fork; then it is never released in the child
    _lock = threading.Lock()


lifecycle.call_in_child(_replace_lock)
