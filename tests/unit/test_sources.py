"""The sources of settings: precedence, unreadable files, and invalid values with their origin."""

from __future__ import annotations

from pathlib import Path

import pytest

from resilience.config import settings, sources
from resilience.config.settings import Settings
from resilience.errors import ConfigurationError
from resilience.failure import RetryMode


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project without settings, as the working directory."""
    for name in settings.all_settings():
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "pyproject.toml").touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_sources_have_a_precedence(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keyword, environment, .env, resilience.toml, [tool.resilience]: a source counts if none before it has the field."""
    (project / "pyproject.toml").write_text('[tool.resilience]\nnamespace = "pyproject"\n')
    assert "pyproject" == Settings().complete().namespace

    (project / "resilience.toml").write_text('namespace = "toml"\n')
    assert "toml" == Settings().complete().namespace

    (project / ".env").write_text("RESILIENCE_NAMESPACE=dotenv\nOTHER=1\n")
    assert "dotenv" == Settings().complete().namespace

    monkeypatch.setenv("RESILIENCE_NAMESPACE", "environment")
    assert "environment" == Settings().complete().namespace
    assert "keyword" == Settings(namespace="keyword").complete().namespace


def test_the_working_directory_has_its_own_dotenv(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`.env` in the working directory takes precedence over that of the project."""
    (project / ".env").write_text("RESILIENCE_NAMESPACE=project\nRESILIENCE_LOG_DIR=logs\n")
    (project / "worker").mkdir()
    (project / "worker" / ".env").write_text("RESILIENCE_NAMESPACE=worker\n")
    monkeypatch.chdir(project / "worker")

    found = Settings().complete()

    assert ("worker", "logs") == (found.namespace, found.log_dir)


def test_tables_of_toml_are_policies(project: Path) -> None:
    """Numbers, flags, lists and tables in TOML mean the same as their text in the environment."""
    (project / "resilience.toml").write_text(
        """
        fallback = ["Primary", "Secondary"]
        [retry]
        deadline = 12.5
        jitter = false
        max_retries = 5
        retry_modes = {timeout = "always", network = "never"}
        [breaker]
        half_open_probes = 3
        """
    )

    retry = settings.retry_policy()

    assert (12.5, False, 5) == (retry.deadline, retry.jitter, retry.max_retries)
    assert {"timeout": RetryMode.ALWAYS, "network": RetryMode.NEVER} == dict(retry.retry_modes)
    assert ("Primary", "Secondary") == settings.fallback_policy().clients
    assert 3 == settings.breaker_policy().half_open_probes


def test_fallback_may_be_a_table_too(project: Path) -> None:
    """`[fallback] clients = [...]` means the same as `fallback = [...]`, and allows the other fields."""
    (project / "resilience.toml").write_text('[fallback]\nclients = ["A", "B"]\ncontext_clients = ["Long"]\n')

    found = settings.fallback_policy()

    assert (("A", "B"), ("Long",)) == (found.clients, found.context_clients)


@pytest.mark.parametrize(
    ("file", "text", "origin"),
    [
        (".env", "RESILIENCE_RETRY__DEADLINE=soon", "RESILIENCE_RETRY__DEADLINE in {}/.env"),
        ("resilience.toml", '[retry]\ndeadline = "soon"', "deadline of [retry] in {}/resilience.toml"),
        (
            "pyproject.toml",
            '[tool.resilience.retry]\ndeadline = "soon"',
            "deadline of [tool.resilience.retry] in {}/pyproject.toml",
        ),
    ],
)
def test_an_invalid_value_names_its_origin(project: Path, file: str, text: str, origin: str) -> None:
    """The message has the value, what is allowed, and the file."""
    (project / file).write_text(text)

    with pytest.raises(ConfigurationError) as refused:
        settings.retry_policy()

    assert f"RESILIENCE_RETRY__DEADLINE='soon': give a number (set by {origin.format(project)})" == str(
        refused.value
    )


def test_a_value_out_of_range_names_its_origin_only(project: Path) -> None:
    """Of several fields that were set, the message names only the invalid one."""
    (project / "resilience.toml").write_text("[retry]\nmax_retries = 3\ndeadline = -1\n")

    with pytest.raises(
        ConfigurationError, match=r"deadline.*-1.*\(set by deadline of \[retry\] in "
    ) as refused:
        settings.retry_policy()

    assert "max_retries of" not in str(refused.value)


def test_an_unknown_name_in_our_tables_is_refused(project: Path) -> None:
    """A typing error in resilience.toml is an error that proposes the most similar name."""
    (project / "resilience.toml").write_text("[retry]\ndead_line = 3\n")

    with pytest.raises(
        ConfigurationError, match=r"dead_line of \[retry\] in .*did you mean deadline of \[retry\]"
    ):
        Settings().complete()


def test_a_value_in_place_of_a_policy_table_is_explained(project: Path) -> None:
    """For `retry = 3` the message lists a field of the table, and proposes no other name."""
    (project / "resilience.toml").write_text("retry = 3\n")

    with pytest.raises(ConfigurationError, match=r"retry in .*: .*\[retry\] is a table.* max_retries"):
        Settings().complete()


def test_a_name_without_similar_ones_gets_the_whole_list(project: Path) -> None:
    """Without a similar name the message lists all settings."""
    (project / "resilience.toml").write_text("zzzzqqqq = 3\n")

    with pytest.raises(ConfigurationError, match=r"no such setting; there are .*redis_url"):
        Settings().complete()


def test_an_unknown_variable_of_the_environment_is_ignored(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other programs may use our prefix in the environment; `resilience doctor` reports such names."""
    monkeypatch.setenv("RESILIENCE_TEAM", "x")

    assert "resilience" == Settings().complete().namespace


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("resilience.toml", b"[retry\n"),
        ("resilience.toml", b"\xff\xfe"),
        ("pyproject.toml", b"= 3"),
        ("pyproject.toml", b"[tool]\nresilience = 3"),
        (".env", b"RESILIENCE_NAMESPACE=\xff\xfe\n"),
    ],
)
def test_a_file_that_cannot_be_read_is_named(project: Path, file: str, content: bytes) -> None:
    """Broken TOML, bytes that are not UTF-8, and a value in place of a table are errors that name the file."""
    (project / file).write_bytes(content)

    with pytest.raises(ConfigurationError, match=file.replace(".", r"\.")):
        Settings().complete()


def test_a_mapping_replaces_all_sources(project: Path) -> None:
    """With an explicit environment no file is read."""
    (project / "resilience.toml").write_text('namespace = "toml"\n')

    assert "resilience" == Settings().complete({}, project).namespace


def test_every_setting_has_a_variable_and_a_toml_name(project: Path) -> None:
    """`all_settings` has each field of Settings and of the policies; `toml_name` names it in TOML."""
    variables = settings.all_settings()

    assert {
        "RESILIENCE_REDIS_URL",
        "RESILIENCE_RETRY__DEADLINE",
        "RESILIENCE_BREAKER__WINDOW",
        "RESILIENCE_FALLBACK",
    } <= set(variables)
    assert ("redis_url", "window of [breaker]") == (
        settings.toml_name("RESILIENCE_REDIS_URL"),
        settings.toml_name("RESILIENCE_BREAKER__WINDOW"),
    )


def test_a_folder_with_braces_is_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A path with braces appears unchanged in an origin."""
    odd = tmp_path / "{0}{}"
    odd.mkdir()
    (odd / "pyproject.toml").touch()
    (odd / "resilience.toml").write_text("[retry]\ndeadline = true\n")

    loaded = sources.read({}, odd)

    assert f"deadline of [retry] in {odd}/resilience.toml" == sources.origin_of(
        loaded, "RESILIENCE_RETRY__DEADLINE"
    )


def test_an_alias_has_the_precedence_of_its_source(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`RESILIENCE_FALLBACK` in the environment, even empty, beats `clients` in a file; within one source the long name counts."""
    (project / "resilience.toml").write_text('[fallback]\nclients = ["Toml"]\n')
    assert ("Toml",) == settings.fallback_policy().clients

    monkeypatch.setenv("RESILIENCE_FALLBACK", "Environment")
    assert ("Environment",) == settings.fallback_policy().clients

    monkeypatch.setenv("RESILIENCE_FALLBACK__CLIENTS", "Long")
    assert ("Long",) == settings.fallback_policy().clients

    monkeypatch.delenv("RESILIENCE_FALLBACK__CLIENTS")
    monkeypatch.setenv("RESILIENCE_FALLBACK", "")
    assert () == settings.fallback_policy().clients


def test_an_unknown_field_names_its_origin(project: Path) -> None:
    """A variable for a field that the policy does not have is an error that names the file."""
    (project / ".env").write_text("RESILIENCE_LOG__MAXBYTES=5\n")

    with pytest.raises(ConfigurationError, match=rf"RESILIENCE_LOG__MAXBYTES in {project}/.env"):
        settings.log_policy()


@pytest.mark.parametrize(
    ("wrong", "shown"),
    [
        ("user:hunter2pw@cache:6379", "***@cache:6379"),
        ("redis:/user:hunter@2pw@cache", "***@cache"),
        ("cache:6379?password=hunter2pw", "cache:6379?password=[secret]"),
    ],
)
def test_a_rejected_url_appears_without_its_password(project: Path, wrong: str, shown: str) -> None:
    """The message may end in logs and on screens: it has no password."""
    with pytest.raises(ValueError, match="give a URL") as caught:
        Settings(redis_url=wrong)

    assert f"Settings.redis_url={shown!r}: " in str(caught.value)
    assert "2pw" not in str(caught.value)


@pytest.mark.parametrize("text", ["tool = 5\n", "[tool]\nresilience = 5\n"])
def test_a_value_in_place_of_our_table_is_an_error(project: Path, text: str) -> None:
    """If `tool` or `tool.resilience` is not a table, the error names the file."""
    (project / "pyproject.toml").write_text(text)

    with pytest.raises(
        ConfigurationError,
        match=rf"\[tool.resilience\] in {project}/pyproject.toml must be a table, and is 5",
    ):
        settings.load()
