"""The pytest fixture `provider_simulator`, available wherever `resilience` is installed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from resilience.testing.simulator import ProviderSimulator


@pytest.fixture
def provider_simulator() -> Iterator[ProviderSimulator]:
    """Yield a new `ProviderSimulator` that runs on its own thread, so that it serves sync and async tests.

    It does not change the environment. Point the clients at it with `monkeypatch.setenv(name, value)` for each item of
    `provider_simulator.environment()`.
    """
    # Imported here: every pytest run loads this plugin, also those that never use the fixture. And it is loaded before
    # coverage starts, so that a module imported at the top would count as not covered.
    from resilience.testing.simulator import ProviderSimulator  # noqa: PLC0415

    with ProviderSimulator.in_thread() as simulator:
        yield simulator
