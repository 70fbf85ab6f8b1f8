"""Settings and policies from the environment: precedence, places, and wrong values that name their source."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from resilience.config import settings
from resilience.config.settings import Settings
from resilience.errors import ConfigurationError
from resilience.failure import ErrorCategory, RetryMode


def test_defaults_lie_beside_the_project(tmp_path: Path) -> None:
    """Without settings, store and history lie in `.resilience/` beside the nearest pyproject.toml above."""
    (tmp_path / "pyproject.toml").touch()
    deep = tmp_path / "src" / "agents"
    deep.mkdir(parents=True)

    found = Settings().complete({}, deep)

    assert f"sqlite:///{tmp_path}/.resilience/resilience.db" == found.database_url
    assert f"sqlite:///{tmp_path}/.resilience/circuits.db" == found.store_url
    assert (None, None, "metadata") == (found.redis_url, found.log_dir, found.privacy)


def test_the_project_is_marked_by_baml_src_too(tmp_path: Path) -> None:
    """Without pyproject.toml a baml_src folder marks the project; without both the directory itself is used."""
    (tmp_path / "a" / "baml_src").mkdir(parents=True)
    (tmp_path / "a" / "b").mkdir()
    (tmp_path / "lonely").mkdir()

    assert tmp_path / "a" / ".resilience" == settings.project_folder(tmp_path / "a" / "b")
    assert tmp_path / "lonely" / ".resilience" == settings.project_folder(tmp_path / "lonely")


def test_keywords_take_precedence_over_the_environment(tmp_path: Path) -> None:
    """Keyword arguments are kept; the other fields come from RESILIENCE_ variables."""
    environ = {
        "RESILIENCE_DATABASE_URL": "postgresql+psycopg://db/x",
        "RESILIENCE_REDIS_URL": "redis://cache",
        "RESILIENCE_STORE_URL": "memory://",
        "RESILIENCE_LOG_DIR": "/var/log/agents",
        "RESILIENCE_PRIVACY": "off",
        "RESILIENCE_NAMESPACE": "blue",
    }

    found = Settings(database_url="sqlite:///here.db").complete(environ, tmp_path)

    assert (
        Settings(
            redis_url="redis://cache",
            store_url="memory://",
            database_url="sqlite:///here.db",
            log_dir="/var/log/agents",
            privacy="off",
            namespace="blue",
            durability="normal",
        )
        == found
    )


def test_policies_come_from_the_environment() -> None:
    """Every kind of field can be set: numbers, flags, None, names, categories and pairs."""
    retry = settings.retry_policy(
        {
            "RESILIENCE_RETRY__MAX_RETRIES": "5",
            "RESILIENCE_RETRY__JITTER": "off",
            "RESILIENCE_RETRY__DEADLINE": "12.5",
            "RESILIENCE_RETRY__ATTEMPT_TIMEOUT": "none",
            "RESILIENCE_RETRY__RETRY_MODES": "timeout=always, network=never",
            "UNRELATED": "x",
        }
    )
    fallback = settings.fallback_policy(
        {"RESILIENCE_FALLBACK": "Primary, Secondary", "RESILIENCE_FALLBACK__ON": "timeout,authentication"}
    )
    breaker = settings.breaker_policy(
        {"RESILIENCE_BREAKER__ENABLED": "false", "RESILIENCE_BREAKER__OPEN_FOR": "7"}
    )

    assert (5, False, 12.5, None) == (retry.max_retries, retry.jitter, retry.deadline, retry.attempt_timeout)
    assert {
        ErrorCategory.TIMEOUT: RetryMode.ALWAYS,
        ErrorCategory.NETWORK: RetryMode.NEVER,
    } == retry.retry_modes
    assert ("Primary", "Secondary") == fallback.clients
    assert {ErrorCategory.TIMEOUT, ErrorCategory.AUTHENTICATION} == fallback.on
    assert (False, 7.0) == (breaker.enabled, breaker.open_for)


@pytest.mark.parametrize(
    ("variable", "value", "remedy"),
    [
        ("RESILIENCE_RETRY__MAX_RETRIES", "many", "a whole number"),
        ("RESILIENCE_RETRY__MAX_RETRIES", "-1", "RetryPolicy.max_retries=-1"),
        ("RESILIENCE_RETRY__JITTER", "perhaps", "true or false"),
        ("RESILIENCE_RETRY__INITIAL_DELAY", "soon", "a number"),
        ("RESILIENCE_RETRY__RETRY_MODES", "timeout", "pairs such as"),
        ("RESILIENCE_RETRY__RETRY_MODES", "timeout=perhaps", "last_resort"),
        ("RESILIENCE_RETRY__TYPO", "1", "it has max_retries"),
    ],
)
def test_a_wrong_variable_is_named_with_its_remedy(variable: str, value: str, remedy: str) -> None:
    """A wrong value, or a field that does not exist, is an error naming the variable and what is allowed."""
    with pytest.raises(ConfigurationError, match=variable) as caught:
        settings.retry_policy({variable: value})

    assert remedy in str(caught.value)


@pytest.mark.parametrize(
    ("field", "value", "remedy"),
    [
        ("redis_url", "localhost:6379", "redis://"),
        ("store_url", "circuits.db", "memory://"),
        ("database_url", 3, "sqlite:///"),
        ("privacy", "secret", "metadata"),
    ],
)
def test_a_wrong_field_is_named_with_its_remedy(field: str, value: Any, remedy: str) -> None:
    """Settings refuses values that are not a URL or a privacy level."""
    with pytest.raises(ValueError, match=rf"Settings\.{field}=") as caught:
        Settings(**{field: value})

    assert remedy in str(caught.value)


def test_a_wrong_setting_from_the_environment_says_where_it_came_from(tmp_path: Path) -> None:
    """The message of an invalid RESILIENCE_PRIVACY names the variable."""
    with pytest.raises(ConfigurationError, match=r"privacy='loud'.*the variable RESILIENCE_PRIVACY"):
        Settings().complete({"RESILIENCE_PRIVACY": "loud"}, tmp_path)


def test_missing_variables_are_found() -> None:
    """`missing_variables` returns the names that the environment does not define, in order; an empty value is defined."""
    assert ("B", "C") == settings.missing_variables(["A", "B", "C"], {"A": ""})


def test_no_password_is_in_its_repr() -> None:
    """The repr of Settings ends up in logs and tracebacks: it has no password and no hash key."""
    shown = repr(
        Settings(
            redis_url="redis://agents:h7Ys93kd02Lq@cache/0",
            database_url="postgresql+psycopg://db/x?user=agents&password=h7Ys93kd02Lq",
            hash_key="h7Ys93kd02Lqh7Ys93kd02Lq",
            namespace="blue",
        )
    )

    assert shown.startswith("Settings(redis_url='redis://")
    assert "namespace='blue'" in shown
    assert "h7Ys93kd02Lq" not in shown
