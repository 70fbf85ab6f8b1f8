"""The public modules: their names, and what importing them costs an agent."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from types import ModuleType

import pytest

import resilience

PUBLIC_NAMES = {
    "AllClientsFailedError",
    "BAMLErrorHandler",
    "BAMLWrapper",
    "BreakerPolicy",
    "CircuitOpenError",
    "CircuitState",
    "DEFAULT_RETRY_CONFIG",
    "DeadlineExceededError",
    "ErrorCategory",
    "ErrorRecord",
    "Failure",
    "FallbackPolicy",
    "ForkedRuntimeError",
    "ResilienceError",
    "RetryPolicy",
    "Settings",
    "classify",
    "connect",
    "protect",
    "request_id",
    "set_request_id",
    "set_tenant",
    "tenant",
}
PUBLIC_MODULES = ("", ".clock", ".failure", ".history", ".privacy", ".prometheus", ".testing")

NOT_FOR_AGENTS = (
    *("resilience.demo", "resilience.testing", "resilience.cli", "h11", "rich", "typer"),
    *("alembic", "datasette", "prometheus_client"),
)
"""Modules of operators, demo and tests. An agent pays for their import in start-up time and memory."""
NOT_AT_ONCE = (*NOT_FOR_AGENTS, "sqlalchemy", "redis")
"""These, and what a handler imports when it is made."""

AGENT = """
import json, sys
from resilience import BAMLErrorHandler, protect
at_once = sorted(sys.modules)
handler = BAMLErrorHandler()
made = sorted(sys.modules)
assert handler.sync.call_with_retry(lambda: "answer", "A", "F") == "answer"
handler.close()
print(json.dumps([at_once, made, sorted(sys.modules)]))
"""


def public(name: str) -> ModuleType:
    return importlib.import_module(f"resilience{name}")


def test_the_package_exports_exactly_the_public_names() -> None:
    """No name is missing, and none is exported that users could come to rely on by accident."""
    assert PUBLIC_NAMES == set(resilience.__all__)


@pytest.mark.parametrize("name", PUBLIC_MODULES, ids=lambda name: f"resilience{name}")
def test_every_public_module_lists_its_names(name: str) -> None:
    """Each public module has an `__all__` without duplicates, and every name in it exists."""
    module = public(name)

    assert module.__all__
    assert len(set(module.__all__)) == len(module.__all__)
    assert [] == [exported for exported in module.__all__ if not hasattr(module, exported)]


def loaded_of(unwanted: tuple[str, ...], modules: list[str]) -> list[str]:
    return [
        module
        for module in modules
        if any(module == name or module.startswith(f"{name}.") for name in unwanted)
    ]


def test_an_agent_imports_only_what_it_needs() -> None:
    """The import loads no driver; a handler loads SQLAlchemy, but not its PostgreSQL; no call loads what operators use."""
    done = subprocess.run([sys.executable, "-c", AGENT], capture_output=True, text=True, check=True)

    at_once, made, after_a_call = json.loads(done.stdout)
    assert "resilience.handler" in at_once
    assert [] == loaded_of(NOT_AT_ONCE, at_once)
    assert "sqlalchemy" in made
    unneeded = (
        *NOT_FOR_AGENTS,
        "redis",
        "sqlalchemy.dialects.postgresql",
        "resilience.history.reader.history",
    )
    assert [] == loaded_of(unneeded, after_a_call)
