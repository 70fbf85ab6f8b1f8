"""Checks of owner and mode: settings files, databases, the hash key, logs, and the folders of them.

What the agents refuse is a failure here. What they use, although other users may read it, is a warning: a history may hold prompts,
and a settings file the passwords of servers.
"""

from __future__ import annotations

import stat
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

from resilience import file_trust
from resilience.config import project, sources
from resilience.config.hash_key import NAME
from resilience.config.settings import Settings, project_folder
from resilience.doctor.finding import Finding, fail, ok, warn
from resilience.errors import ConfigurationError
from resilience.history.schema import urls

_SUBJECT: Final = "files"
_READABLE: Final = stat.S_IRGRP | stat.S_IROTH


def examine(settings: Settings) -> Iterator[Finding]:
    """Check every file and folder that these settings name.

    Args:
        settings: complete settings.
    """
    findings = [*_settings_files(), *_databases(settings), *_hash_key(), *_logs(settings)]
    yield from findings or [ok(_SUBJECT, "no other user can read or change a file of this set-up")]


def _settings_files() -> Iterator[Finding]:
    directory = sources.working_directory()
    for file, why in sources.refused_files(directory):
        yield fail(_SUBJECT, f"{file} is not used: it {_reason(file, why)}", _remedy(why))
    found = project.find(directory)
    if found.ignored is not None:
        yield warn(_SUBJECT, f"{found.ignored} is not taken for the project: {found.why}", _remedy(found.why))
    # Of these only `.env` holds passwords by custom; a `pyproject.toml` is readable in every checkout.
    yield from _readable([folder / ".env" for folder in dict.fromkeys((directory, found.directory))])


def _databases(settings: Settings) -> Iterator[Finding]:
    files: list[Path | None] = []
    # A URL that nothing supports is reported by the checks of circuits and history.
    with suppress(ConfigurationError):
        files.append(settings.circuit_store.path)
    with suppress(ConfigurationError):
        url = urls.parse(settings.database_url or "") if settings.keeps_history else None
        files.append(urls.path(url) if url is not None and urls.is_sqlite(url) else None)
    for file in filter(None, files):
        yield from _untrusted(file, file_trust.check_database)
        # A log that is written now has the newest rows, and SQLite gives it the mode of the database.
        yield from _readable([file, Path(f"{file}-wal")])


def _hash_key() -> Iterator[Finding]:
    key = project_folder(sources.working_directory()) / NAME
    try:
        problem = file_trust.file_problem(key.lstat())
    except OSError:
        return
    if problem and not file_trust.is_consented(key):
        yield fail(_SUBJECT, f"{key} is not used: it {problem}", _remedy(problem))
    else:
        yield from _readable([key])


def _logs(settings: Settings) -> Iterator[Finding]:
    if settings.log_dir is None:
        return
    folder = Path(settings.log_dir)
    yield from _untrusted(folder, file_trust.check_folder)
    files = sorted(folder.glob("*.jsonl*"))
    for file in files:
        problem = file_trust.file_problem(file.lstat())
        if problem and not file_trust.is_consented(file):
            yield fail(_SUBJECT, f"{file} is not written: it {problem}", _remedy(problem))
    yield from _readable(files)


def _untrusted(path: Path, check: Callable[[Path], None]) -> Iterator[Finding]:
    try:
        check(path)
    except file_trust.UntrustedFileError as exc:
        yield fail(_SUBJECT, f"not used: {exc}", _remedy(str(exc)))
    except OSError:
        return  # the check of what it is for reports that it cannot be reached


def _readable(files: list[Path]) -> Iterator[Finding]:
    """Warn of the files that others may read."""
    open_ones = []
    for file in files:
        try:
            status = file.stat()
        except OSError:
            continue
        if status.st_mode & _READABLE:
            open_ones.append(file)
    if open_ones:
        names = " ".join(map(str, open_ones))
        yield warn(_SUBJECT, f"others may read {', '.join(map(str, open_ones))}", f"chmod 600 {names}")


def _reason(file: Path, why: str) -> str:
    return why.removeprefix(f"{file} ").partition(": ")[0]


def _remedy(why: str) -> str:
    return why.partition(": ")[2] or why
