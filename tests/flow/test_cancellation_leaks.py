"""Calls and streams that are left in any state leave no thread, socket, task or lease behind."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import leaks
from resilience.demo import client
from resilience.testing import ProviderSimulator

pytestmark = pytest.mark.baml


def test_calls_that_are_left_leave_nothing(baml_client_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The benchmark of leaks finds none: async and blocking, calls and streams, silent and begun."""
    client.load(baml_client_path)
    with ProviderSimulator.in_thread() as simulator:
        for name, value in simulator.environment().items():
            monkeypatch.setenv(name, value)
        results = leaks.run_all(simulator, 4)

    assert 6 == len(results)
    assert {} == {name: result for name, result in results.items() if leaks.leaks(result)}
