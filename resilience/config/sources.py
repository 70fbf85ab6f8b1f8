"""The sources of settings: environment, `.env`, `resilience.toml`, `pyproject.toml`; and the origin of each value.

Settings say where prompts and keys go, and name functions to import. So a file that another user could have written is not used
(`resilience/file_trust.py` has the rule). If it names a store or a history, that is an error: a process that ignored it would leave the fleet
without a word. Anything else is a warning. The environment may name one file to read in place of all others, whatever its owner.
"""

from __future__ import annotations

import io
import json
import logging
import os
import stat
import tomllib
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final

from resilience import file_trust, isolation, notices
from resilience.config import project
from resilience.errors import ConfigurationError

PREFIX: Final = "RESILIENCE_"
"""The prefix of all our variables."""
FOLDER: Final = ".resilience"
"""The folder with the files that all processes of one project share."""
ALIASES: Final = {f"{PREFIX}FALLBACK": f"{PREFIX}FALLBACK__CLIENTS"}
"""Short names of variables. If one source has both names, the long one counts."""
CONFIG: Final = "RESILIENCE_CONFIG"
"""Variable of the environment: a settings file to read in place of all others."""
CONSENT: Final = (CONFIG, file_trust.TRUST_DIRS)
"""Variables that count in the environment alone: a file must not decide which files are trusted."""
_URLS: Final = tuple(f"{PREFIX}{name}_URL" for name in ("REDIS", "STORE", "DATABASE"))
_MOST_BYTES: Final = 4 * 1024 * 1024
"""The longest settings file that is read."""

_Found = dict[str, tuple[str, str]]
_Parser = Callable[[Path, str], _Found]

_log = logging.getLogger("resilience")
_warned: Final[set[str]] = set()


class LoadedSettings(dict[str, str]):
    """All values found, as variables of the environment; for each the source with the highest precedence.

    A key `deadline` of the table `[retry]` in TOML is the variable `RESILIENCE_RETRY__DEADLINE`.

    Attributes:
        origins: for each variable, where it was set, as error messages and `resilience config show` name it.
    """

    def __init__(self) -> None:
        super().__init__()
        self.origins: dict[str, str] = {}

    def add(self, found: Mapping[str, tuple[str, str]]) -> None:
        """Add the variables of a source of lower precedence than all before: for each its text and its origin."""
        # Aliases last: a long name of the same source is in by then, and wins.
        for name in sorted(found, key=ALIASES.__contains__):
            variable = ALIASES.get(name, name)
            if variable not in self:
                self[variable], self.origins[variable] = found[name]


def read(environ: Mapping[str, str] | None = None, directory: Path | None = None) -> LoadedSettings:
    """Read all sources for processes that run in *directory*.

    In order of precedence: the places of an isolated test, the environment, `.env` in the directory, `.env` of the project, `resilience.toml` of the project, and
    `[tool.resilience]` in its `pyproject.toml`.

    Args:
        environ: the environment; the process's own by default.
        directory: the working directory by default.

    Raises:
        ConfigurationError: a file cannot be read, or the working directory is gone.
    """
    environ = os.environ if environ is None else environ
    loaded = LoadedSettings()
    loaded.add(isolation.variables())
    loaded.add(_variables_of(environ, "the variable {} of the environment"))
    if named := environ.get(CONFIG):
        loaded.add(_named(Path(named).expanduser()))
        return loaded
    directory = directory or working_directory()
    found = project.find(directory)
    for file in _files(directory, found.directory):
        _add(loaded, file)
    _report_ignored(loaded, found)
    return loaded


def _files(directory: Path, root: Path) -> list[Path]:
    """Return the settings files of a process in *directory*, in order of precedence."""
    # The two folders are the same in the usual case; dict.fromkeys then reads the file once.
    dotenvs = [folder / ".env" for folder in dict.fromkeys((directory, root))]
    return [*dotenvs, root / "resilience.toml", root / "pyproject.toml"]


def origin_of(values: Mapping[str, str], variable: str) -> str:
    """Return where *variable* was set, for a message."""
    if isinstance(values, LoadedSettings):
        return values.origins[variable]
    return f"the variable {variable}"


def working_directory() -> Path:
    """Return the working directory.

    Raises:
        ConfigurationError: the directory was removed.
    """
    try:
        return Path.cwd()
    except FileNotFoundError:
        msg = "the working directory is gone: start in a folder that is there"
        raise ConfigurationError(msg) from None


def refused_files(directory: Path) -> Iterator[tuple[Path, str]]:
    """Yield the settings files of a process in *directory* that are not used, each with the reason and the remedy."""
    for file in _files(directory, project.project_directory(directory)):
        try:
            _text_of(file)
        except file_trust.UntrustedFileError as exc:
            yield file, str(exc)


# --- which files are used ---------------------------------------------------------------------------------------------


def _named(file: Path) -> _Found:
    """Return the settings of the file that `RESILIENCE_CONFIG` names."""
    text = _read(file, partial(os.open, file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC))
    if text is None:
        msg = f"{CONFIG}={file}: there is no such file; name a settings file, or unset the variable"
        raise ConfigurationError(msg)
    return _parser(file)(file, text)


def _add(loaded: LoadedSettings, file: Path) -> None:
    """Add the settings of *file*; refuse it if another user could have written it.

    Raises:
        ConfigurationError: the file cannot be read, or it is refused and names a store or a history that no other source names.
    """
    try:
        text = _text_of(file)
    except file_trust.UntrustedFileError as exc:
        _refuse(loaded, file, str(exc))
    else:
        if text is not None:
            loaded.add(_parser(file)(file, text))


def _refuse(loaded: LoadedSettings, file: Path, why: str) -> None:
    """Report a file that is not used, if it has settings of ours at all."""
    ignored = _glance(file)
    for variable in _URLS:
        text, origin = ignored.get(variable, ("", ""))
        if text and variable not in loaded:
            msg = f"{origin} is not used: {why}, or name the file in {CONFIG}"
            raise ConfigurationError(msg)
    if ignored:
        _warn_once(f"the settings in {file} are not used: {why}, or name the file in {CONFIG}")


def _report_ignored(loaded: LoadedSettings, found: project.Project) -> None:
    """Report a folder above that looks like the project of this process, and lies outside of the folders that it trusts."""
    if found.ignored is None:
        return
    for name in (".env", "resilience.toml", "pyproject.toml"):
        _refuse(loaded, found.ignored / name, found.why)
    _warn_once(f"{found.ignored} is not taken for the project of {found.directory}: {found.why}")


def _glance(file: Path) -> _Found:
    """Return the settings of a file that is refused, only to know whether it has any."""
    try:
        text = _read(file, partial(os.open, file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC))
        return _parser(file)(file, text or "")
    except ConfigurationError:
        return {}


def _warn_once(message: str) -> None:
    # Settings are read at several places of one process.
    if message not in _warned:
        _warned.add(message)
        notices.warn(_log, message, message)


# --- reading them -----------------------------------------------------------------------------------------------------


def _text_of(file: Path) -> str | None:
    """Return the text of a settings file; None if there is none.

    Raises:
        UntrustedFileError: another user could have written it.
        ConfigurationError: it cannot be read.
    """
    return _read(file, partial(file_trust.open_settings, file))


def _read(file: Path, opened: Callable[[], int]) -> str | None:
    try:
        if not file.is_file():
            return None
        with open(opened(), "rb") as stream:  # noqa: PTH123 - a descriptor, not a path
            data = stream.read(_MOST_BYTES + 1) if stat.S_ISREG(os.fstat(stream.fileno()).st_mode) else b""
        if len(data) > _MOST_BYTES:
            msg = f"{file} is larger than {_MOST_BYTES} bytes: keep settings in a file of their own"
            raise ConfigurationError(msg)
        return data.decode("utf-8")
    except file_trust.UntrustedFileError:
        raise
    except (OSError, UnicodeDecodeError) as exc:
        msg = f"{file} cannot be read ({exc}): make it a readable text file, or move it away"
        raise ConfigurationError(msg) from None


def _parser(file: Path) -> _Parser:
    """Return how *file* is read, by its name."""
    if file.name.startswith(".env") or file.suffix == ".env":
        return _dotenv
    return partial(_toml, path=("tool", "resilience") if file.name == "pyproject.toml" else ())


def _variables_of(
    values: Mapping[str, str | None], where: str, file: Path | None = None
) -> dict[str, tuple[str, str]]:
    # The path is appended, not formatted in: it may contain braces.
    return {
        name: (text, f"{where.format(name)} {file}" if file else where.format(name))
        for name, text in values.items()
        if name.startswith(PREFIX) and name not in CONSENT and text is not None
    }


def _dotenv(file: Path, text: str) -> _Found:
    from dotenv import dotenv_values  # noqa: PLC0415 - many projects have no such file

    # No interpolation: a `$` in a password is a dollar sign.
    return _variables_of(dotenv_values(stream=io.StringIO(text), interpolate=False), "{} in", file)


def _toml(file: Path, text: str, *, path: tuple[str, ...]) -> _Found:
    """Return the variables of the table at *path* in *file*, each with its text and origin."""
    try:
        table: Any = tomllib.loads(text)
    except (
        ValueError,
        RecursionError,
    ) as exc:  # also a number of 5 000 digits, and a list of a thousand levels
        msg = f"{file} cannot be read ({exc}): mend it, or move it away"
        raise ConfigurationError(msg) from None
    for key in path:
        table = table.get(key, {}) if isinstance(table, Mapping) else table
    if not isinstance(table, Mapping):
        msg = f"[{'.'.join(path)}] in {file} must be a table, and is {table!r}"
        raise ConfigurationError(msg)
    return {name: (text, f"{key} in {file}") for name, key, text in _flat(table, ".".join(path))}


def _flat(table: Mapping[str, Any], path: str) -> Iterator[tuple[str, str, str]]:
    for key, value in table.items():
        if isinstance(value, Mapping):
            for field, field_value in value.items():
                name = f"{field} of [{path + '.' if path else ''}{key}]"
                yield f"{PREFIX}{key.upper()}__{field.upper()}", name, _text(field_value)
        else:
            name = f"{key} of [{path}]" if path else key
            yield f"{PREFIX}{key.upper()}", name, _text(value)


def _text(value: Any) -> str:
    """Return a TOML value in the form that a variable of the environment has."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return ",".join(value)
    if isinstance(value, Mapping) and all(isinstance(item, str) for item in value.values()):
        return ",".join(f"{name}={item}" for name, item in value.items())
    return value if isinstance(value, str) else json.dumps(value, default=str)
