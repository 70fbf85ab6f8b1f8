"""What all tests share: nothing of the developer's own, BAML kept quiet, the client generated once, a fresh simulator for each."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from support.postgres import postgres, postgres_url

from resilience.demo import client
from resilience.testing import ProviderSimulator

__all__ = ["postgres", "postgres_url"]

# A developer's own settings, providers and colours are not what is tested.
_OURS = ("RESILIENCE_", "OTEL_", "PRIMARY_", "SECONDARY_", "TERTIARY_")
_SCREEN = ("FORCE_COLOR", "PY_COLORS", "GITHUB_ACTIONS", "COLUMNS", "LINES", "TERMINAL_WIDTH")
for _name in [name for name in os.environ if name.startswith(_OURS) or name in _SCREEN]:
    del os.environ[_name]

# A shell that runs the tests in the background has SIGINT ignored, and every process they start and interrupt would inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Before anything imports baml_py: at its default level BAML prints whole prompts to stdout.
os.environ["BAML_LOG"] = "off"

# The same examples in every run. To look for new ones: `pytest --hypothesis-profile=default`.
settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.load_profile("repeatable")


@pytest.fixture(autouse=True)
def _away_from_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test works in a folder of its own: it finds no `.env` or `resilience.toml` of the developer, and leaves nothing here."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="session")
def baml_client_path(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder with the generated `baml_client` of the installed baml-py, on sys.path; nothing imported yet."""
    path = client.generate(into=tmp_path_factory.mktemp("baml"))
    sys.path.insert(0, str(path))
    yield path
    sys.path.remove(str(path))


@pytest.fixture
def b(baml_client_path: Path) -> Any:
    """The generated async client."""
    return client.load(baml_client_path).b


@pytest.fixture
async def simulator(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[ProviderSimulator]:
    """A simulator with the three clients, which the environment points at."""
    async with ProviderSimulator() as running:
        for name, value in running.environment().items():
            monkeypatch.setenv(name, value)
        yield running
