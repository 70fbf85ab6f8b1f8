"""The pytest plugin, loaded wherever `resilience` is installed: isolation of tests, and the fixture `provider_simulator`.

Each test has a fresh namespace in a store and a history of this run alone, in a temporary folder; child processes inherit it. So a
failing mock of one test refuses no call of another test, of another run, or of the developer's own agents. Settings files and the
environment do not change that. Opt out with `resilience_isolation = off` in the ini file, with the marker
`@pytest.mark.resilience_isolation("off")`, or with explicit `Settings(...)`.
"""

from __future__ import annotations

import shutil
import tempfile
import uuid
from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from resilience.testing.simulator import ProviderSimulator

_NAME = "resilience_isolation"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the ini option."""
    text = "give each test its own circuits and each run its own history (resilience)"
    parser.addini(_NAME, text, type="bool", default=True)


def pytest_configure(config: pytest.Config) -> None:
    """Isolate this run: what is imported while tests are collected must not reach production either."""
    config.addinivalue_line(
        "markers", f'{_NAME}("off"): let this test use the circuits and the history that the settings name'
    )
    if config.getini(_NAME):
        config.pluginmanager.register(_Isolation(), "resilience-isolation")


class _Isolation:
    """The places of one run. A run inside of a test, as pytester starts it, has places of its own and puts back those of the test."""

    def __init__(self) -> None:
        # Imported here and below: this plugin is loaded before coverage starts, so that a module imported at the top would
        # count as not covered.
        from resilience import isolation  # noqa: PLC0415

        self._isolation = isolation
        self._folder = tempfile.mkdtemp(prefix="resilience-pytest-")
        self._before = isolation.activate(self._places())

    def _places(self) -> str:
        return f"test-{uuid.uuid4().hex[:16]}@{self._folder}"

    # The old kind of wrapper: it works in every pytest that users have.
    @pytest.hookimpl(hookwrapper=True, tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, None, None]:
        """Give the test, its fixtures included, a namespace of its own, and close afterwards what it opened."""
        marker = item.get_closest_marker(_NAME)
        is_off = marker is not None and marker.args[:1] in {("off",), (False,)}
        between = self._isolation.activate(None if is_off else self._places())
        yield
        self._isolation.close_all()
        self._isolation.activate(between)

    def pytest_unconfigure(self) -> None:
        """Remove the folder of this run."""
        self._isolation.close_all()
        self._isolation.activate(self._before)
        shutil.rmtree(self._folder, ignore_errors=True)


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
