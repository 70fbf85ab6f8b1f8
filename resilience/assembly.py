"""The only place that opens connections: from Settings to the rooms one handler works in."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import threading
from dataclasses import dataclass, field
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

from resilience import telemetry
from resilience.breaker import Breaker, BreakerPolicy, CircuitState, Transition, open_store
from resilience.chronicle import Chronicle
from resilience.clock import Clock
from resilience.effective import shown
from resilience.history import History, Recorder, Sink
from resilience.keyfile import NAME, shared_key
from resilience.logs import Bridge, JsonLines, LogPolicy
from resilience.privacy import KEEPING_CONTENT, Level, Privacy, key_of
from resilience.settings import Settings, log_policy, project_folder, retention_policy
from resilience.sources import FOLDER

_log = logging.getLogger("resilience")


@dataclass(frozen=True, slots=True, kw_only=True)
class Outlets:
    """Where events go besides the database.

    Attributes:
        logs: how the log streams rotate, and whether `logging` gets the events too.
        sinks: the program's own.
    """

    logs: LogPolicy = field(default_factory=LogPolicy)
    sinks: tuple[Sink, ...] = ()

    def key(self) -> tuple[LogPolicy, tuple[int, ...]]:
        """Equal for outlets that are the same ones."""
        return self.logs, tuple(map(id, self.sinks))

    def open(self, settings: Settings) -> list[Sink]:
        """All of them; none at the privacy level that keeps nothing."""
        if settings.privacy == Level.OFF:
            return []
        streams = [] if settings.log_dir is None else [JsonLines(settings.log_dir, self.logs)]
        return [*streams, *([Bridge()] if self.logs.bridge else []), *self.sinks]


@dataclass(slots=True)
class Rooms:
    """What handlers of one process with equal settings share: one exchange thread and one writer thread.

    Attributes:
        breaker: the circuits, shared with other processes through the store.
        recorder: writes the history behind the callers' backs.
        history: reads it.
        chronicle: keeps the history of the circuits whole.
        settings: what all of this was opened from, complete.
        privacy: how much of a call is kept, and by which rules.
    """

    breaker: Breaker
    recorder: Recorder
    history: History
    chronicle: Chronicle
    settings: Settings
    privacy: Privacy
    users: int = field(default=1)


_lock = threading.Lock()
_handlers = threading.Lock()
_open: dict[tuple[object, ...], Rooms] = {}


def opening() -> threading.Lock:
    """Held while a handler opens or closes: threads that share it may do both at once."""
    return _handlers


def enter(settings: Settings, policy: BreakerPolicy, clock: Clock, outlets: Outlets | None = None) -> Rooms:
    """Open the rooms for *settings*, or join those that another handler of this process has open.

    Nothing is connected yet and no thread runs: both happen at the first call. Without *outlets* logs are kept as is
    written down, for all processes that share their folder must rotate by one policy.

    Raises:
        ConfigurationError: an URL of a kind this version cannot use, or a place holds a value that cannot work.
    """
    outlets = outlets or Outlets(logs=log_policy())
    key = (settings, policy, id(clock), outlets.key())
    with _lock:
        rooms = _open.get(key)
        if rooms is not None:
            rooms.users += 1
            return rooms
        rooms = _open[key] = _build(settings, policy, clock, outlets)
        telemetry.watch(rooms.breaker, rooms.recorder)
        return rooms


async def leave(rooms: Rooms, seconds: float = 2.0) -> None:
    """Flush, and close the rooms when the last handler leaves; waits at most so many *seconds*."""
    with _lock:
        rooms.users -= 1
        last = rooms.users == 0
        if last:
            for key in [key for key, value in _open.items() if value is rooms]:
                del _open[key]
    if not last:
        await rooms.recorder.aflush(seconds)
        return
    telemetry.unwatch(rooms.breaker)
    await asyncio.wait([asyncio.wrap_future(rooms.chronicle.settle())], timeout=seconds)
    await asyncio.to_thread(rooms.breaker.close)  # a hung store or a locked file holds nobody else's work up
    await asyncio.to_thread(rooms.recorder.close, seconds)
    await rooms.history.aclose()


def _build(settings: Settings, policy: BreakerPolicy, clock: Clock, outlets: Outlets) -> Rooms:
    kept = settings.privacy != "off"
    database = settings.database_url if kept else None
    url = settings.redis_url or settings.store_url or "memory://"
    for place in (url, database):
        _make_folder(place)
    goes_by = partial(_settings_line, settings, policy, outlets.logs)
    recorder = Recorder(
        database,
        sinks=outlets.open(settings),
        settings=goes_by,
        degraded=lambda: chronicle.degraded,
        flushed=telemetry.flushed,
        service=settings.service or "",
        durability="full" if settings.durability == "full" else "normal",
        retention=retention_policy(),
    )
    chronicle = Chronicle(
        recorder, namespace=settings.namespace or "", shared=url != "memory://", clock=clock
    )
    return Rooms(
        breaker=_breaker(url, settings.namespace, policy, clock, chronicle),
        recorder=recorder,
        history=History(database),
        chronicle=chronicle,
        settings=settings,
        privacy=_privacy(settings),
    )


def _settings_line(settings: Settings, policy: BreakerPolicy, logs: LogPolicy) -> dict[str, Any]:
    """What the first line of a process says: the settings in effect, without secrets."""
    return {
        "baml_py": metadata.version("baml-py"),
        "settings": {**shown(settings), "breaker": shown(policy), "log": shown(logs)},
    }


def _breaker(
    url: str, namespace: str | None, policy: BreakerPolicy, clock: Clock, chronicle: Chronicle
) -> Breaker:
    def tell(move: Transition) -> None:
        _tell(move)
        chronicle.tell(move)

    store = open_store(url, namespace=namespace, clock=clock)
    breaker = Breaker(store, policy, clock=clock, on_transition=tell, on_sight=chronicle.see)
    chronicle.attend(breaker)
    return breaker


def _privacy(settings: Settings) -> Privacy:
    """The level and the rules; a key only where something is hashed, for its file is made at first use."""
    level, key = Level(settings.privacy or Level.METADATA), b""
    if settings.hash_key:
        key = key_of(settings.hash_key)
    elif level in KEEPING_CONTENT:
        key = shared_key(project_folder(Path.cwd()) / NAME)
    return Privacy(level=level, redactor=settings.redactor(), key=key)


def _make_folder(url: str | None) -> None:
    """Create the folder of an embedded database, readable by its owner alone; store and recorder say what is wrong with it."""
    if url is None or not url.startswith("sqlite"):
        return
    folder = Path(url.partition(":///")[2].partition("?")[0]).parent
    with contextlib.suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if folder.name == FOLDER and not (ignore := folder / ".gitignore").exists():
            ignore.write_text("*\n")


def _tell(transition: Transition) -> None:
    level = logging.WARNING if transition.to_state is CircuitState.OPEN else logging.INFO
    _log.log(
        level,
        "circuit of %s: %s -> %s (%s, %s)",
        transition.client,
        transition.from_state,
        transition.to_state,
        transition.rule,
        transition.reason,
    )
    telemetry.transition(transition)


def _forget() -> None:
    global _lock, _handlers
    _lock, _handlers = (
        threading.Lock(),
        threading.Lock(),
    )  # one held by another thread at the fork would stay so here


os.register_at_fork(after_in_child=_forget)
