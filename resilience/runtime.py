"""The runtime: circuits, recorder and history reader, shared by the handlers of one process with equal settings.

Connections are opened here, and those of recorders in `shared_recorders.py`. The circuits and the recorder have one background
thread each. One recorder writes to a database, whatever the policies and sinks of the handlers.

A handler may be forgotten without being closed. The garbage collector finds it at any moment, on any thread, and with any lock
held. So its finalizer only notes the runtime and wakes the writer thread, which then releases it.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import logging
import os
import random
import sys
import threading
from collections import deque
from concurrent.futures import wait
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final

from resilience import file_trust, lifecycle, shared_recorders, telemetry
from resilience import history as history_package
from resilience.breaker import (
    Breaker,
    BreakerPolicy,
    CircuitState,
    Listener,
    StoreRegistry,
    Transition,
    TransitionRule,
)
from resilience.circuit_events import CircuitEventLog
from resilience.clock import Clock
from resilience.config.effective import masked
from resilience.config.hash_key import NAME, shared_key
from resilience.config.settings import Settings, log_policy, project_folder
from resilience.config.sources import FOLDER
from resilience.history import Sink
from resilience.history.writer.recorder_view import RecorderView
from resilience.logs import Bridge, JsonLines, LogPolicy
from resilience.privacy import CONTENT_LEVELS, Level, Privacy, key_of
from resilience.records.log_events import CALL_DURATION
from resilience.redaction import redact
from resilience.terminal import escape

_log = logging.getLogger("resilience")
_LONGEST_SHOWN: Final = 200
"""Characters of a name or a reason in a line of the program's own log."""
_FOR_FAILURES: Final = "resilience.failure.meaning"
"""What the first failure needs. It is imported soon after the first call, so that no event loop waits for it then."""
_NEW: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL


@dataclass(frozen=True, slots=True, kw_only=True)
class Outputs:
    """Destinations of events besides the database.

    Attributes:
        logs: how the log streams rotate, and whether the events also go to `logging`.
        sinks: further destinations that the application brings.
    """

    logs: LogPolicy = field(default_factory=LogPolicy)
    sinks: tuple[Sink, ...] = ()

    def key(self) -> tuple[LogPolicy, tuple[int, ...]]:
        """Return a key for comparison: equal if the policies are equal and the sinks are the same objects."""
        return self.logs, tuple(map(id, self.sinks))

    def left_out(self) -> frozenset[str]:
        """Return the events that the log policy leaves out."""
        return frozenset() if self.logs.call_duration else frozenset({CALL_DURATION.name})

    def open(self, settings: Settings) -> list[Sink]:
        """Open all sinks; none if the settings keep no history."""
        if not settings.keeps_history:
            return []
        streams = [] if settings.log_dir is None else [JsonLines(settings.log_dir, self.logs)]
        return [*streams, *([Bridge()] if self.logs.bridge else []), *self.sinks]


@dataclass(slots=True)
class Runtime:
    """What handlers of one process with equal settings share: one sync thread and one writer thread.

    Attributes:
        breaker: the circuits, shared with other processes through the store.
        recorder: writes the history on a background thread, and the log lines to the sinks of these handlers.
        circuit_events: keeps the history of the circuits complete.
        settings: the settings that the runtime was opened from, with every default filled in.
        privacy: how much of a call is stored, and by which rules it is redacted.
        users: number of handlers that have acquired the runtime and not released it.
    """

    breaker: Breaker
    recorder: RecorderView
    circuit_events: CircuitEventLog
    settings: Settings
    privacy: Privacy
    users: int = field(default=1)
    _reader: history_package.History | None = field(default=None)

    @property
    def history(self) -> history_package.History:
        """The reader of the history. It is made at its first use: few programs read what they write, and it imports SQLAlchemy."""
        reader = self._reader
        if reader is None:
            url = self.settings.database_url if self.settings.keeps_history else None
            with lifecycle.importing():
                reader = history_package.History(url, self.settings.namespace, self.recorder)
            self._reader = reader
        return reader

    async def close_reader(self) -> None:
        """Close the connections of the reader, if it was used."""
        if self._reader is not None:
            await self._reader.aclose()


# `_lock` guards `_open`, for moments. `_open_lock` is held by a handler while it opens or closes, which includes `acquire`.
# So `_open_lock` is always acquired first.
_lock = threading.Lock()
_open_lock = threading.Lock()
_open: dict[tuple[object, ...], Runtime] = {}
_forgotten: deque[Runtime] = deque()
"""Runtimes of handlers that were garbage before they were closed; a deque, because no lock may be taken there."""


def open_lock() -> threading.Lock:
    """Return the lock to hold while a handler opens or closes: threads that share the handler may do both at once."""
    return _open_lock


def acquire(
    settings: Settings, policy: BreakerPolicy, clock: Clock, outputs: Outputs | None = None
) -> Runtime:
    """Open a runtime for *settings*, or share the one that another handler of this process has open.

    Nothing is connected yet and no thread runs: both happen at the first call.

    Args:
        settings: the settings, with every default filled in.
        policy: thresholds of the circuits.
        clock: time for circuits; runtimes with different clocks are not shared.
        outputs: destinations of events. Without them the log policy is read from the settings, because all processes that
            share a log folder must rotate its files by one policy.

    Returns:
        The runtime, to be given to `release` once.

    Raises:
        ConfigurationError: a URL is of an unsupported kind, or a setting has an invalid value.
    """
    outputs = outputs or Outputs(logs=log_policy())
    release_forgotten()
    key = (settings, policy, id(clock), outputs.key())
    with _lock:
        # With the lock held: two handlers that open at once must not build two runtimes, with four threads.
        runtime = _open.get(key)
        if runtime is not None:
            runtime.users += 1
            return runtime
        runtime = _open[key] = _build(settings, policy, clock, outputs)
        telemetry.watch(runtime.breaker, runtime.recorder.recorder)
        return runtime


async def release(runtime: Runtime) -> None:
    """Flush, and close the runtime if no other handler uses it. Each step has the time limit of the recorder.

    Args:
        runtime: what `acquire` returned.
    """
    max_wait = runtime.recorder.exit_limit()
    if not _leave(runtime):
        # The circuits need no flush here: their thread goes on, and sends the results within a moment.
        await runtime.recorder.aflush(max_wait)
        return
    telemetry.unwatch(runtime.breaker)
    # The circuits before the history: closing them produces transitions, which are rows.
    await asyncio.wait([asyncio.wrap_future(runtime.circuit_events.flush())], timeout=max_wait)
    # In threads: a store that hangs or a locked file must not stop the event loop.
    await asyncio.to_thread(runtime.breaker.close)
    await asyncio.to_thread(shared_recorders.release, runtime.recorder)
    await runtime.close_reader()


def release_blocking(runtime: Runtime) -> None:
    """Release as `release` does, blocking the calling thread.

    The connections of awaited reads stay open: they belong to an event loop, which closes them with `aclose`.

    Args:
        runtime: what `acquire` returned.
    """
    max_wait = runtime.recorder.exit_limit()
    if not _leave(runtime):
        runtime.recorder.flush(max_wait)
        return
    telemetry.unwatch(runtime.breaker)
    wait([runtime.circuit_events.flush()], timeout=max_wait)
    runtime.breaker.close()
    shared_recorders.release(runtime.recorder)


def forget(runtime: Runtime) -> None:
    """Let the writer thread release *runtime*, whose handler is garbage. Takes no lock, see the head of this module."""
    _forgotten.append(runtime)
    runtime.recorder.recorder.wake()


def release_forgotten() -> None:
    """Release the runtimes of handlers that were never closed. Called on writer threads, and by `acquire`."""
    while _forgotten:
        with contextlib.suppress(IndexError):  # another thread has taken the last one
            runtime = _forgotten.popleft()
            if _leave(runtime):
                telemetry.unwatch(runtime.breaker)
                # Without the copy of the store's log, which would wait for this thread. Other processes copy it too.
                runtime.breaker.close()
                shared_recorders.release(runtime.recorder)


def _when_idle() -> None:
    """Do what waits for a pause of a writer thread. Called after each of its cycles."""
    release_forgotten()
    if _FOR_FAILURES not in sys.modules:
        with lifecycle.importing(), contextlib.suppress(ImportError):
            importlib.import_module(_FOR_FAILURES)


def _leave(runtime: Runtime) -> bool:
    """Take one user away. Return whether it was the last."""
    with _lock:
        runtime.users -= 1
        last = runtime.users == 0
        if last:
            for key in [key for key, value in _open.items() if value is runtime]:
                del _open[key]
    return last


def _build(settings: Settings, policy: BreakerPolicy, clock: Clock, outputs: Outputs) -> Runtime:
    database = settings.database_url if settings.keeps_history else None
    store_url = settings.circuit_store
    for file in (store_url.path, _database_file(database)):
        _make_folder(file)
    describe_settings = partial(_settings_line, settings, policy, outputs.logs)
    recorder = shared_recorders.acquire(
        settings,
        outputs.open(settings),
        describe_settings,
        _when_idle,
        _is_degraded,
        left_out=outputs.left_out(),
    )
    circuit_events = CircuitEventLog(
        recorder, namespace=settings.namespace or "", shared=store_url.shared, clock=clock
    )
    return Runtime(
        breaker=_breaker(settings, policy, clock, circuit_events),
        recorder=recorder,
        circuit_events=circuit_events,
        settings=settings,
        privacy=_privacy(settings),
    )


def _is_degraded() -> bool:
    """Return whether any store of this process is away."""
    return any(runtime.circuit_events.degraded for runtime in list(_open.values()))


def _settings_line(settings: Settings, policy: BreakerPolicy, logs: LogPolicy) -> dict[str, Any]:
    """Return the first log line of a process: the settings in effect, without secrets."""
    from importlib import metadata  # noqa: PLC0415 - as in `version.py`; the writer thread calls this

    return {
        "baml_py": metadata.version("baml-py"),
        "settings": {**masked(settings), "breaker": masked(policy), "log": masked(logs)},
    }


def _breaker(
    settings: Settings, policy: BreakerPolicy, clock: Clock, circuit_events: CircuitEventLog
) -> Breaker:
    store_url = settings.circuit_store
    circuits = _stores.acquire(
        # Circuits in memory belong to handlers with equal settings. Those with others may be strangers, as in tests.
        store_url.url if store_url.shared else settings,
        partial(store_url.open_lazy, clock),
        settings.namespace,
        clock,
        Listener(circuit_events.on_transition, circuit_events.on_epoch_change),
        private=not store_url.shared,
    )
    breaker = Breaker(circuits, policy, clock=clock)
    circuit_events.attach(breaker)
    return breaker


def _privacy(settings: Settings) -> Privacy:
    """Return the privacy level and rules.

    The hash key is read only at levels that hash something, because reading it for the first time creates its file.
    """
    level, key = Level(settings.privacy or Level.METADATA), b""
    if settings.hash_key:
        key = key_of(settings.hash_key)
    elif level in CONTENT_LEVELS:
        key = shared_key(project_folder(Path.cwd()) / NAME)
    return Privacy(level=level, redactor=settings.redactor(), key=key)


def _database_file(url: str | None) -> Path | None:
    """Return the SQLite file of the history; None if it is in another database or there is none."""
    if url is None or not url.startswith("sqlite"):
        return None
    return Path(url.partition(":///")[2].partition("?")[0]).expanduser()


def _make_folder(file: Path | None) -> None:
    """Create the folder of an SQLite file, readable by its owner only.

    Errors are ignored here, and a `.gitignore` that is there stays: the store and the recorder report them when they open the file, with the remedy.
    """
    if file is None:
        return
    folder = file.parent
    with contextlib.suppress(OSError):
        file_trust.make_folder(folder)
        if folder.name == FOLDER:
            with open(file_trust.open_file(folder / ".gitignore", _NEW), "w", encoding="ascii") as ignore:  # noqa: PTH123
                ignore.write("*\n")


def _log_transition(transition: Transition) -> None:
    if transition.rule is TransitionRule.COOL_DOWN:
        text = "%s cools down for %.1f s (%s)"
        _log.info(text, transition.client, transition.wait_ms / 1000, transition.reason)
        return
    level = logging.WARNING if transition.to_state is CircuitState.OPEN else logging.INFO
    _log.log(
        level,
        "circuit of %s: %s -> %s (%s, %s)",
        # A name and a reason may have line breaks, with which they would forge a line.
        escape(transition.client)[:_LONGEST_SHOWN],
        transition.from_state,
        transition.to_state,
        transition.rule,
        escape(redact(transition.reason))[:_LONGEST_SHOWN],
    )
    telemetry.record_transition(transition)


_stores = StoreRegistry(random.random, Listener(on_transition=_log_transition))
"""The stores in use: handlers share the sync thread of a store, and the circuits of a namespace, whatever their policies."""


def _replace_locks() -> None:
    global _lock, _open_lock
    # Another thread may have held one at the fork; in the child it would never be released.
    _lock, _open_lock = threading.Lock(), threading.Lock()


lifecycle.call_in_child(_replace_locks)
