"""What all tests share: BAML kept quiet, the client generated once, a fresh simulator for each test."""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from postgres import postgres, postgres_url

from resilience.demo import client
from resilience.testing import ProviderSimulator

__all__ = ["postgres", "postgres_url"]

# Before anything imports baml_py: at its default level BAML prints whole prompts to stdout.
os.environ["BAML_LOG"] = "off"


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
