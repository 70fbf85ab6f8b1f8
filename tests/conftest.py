"""Fixtures of all tests, and an environment without the developer's own settings."""

from __future__ import annotations

import atexit
import itertools
import math
import os
import re
import shutil
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from support.postgres import postgres, postgres_url

from resilience.config.settings import all_settings
from resilience.demo import client
from resilience.testing import ProviderSimulator

__all__ = ["postgres", "postgres_url"]

# The settings, providers and colours of the developer must not change a test.
_PREFIXES = ("RESILIENCE_", "OTEL_", "PRIMARY_", "SECONDARY_", "TERTIARY_")
_TERMINAL = ("FORCE_COLOR", "PY_COLORS", "GITHUB_ACTIONS", "COLUMNS", "LINES", "TERMINAL_WIDTH")
for _name in [name for name in os.environ if name.startswith(_PREFIXES) or name in _TERMINAL]:
    del os.environ[_name]

_LONG = {
    "test_demo.py",
    "test_servers.py",
    "test_typing.py",
    "test_redis_contract.py",
    "test_breaker_machine.py",
}
"""Files with tests that take more than ten seconds each."""

_numbers = itertools.count()
"""Of the folders that tests get."""

# A shell that runs the tests in the background ignores SIGINT. Child processes would inherit that, and tests interrupt some.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Where an image forbids Python to write bytecode, each of the many processes that tests start would compile all modules again. They
# share a folder for the time of the run instead, so that nothing is written beside the sources.
if sys.dont_write_bytecode:
    os.environ["PYTHONPYCACHEPREFIX"] = tempfile.mkdtemp(prefix="bytecode")
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    atexit.register(shutil.rmtree, os.environ["PYTHONPYCACHEPREFIX"], ignore_errors=True)

# Thousands of tests make files and databases. In memory that takes a third of the CPU time that a disk takes. A run leaves its
# folder there only if a test fails, and then until the next run.
_IN_MEMORY = Path("/dev/shm")  # noqa: S108 - pytest makes a folder of its own there, for this user alone
if os.access(_IN_MEMORY, os.W_OK) and shutil.disk_usage(_IN_MEMORY).free > 2 * 1024**3:
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(_IN_MEMORY))

# Before the first import of baml_py: at its default level BAML prints whole prompts to stdout.
os.environ["BAML_LOG"] = "off"

# The same examples in every run. To search for new ones: `pytest --hypothesis-profile=default`.
settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.load_profile("repeatable")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options of the soak: `python -m pytest tests/chaos --soak-seconds 60 --soak-seed 1`."""
    parser.addoption("--soak-seconds", type=float, default=20.0, help="how long faults happen, in seconds")
    parser.addoption("--soak-seed", type=int, action="append", help="seed of the faults; may be repeated")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run the soak once for each seed."""
    if "soak_seed" in metafunc.fixturenames:
        metafunc.parametrize("soak_seed", metafunc.config.getoption("--soak-seed") or [1])


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int | None:
    """Run single files in one process: there, starting workers takes longer than they save.

    Whole runs and folders get three workers for two cores: often a test waits for a process, a server or a provider. Each worker
    imports all tests, so a fourth costs what it gains.
    """
    arguments = [argument.partition("::")[0] for argument in config.option.file_or_dir]
    if any(argument.endswith(".py") for argument in arguments):
        return 0
    return math.ceil(1.5 * len(os.sched_getaffinity(0))) if hasattr(os, "sched_getaffinity") else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run long tests first: at the end of a run a worker would be alone with them."""
    items.sort(key=lambda item: item.path.name not in _LONG)


class _EmptyFolder:
    """A folder that tests share for as long as none of them leaves anything in it."""

    def __init__(self, folders: pytest.TempPathFactory) -> None:
        self._folders = folders
        self._path = folders.mktemp("empty")

    def path(self) -> Path:
        if any(self._path.iterdir()):
            self._path = self._folders.mktemp("empty")
        return self._path


@pytest.fixture(scope="session")
def _empty_folder(tmp_path_factory: pytest.TempPathFactory) -> _EmptyFolder:
    return _EmptyFolder(tmp_path_factory)


@pytest.fixture(autouse=True)
def _away_from_home(
    request: pytest.FixtureRequest, _empty_folder: _EmptyFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Run each test in an empty folder: it finds no `.env` or `resilience.toml` of the developer, and leaves no file here.

    Most tests write no file, and a folder for each of thousands of tests takes seconds.
    """
    own = "tmp_path" in request.fixturenames
    monkeypatch.chdir(request.getfixturevalue("tmp_path") if own else _empty_folder.path())


@pytest.fixture
def tmp_path(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Path:
    """A new folder. pytest's own fixture reads the names of all folders before, and moves a link, for each test."""
    name = re.sub(r"\W", "_", request.node.name)[:30]
    return tmp_path_factory.mktemp(f"{next(_numbers)}_{name}", numbered=False)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project without settings, as the working directory."""
    for name in all_settings():
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "pyproject.toml").touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="session")
def baml_client_path(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder with the generated `baml_client` of the installed baml-py, on sys.path; not imported yet."""
    folder = tmp_path_factory.getbasetemp()
    # The workers of a run have folders of their own in that of the run. They share one client: the first to finish
    # publishes it by a rename.
    run_folder = folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder
    path = client.generate(into=run_folder / "baml")
    sys.path.insert(0, str(path))
    yield path
    sys.path.remove(str(path))


@pytest.fixture
def b(baml_client_path: Path) -> Any:
    """The generated async client."""
    return client.load(baml_client_path).b


@pytest.fixture
async def simulator(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[ProviderSimulator]:
    """A simulator with the three clients; the environment has their URLs."""
    async with ProviderSimulator() as running:
        for name, value in running.environment().items():
            monkeypatch.setenv(name, value)
        yield running
