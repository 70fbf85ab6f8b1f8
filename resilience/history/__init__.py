"""The history of a fleet's calls: kept behind the callers' backs, read in SQL or from here."""

from resilience.history import schema
from resilience.history.engine import DURABILITIES, Durability
from resilience.history.fingerprint import Fingerprints, OwnFingerprint, fingerprint
from resilience.history.ids import new_id
from resilience.history.lifecycle import install_signal_flush
from resilience.history.queries import History, SyncHistory
from resilience.history.recent import Recent
from resilience.history.record import (
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
from resilience.history.recorder import Recorder
from resilience.history.retention import Retention
from resilience.history.sinks import Sink
from resilience.history.unmade import Unmade

__all__ = [
    "DURABILITIES",
    "Action",
    "AttemptRecord",
    "CallOutcome",
    "CallRecord",
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
    "Unmade",
    "fingerprint",
    "install_signal_flush",
    "new_id",
    "schema",
]
