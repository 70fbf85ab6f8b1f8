"""The sources of settings: precedence, unreadable files, and invalid values with their origin."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.other_users import give_away

from resilience.config import project as projects
from resilience.config import settings, sources
from resilience.config.settings import Settings
from resilience.errors import ConfigurationError
from resilience.failure import RetryMode


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
        ("user:hunter2pw@cache:6379", "[credentials]@cache:6379"),
        ("redis:/user:hunter@2pw@cache", "[credentials]@cache"),
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


class TestTrust:
    """Settings of other users: not used, and not passed over in silence."""

    @pytest.fixture
    def job(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        """A working directory of ours in a folder in which every user may make files."""
        shared, job = tmp_path / "shared", tmp_path / "shared" / "job"
        job.mkdir(parents=True, mode=0o700)
        shared.chmod(0o1777)
        monkeypatch.chdir(job)
        for name in settings.all_settings():
            monkeypatch.delenv(name, raising=False)
        return job

    def test_settings_above_a_shared_folder_are_not_ours(
        self, job: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        """They name code to run and say how much is kept. They are not used, and there is one warning."""
        text = '[tool.resilience]\nprivacy = "full"\nredact_hook = "os:symlink"\n'
        (job.parent / "pyproject.toml").write_text(text)

        found = Settings().complete()
        Settings().complete()

        assert ("metadata", None) == (found.privacy, found.redact_hook)
        assert job / ".resilience" == settings.project_folder(job)
        about_file = [line for line in caplog.messages if "pyproject.toml are not used" in line]
        assert 1 == len(about_file)

    def test_a_refused_url_is_an_error(self, job: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A process that ignored it would use other circuits than the rest of the fleet. The same URL elsewhere ends the error."""
        (job / "resilience.toml").write_text('redis_url = "redis://fleet/0"\n')
        (job / "resilience.toml").chmod(0o666)

        with pytest.raises(
            ConfigurationError, match=r"redis_url in .*every user.*chmod o-w.*RESILIENCE_CONFIG"
        ):
            Settings().complete()

        monkeypatch.setenv("RESILIENCE_REDIS_URL", "redis://fleet/0")
        assert "redis://fleet/0" == Settings().complete().redis_url

    @pytest.mark.parametrize("name", [".env", "resilience.toml", "pyproject.toml"])
    def test_files_of_another_user_are_not_used(
        self, job: Path, monkeypatch: pytest.MonkeyPatch, name: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Nor links of another user to a file of ours. A file without settings of ours is no matter of ours."""
        head = "[tool.resilience]\n" if name == "pyproject.toml" else ""
        setting = "RESILIENCE_NAMESPACE=evil" if name == ".env" else 'namespace = "evil"'
        (job / "resilience.toml").touch()
        (job / name).write_text("")
        give_away(monkeypatch, job / name)
        Settings().complete()
        assert [] == caplog.messages

        (job / name).write_text(f"{head}{setting}\n")

        assert "resilience" == Settings().complete().namespace
        assert "is owned by user" in caplog.text

    def test_links_of_ours_are_followed(self, job: Path) -> None:
        """Kubernetes mounts configuration as links, and `.env` is often a link to that of the repository."""
        (job / "data").mkdir()
        (job / "data" / "real").write_text('namespace = "linked"\n')
        (job / "resilience.toml").symlink_to(job / "data" / "real")

        assert "linked" == Settings().complete().namespace

    def test_links_of_another_user_are_not(self, job: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """They could lead to any file of ours."""
        (job / "real").write_text('namespace = "linked"\n')
        (job / "resilience.toml").symlink_to(job / "real")
        give_away(monkeypatch, job / "resilience.toml")

        assert "resilience" == Settings().complete().namespace

    def test_consent_by_the_environment(self, job: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """`RESILIENCE_CONFIG` names one file, read in place of all others; `RESILIENCE_TRUST_DIRS` names folders."""
        (job.parent / "pyproject.toml").write_text('[tool.resilience]\nnamespace = "shared"\n')
        (job.parent / "my.toml").write_text('namespace = "named"\n')
        give_away(monkeypatch, job.parent / "pyproject.toml", job.parent / "my.toml")
        monkeypatch.setenv("RESILIENCE_CONFIG", str(job.parent / "my.toml"))
        assert "named" == Settings().complete().namespace

        monkeypatch.delenv("RESILIENCE_CONFIG")
        monkeypatch.setenv("RESILIENCE_TRUST_DIRS", str(job.parent))
        assert "shared" == Settings().complete().namespace

    def test_a_file_gives_no_consent(self, job: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """In a settings file the two variables mean nothing."""
        (job / ".env").write_text(f"RESILIENCE_TRUST_DIRS={job}\nRESILIENCE_CONFIG={job}/other.toml\n")
        (job / "resilience.toml").write_text('namespace = "evil"\n')
        give_away(monkeypatch, job / "resilience.toml")

        found = sources.read()

        assert {} == {name: text for name, text in found.items() if name in sources.CONSENT}
        assert "resilience" == Settings().complete().namespace

    def test_a_named_file_must_be_there(self, job: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A typing error in the variable is an error, not a process without settings."""
        monkeypatch.setenv("RESILIENCE_CONFIG", str(job / "none.toml"))

        with pytest.raises(ConfigurationError, match=r"RESILIENCE_CONFIG=.*there is no such file"):
            Settings().complete()

    @pytest.mark.parametrize("top", [".git", "home"])
    def test_the_search_ends_at_the_top_of_the_tree(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, top: str
    ) -> None:
        """The top itself still counts: a home folder may be the project."""
        inside = tmp_path / "top" / "a" / "b"
        inside.mkdir(parents=True)
        (tmp_path / "pyproject.toml").touch()
        if top == ".git":
            (tmp_path / "top" / ".git").mkdir()
        else:
            monkeypatch.setenv("HOME", str(tmp_path / "top"))
        assert projects.Project(inside) == projects.find(inside)

        (tmp_path / "top" / "pyproject.toml").touch()

        assert projects.Project(tmp_path / "top") == projects.find(inside)

    def test_the_search_ends_at_a_file_system(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A mounted folder is a tree of its own. What looks like the project above it is named; consent takes the border away."""
        inside = tmp_path / "mounted" / "a"
        inside.mkdir(parents=True)
        (tmp_path / "pyproject.toml").touch()
        device = Path.stat

        class Elsewhere:
            st_dev = -1

            def __init__(self, status: object) -> None:
                self._status = status

            def __getattr__(self, name: str) -> object:
                return getattr(self._status, name)

        def stat(path: Path, **options: bool) -> object:
            status = device(path, **options)
            return Elsewhere(status) if path.is_relative_to(tmp_path / "mounted") else status

        monkeypatch.setattr(Path, "stat", stat)
        found = projects.find(inside)
        assert (inside, tmp_path) == (found.directory, found.ignored)
        assert "another file system" in found.why

        monkeypatch.setenv("RESILIENCE_TRUST_DIRS", str(tmp_path))

        assert projects.Project(tmp_path) == projects.find(inside)

    @pytest.mark.parametrize("text", ["a = " + "[" * 5000, "a = " + "9" * 5000, "a = {b=" * 3000])
    def test_toml_that_the_parser_cannot_take(self, job: Path, text: str) -> None:
        """Deep lists and long numbers are errors of the file, with its name."""
        (job / "pyproject.toml").touch()
        (job / "resilience.toml").write_text(text)

        with pytest.raises(ConfigurationError, match=r"resilience\.toml cannot be read"):
            Settings().complete()
