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

NOT_FOR_AGENTS = ("resilience.demo", "resilience.testing", "resilience.cli", "h11", "rich", "typer")
"""Modules of operators, demo and tests. An agent pays for their import in start-up time and memory."""

HANDLER = """
import json, sys
import resilience
resilience.BAMLErrorHandler()
print(json.dumps(sorted(sys.modules)))
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


def test_an_agent_imports_no_demo_no_simulator_and_no_command_line() -> None:
    """A fresh interpreter that makes a handler loads neither these modules nor the libraries only they need."""
    done = subprocess.run(
        [sys.executable, "-c", HANDLER], capture_output=True, text=True, check=True, timeout=100
    )

    loaded = json.loads(done.stdout)
    assert "resilience.handler" in loaded
    assert [] == [
        module
        for module in loaded
        for unwanted in NOT_FOR_AGENTS
        if module == unwanted or module.startswith(f"{unwanted}.")
    ]
