"""Our pytest plugin in suites of users: no test shares circuits or history with another test, another run, or an agent."""

from __future__ import annotations

import pytest

pytest_plugins = "pytester"

SUITE = """
import json, os, subprocess, sys
from unittest import mock

import pytest
from resilience import BAMLErrorHandler, RetryPolicy, Settings

handler = BAMLErrorHandler(retry=RetryPolicy(max_retries=0))  # made while tests are collected, as applications do
SETTINGS = "import json; from resilience import Settings; s = Settings().complete(); print(json.dumps([s.store_url, s.database_url, s.namespace]))"
seen = []

def broken():
    raise RuntimeError("API Error")

@pytest.mark.parametrize("number", range(2))
def test_failures_of_one_test_do_not_refuse_another(number):
    for _ in range(8):
        with pytest.raises(Exception):
            handler.sync.call_with_retry(broken, "A", "F")
    assert handler.circuits["A"].state.value == "open"
    assert handler.settings.namespace not in seen
    seen.append(handler.settings.namespace)

def test_settings_and_environment_do_not_lead_to_production(monkeypatch):
    monkeypatch.setenv("RESILIENCE_STORE_URL", "sqlite:////production/circuits.db")
    monkeypatch.setenv("RESILIENCE_LOG_DIR", "/production/logs")
    found = Settings().complete()
    assert found.redis_url is None and found.log_dir is None  # resilience.toml names a Redis
    assert "resilience-pytest-" in found.store_url and "resilience-pytest-" in found.database_url
    with mock.patch.dict(os.environ, {}, clear=True):
        assert Settings().complete() == found

def test_child_processes_are_in_the_same_place():
    here = Settings().complete()
    output = subprocess.run([sys.executable, "-c", SETTINGS], capture_output=True, text=True, check=True).stdout
    assert json.loads(output) == [here.store_url, here.database_url, here.namespace]

def test_explicit_settings_count():
    assert Settings(store_url="memory://", namespace="mine").complete().store_url == "memory://"

@pytest.mark.resilience_isolation("off")
def test_a_marker_opts_out():
    assert Settings().complete().redis_url == "redis://production"
"""
OFF = """
from resilience import Settings

def test_all_settings_count():
    assert Settings().complete().redis_url == "redis://production"
"""


@pytest.fixture
def suite(pytester: pytest.Pytester) -> pytest.Pytester:
    """A project with a settings file that names production."""
    pytester.makefile(".toml", resilience='redis_url = "redis://production"\n')
    pytester.makefile(".toml", pyproject="")
    return pytester


def test_each_test_of_each_run_is_alone(suite: pytest.Pytester) -> None:
    """A second run behaves as the first, nothing of the project's own places is touched, and no folder is left."""
    suite.makepyfile(SUITE)
    for _ in range(2):
        suite.runpytest_inprocess("-p", "no:xdist", "-p", "no:asyncio").assert_outcomes(passed=6)

    assert not (suite.path / ".resilience").exists()


def test_the_ini_option_opts_out(suite: pytest.Pytester) -> None:
    """With `resilience_isolation = off` the settings decide, as without the plugin."""
    suite.makepyfile(OFF)
    suite.makeini("[pytest]\nresilience_isolation = off\n")

    suite.runpytest_inprocess("-p", "no:xdist", "-p", "no:asyncio").assert_outcomes(passed=1)
