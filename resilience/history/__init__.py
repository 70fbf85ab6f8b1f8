"""The history of a fleet's calls in SQL: recorded in the background, read with SQL or through `History`."""

from resilience.history.reader.history import History, SyncHistory
from resilience.history.reader.recent import Recent
from resilience.history.retention.policy import Retention
from resilience.history.schema import migrations
from resilience.history.schema.engine import DURABILITIES, Durability
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
