"""Public test doubles: a provider that fails on command, a scripted client, a clock that a test moves.

The names are imported when they are first used. The pytest plugin is part of this package, and every pytest run of an
environment with `resilience` imports it; such a run must not pay for the simulator.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from resilience.testing.behaviours import (
        Answer,
        Behaviour,
        Choice,
        Empty,
        ErrorInBody,
        Finish,
        Hang,
        Malformed,
        Reset,
        Slow,
        Status,
        Stream,
        StreamFault,
        StreamPlace,
        Truncate,
        When,
        WrongSchema,
    )
    from resilience.testing.manual_clock import ManualClock
    from resilience.testing.request import LoggedRequest, Request
    from resilience.testing.scripted import ScriptedBAML, ScriptedCall, ScriptedSyncBAML
    from resilience.testing.scripted_stream import Pause, Snapshots
    from resilience.testing.simulated_client import SimulatedClient
    from resilience.testing.simulator import ProviderSimulator

__all__ = [
    "Answer",
    "Behaviour",
    "Choice",
    "Empty",
    "ErrorInBody",
    "Finish",
    "Hang",
    "LoggedRequest",
    "Malformed",
    "ManualClock",
    "Pause",
    "ProviderSimulator",
    "Request",
    "Reset",
    "ScriptedBAML",
    "ScriptedCall",
    "ScriptedSyncBAML",
    "SimulatedClient",
    "Slow",
    "Snapshots",
    "Status",
    "Stream",
    "StreamFault",
    "StreamPlace",
    "Truncate",
    "When",
    "WrongSchema",
]

_MODULES = {
    "LoggedRequest": "request",
    "ManualClock": "manual_clock",
    "Pause": "scripted_stream",
    "ProviderSimulator": "simulator",
    "Request": "request",
    "ScriptedBAML": "scripted",
    "ScriptedCall": "scripted",
    "ScriptedSyncBAML": "scripted",
    "SimulatedClient": "simulated_client",
    "Snapshots": "scripted_stream",
}
"""The module of each name above; `behaviours` where none is listed."""


def __getattr__(name: str) -> Any:
    if name not in __all__:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    module = importlib.import_module(f"{__name__}.{_MODULES.get(name, 'behaviours')}")
    return getattr(module, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
