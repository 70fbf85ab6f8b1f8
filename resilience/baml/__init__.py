"""The only room that knows BAML: one attempt on a named client, the evidence it leaves, and what a client was generated from.

What BAML raises for which fault was measured; the rules here are those of that study, and each has a test against the real
runtime.
"""

from resilience.baml.attempt import AsyncFunction, Attempt, Route, options_of
from resilience.baml.collector import Usage
from resilience.baml.source import (
    Source,
    functions_of,
    hush,
    installed_client,
    parse_source,
    source_of,
)

__all__ = [
    "AsyncFunction",
    "Attempt",
    "Route",
    "Source",
    "Usage",
    "functions_of",
    "hush",
    "installed_client",
    "options_of",
    "parse_source",
    "source_of",
]
