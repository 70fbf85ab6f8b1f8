"""The only package that imports baml_py: one attempt on a client, the evidence it leaves, and what a project declares.

What BAML raises for which fault was measured. The rules here follow from those measurements, and each has a test against the
real runtime.
"""

from resilience.baml.attempt import (
    AsyncFunction,
    Attempt,
    SyncAttempt,
    options_of,
    registry_for,
    warn_of_unbuildable,
)
from resilience.baml.binding import ClientBinder, bound_function
from resilience.baml.collector import Usage
from resilience.baml.declarations import Client, Declarations, read_declarations
from resilience.baml.inner_retries import can_switch_off
from resilience.baml.routing import OWN_REGISTRY, UNKNOWN_CLIENT, Route, Router
from resilience.baml.rust_runtime import AbortSignal, baml_runtime, refuse_forked_client
from resilience.baml.source import (
    async_stream_function,
    declarations_of,
    functions_of,
    installed_client,
    is_async_function,
    is_mock,
    is_stream_function,
    is_sync_function,
    silence_baml_logging,
)
from resilience.baml.stream_attempt import StreamAttempt, StreamLimits
from resilience.baml.stream_progress import StreamProgress

__all__ = [
    "OWN_REGISTRY",
    "UNKNOWN_CLIENT",
    "AbortSignal",
    "AsyncFunction",
    "Attempt",
    "Client",
    "ClientBinder",
    "Declarations",
    "Route",
    "Router",
    "StreamAttempt",
    "StreamLimits",
    "StreamProgress",
    "SyncAttempt",
    "Usage",
    "async_stream_function",
    "baml_runtime",
    "bound_function",
    "can_switch_off",
    "declarations_of",
    "functions_of",
    "installed_client",
    "is_async_function",
    "is_mock",
    "is_stream_function",
    "is_sync_function",
    "options_of",
    "read_declarations",
    "refuse_forked_client",
    "registry_for",
    "silence_baml_logging",
    "warn_of_unbuildable",
]
