"""The history of a fleet's calls in SQL: recorded in the background, read with SQL or through `History`.

Names are imported when they are first used: settings need the retention policy, and a command that prints a path needs no SQLAlchemy,
whose import takes as long as all else that a command does.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from resilience.history.durability import DURABILITIES, Durability
    from resilience.history.reader.history import History, SyncHistory
    from resilience.history.reader.recent import Recent
    from resilience.history.retention.policy import Retention
    from resilience.history.schema import migrations
    from resilience.history.writer.recorder import Recorder
    from resilience.history.writer.sinks import Sink
    from resilience.lifecycle import install_signal_flush
    from resilience.records.deferred import DeferredRecord
    from resilience.records.fingerprint import Fingerprints, OwnFingerprint, fingerprint
    from resilience.records.ids import new_id
    from resilience.records.json_text import to_json
    from resilience.records.records import (
        Action,
        AttemptRecord,
        CallOutcome,
        CallRecord,
        ErrorRecord,
        FallbackRecord,
        PayloadRecord,
        StartRecord,
        TransitionRecord,
    )

__all__ = [
    "DURABILITIES",
    "Action",
    "AttemptRecord",
    "CallOutcome",
    "CallRecord",
    "DeferredRecord",
    "Durability",
    "ErrorRecord",
    "FallbackRecord",
    "Fingerprints",
    "History",
    "OwnFingerprint",
    "PayloadRecord",
    "Recent",
    "Recorder",
    "Retention",
    "Sink",
    "StartRecord",
    "SyncHistory",
    "TransitionRecord",
    "fingerprint",
    "install_signal_flush",
    "migrations",
    "new_id",
    "to_json",
]

_MODULES: Final = {
    "Action": "resilience.records.records",
    "AttemptRecord": "resilience.records.records",
    "CallOutcome": "resilience.records.records",
    "CallRecord": "resilience.records.records",
    "DURABILITIES": "resilience.history.durability",
    "DeferredRecord": "resilience.records.deferred",
    "Durability": "resilience.history.durability",
    "ErrorRecord": "resilience.records.records",
    "FallbackRecord": "resilience.records.records",
    "Fingerprints": "resilience.records.fingerprint",
    "History": "resilience.history.reader.history",
    "OwnFingerprint": "resilience.records.fingerprint",
    "PayloadRecord": "resilience.records.records",
    "Recent": "resilience.history.reader.recent",
    "Recorder": "resilience.history.writer.recorder",
    "Retention": "resilience.history.retention.policy",
    "Sink": "resilience.history.writer.sinks",
    "StartRecord": "resilience.records.records",
    "SyncHistory": "resilience.history.reader.history",
    "TransitionRecord": "resilience.records.records",
    "fingerprint": "resilience.records.fingerprint",
    "install_signal_flush": "resilience.lifecycle",
    "migrations": "resilience.history.schema",
    "new_id": "resilience.records.ids",
    "to_json": "resilience.records.json_text",
}
"""The module of each name above."""


def __getattr__(name: str) -> Any:
    """Import a public name at its first use."""
    if name not in _MODULES:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    module = importlib.import_module(_MODULES[name])
    # `migrations` is a module itself: importing it sets the attribute of its package.
    value = (
        importlib.import_module(f"{_MODULES[name]}.{name}") if name == "migrations" else getattr(module, name)
    )
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """Return the public names too, for completion in a shell."""
    return sorted({*globals(), *__all__})
