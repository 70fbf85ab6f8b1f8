"""Where settings are written down: precedence, files that cannot be read, and wrong values that name their place."""

from __future__ import annotations

from pathlib import Path

import pytest

from resilience.config import settings, sources
from resilience.config.settings import Settings
from resilience.errors import ConfigurationError
from resilience.failure import RetryMode


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with nothing written down, which is the working directory."""
    for name in settings.known():
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "pyproject.toml").touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_stronger_place_wins(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keyword, environment, .env, resilience.toml, [tool.resilience]: each is asked only when those before say nothing."""
    (project / "pyproject.toml").write_text('[tool.resilience]\nnamespace = "pyproject"\n')
    assert "pyproject" == Settings().complete().namespace

    (project / "resilience.toml").write_text('namespace = "toml"\n')
    assert "toml" == Settings().complete().namespace

    (project / ".env").write_text("RESILIENCE_NAMESPACE=dotenv\nOTHER=1\n")
    assert "dotenv" == Settings().complete().namespace

    monkeypatch.setenv("RESILIENCE_NAMESPACE", "environment")
    assert "environment" == Settings().complete().namespace
    assert "keyword" == Settings(namespace="keyword").complete().namespace


def test_a_working_directory_has_a_dotenv_of_its_own(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`.env` beside the program goes before that of the project."""
    (project / ".env").write_text("RESILIENCE_NAMESPACE=project\nRESILIENCE_LOG_DIR=logs\n")
    (project / "worker").mkdir()
    (project / "worker" / ".env").write_text("RESILIENCE_NAMESPACE=worker\n")
    monkeypatch.chdir(project / "worker")

    found = Settings().complete()

    assert ("worker", "logs") == (found.namespace, found.log_dir)


def test_tables_of_toml_are_policies(project: Path) -> None:
    """Numbers, flags, lists and tables of TOML mean what the same words in the environment mean."""
    (project / "resilience.toml").write_text(
        """
        fallback = ["Primary", "Secondary"]
        [retry]
        deadline = 12.5
        jitter = false
        max_retries = 5
        patience = {timeout = "yes", network = "never"}
        [breaker]
        half_open_probes = 3
        """
    )

    retry = settings.retry_policy()

    assert (12.5, False, 5) == (retry.deadline, retry.jitter, retry.max_retries)
    assert {"timeout": RetryMode.YES, "network": RetryMode.NEVER} == dict(retry.patience)
    assert ("Primary", "Secondary") == settings.fallback_policy().clients
    assert 3 == settings.breaker_policy().half_open_probes


def test_fallback_may_be_a_table_too(project: Path) -> None:
    """`[fallback] clients = [...]` says the same as `fallback = [...]`, and has room for the other fields."""
    (project / "resilience.toml").write_text('[fallback]\nclients = ["A", "B"]\ncontext_clients = ["Long"]\n')

    found = settings.fallback_policy()

    assert (("A", "B"), ("Long",)) == (found.clients, found.context_clients)


@pytest.mark.parametrize(
    ("file", "text", "place"),
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
def test_a_value_that_cannot_be_read_names_its_place(project: Path, file: str, text: str, place: str) -> None:
    """The message says what was written, what to write, and in which file it stands."""
    (project / file).write_text(text)

    with pytest.raises(ConfigurationError) as refused:
        settings.retry_policy()

    assert f"RESILIENCE_RETRY__DEADLINE='soon': give a number (set by {place.format(project)})" == str(
        refused.value
    )


def test_a_value_out_of_range_names_the_one_place_it_came_from(project: Path) -> None:
    """Of several fields that were set, only the one that is wrong is pointed at."""
    (project / "resilience.toml").write_text("[retry]\nmax_retries = 3\ndeadline = -1\n")

    with pytest.raises(
        ConfigurationError, match=r"deadline.*-1.*\(set by deadline of \[retry\] in "
    ) as refused:
        settings.retry_policy()

    assert "max_retries of" not in str(refused.value)


def test_a_name_nobody_reads_is_refused_in_our_own_tables(project: Path) -> None:
    """A typing error in resilience.toml would otherwise go unnoticed; the nearest name is offered."""
    (project / "resilience.toml").write_text("[retry]\ndead_line = 3\n")

    with pytest.raises(
        ConfigurationError, match=r"dead_line of \[retry\] in .*did you mean deadline of \[retry\]"
    ):
        Settings().complete()


def test_a_table_that_was_given_one_value_is_called_a_table(project: Path) -> None:
    """`retry = 3` is answered with what can stand in the table, not with another name."""
    (project / "resilience.toml").write_text("retry = 3\n")

    with pytest.raises(ConfigurationError, match=r"retry in .*: .*\[retry\] is a table.* max_retries"):
        Settings().complete()


def test_a_name_like_no_other_gets_the_whole_list(project: Path) -> None:
    """Without a near name the message lists what there is."""
    (project / "resilience.toml").write_text("zzzzqqqq = 3\n")

    with pytest.raises(ConfigurationError, match=r"no such setting; there are .*redis_url"):
        Settings().complete()


def test_a_foreign_variable_of_the_environment_harms_nobody(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Others may use our prefix; `resilience doctor` points at such names."""
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
    """Broken TOML, bytes that are no text, and a table that is none: each names the file and never half-applies."""
    (project / file).write_bytes(content)

    with pytest.raises(ConfigurationError, match=file.replace(".", r"\.")):
        Settings().complete()


def test_a_plain_mapping_is_all_there_is(project: Path) -> None:
    """Who passes an environment gets that one and no files."""
    (project / "resilience.toml").write_text('namespace = "toml"\n')

    assert "resilience" == Settings().complete({}, project).namespace


def test_every_setting_can_be_named(project: Path) -> None:
    """`known` lists each field of Settings and of the three policies, and says how TOML spells it."""
    known = settings.known()

    assert {
        "RESILIENCE_REDIS_URL",
        "RESILIENCE_RETRY__DEADLINE",
        "RESILIENCE_BREAKER__WINDOW",
        "RESILIENCE_FALLBACK",
    } <= set(known)
    assert ("redis_url", "window of [breaker]") == (
        settings.spelled("RESILIENCE_REDIS_URL"),
        settings.spelled("RESILIENCE_BREAKER__WINDOW"),
    )


def test_a_folder_with_braces_is_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Places are shown as they are, whatever characters a path has."""
    odd = tmp_path / "{0}{}"
    odd.mkdir()
    (odd / "pyproject.toml").touch()
    (odd / "resilience.toml").write_text("[retry]\ndeadline = true\n")

    written = sources.read({}, odd)

    assert f"deadline of [retry] in {odd}/resilience.toml" == sources.place(
        written, "RESILIENCE_RETRY__DEADLINE"
    )


def test_a_short_name_is_as_strong_as_its_place(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`RESILIENCE_FALLBACK` of the environment goes before `clients` of a file, and so does an empty one; in one place the long name counts."""
    (project / "resilience.toml").write_text('[fallback]\nclients = ["Toml"]\n')
    assert ("Toml",) == settings.fallback_policy().clients

    monkeypatch.setenv("RESILIENCE_FALLBACK", "Environment")
    assert ("Environment",) == settings.fallback_policy().clients

    monkeypatch.setenv("RESILIENCE_FALLBACK__CLIENTS", "Long")
    assert ("Long",) == settings.fallback_policy().clients

    monkeypatch.delenv("RESILIENCE_FALLBACK__CLIENTS")
    monkeypatch.setenv("RESILIENCE_FALLBACK", "")
    assert () == settings.fallback_policy().clients


def test_a_name_nobody_reads_says_where_it_was_set(project: Path) -> None:
    """A field that a policy does not have is looked for in the file that names it."""
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
def test_what_should_be_a_url_is_refused_without_its_password(project: Path, wrong: str, shown: str) -> None:
    """The message ends in logs and on screens."""
    with pytest.raises(ValueError, match="give a URL") as caught:
        Settings(redis_url=wrong)

    assert f"Settings.redis_url={shown!r}: " in str(caught.value)
    assert "2pw" not in str(caught.value)


@pytest.mark.parametrize("text", ["tool = 5\n", "[tool]\nresilience = 5\n"])
def test_a_value_in_the_place_of_our_table_is_told(project: Path, text: str) -> None:
    """It is a mistake in that file, whichever part of `[tool.resilience]` is no table."""
    (project / "pyproject.toml").write_text(text)

    with pytest.raises(
        ConfigurationError,
        match=rf"\[tool.resilience\] in {project}/pyproject.toml must be a table, and is 5",
    ):
        settings.written()
