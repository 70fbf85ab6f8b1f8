"""The pytest fixture `provider_simulator`, there for everyone who has `resilience` installed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from resilience.testing.simulator import ProviderSimulator


@pytest.fixture
def provider_simulator() -> Iterator[ProviderSimulator]:
    """A fresh `ProviderSimulator` on a thread of its own, so that it serves sync and async tests alike.

    It leaves the environment alone; point your clients at it with
    `monkeypatch.setenv(name, value)` for each of `provider_simulator.environment()`.
    """
    # Imported here: pytest loads plugins before coverage measures, and in runs that never ask for this fixture.
    from resilience.testing.simulator import ProviderSimulator  # noqa: PLC0415

    with ProviderSimulator.in_thread() as simulator:
        yield simulator
