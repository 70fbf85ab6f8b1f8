"""The sources of settings: environment, `.env`, `resilience.toml`, `pyproject.toml`; and the origin of each value."""

from __future__ import annotations

import json
import os
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from dotenv import dotenv_values

from resilience import isolation
from resilience.errors import ConfigurationError

PREFIX: Final = "RESILIENCE_"
"""The prefix of all our variables."""
FOLDER: Final = ".resilience"
"""The folder with the files that all processes of one project share."""
ALIASES: Final = {f"{PREFIX}FALLBACK": f"{PREFIX}FALLBACK__CLIENTS"}
"""Short names of variables. If one source has both names, the long one counts."""
_MARKS: Final = ("pyproject.toml", "baml_src")


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
    directory = directory or working_directory()
    project = project_directory(directory)
    loaded = LoadedSettings()
    loaded.add(isolation.variables())
    loaded.add(_variables_of(environ, "the variable {} of the environment"))
    # The two folders are the same in the usual case; dict.fromkeys then reads the file once.
    for folder in dict.fromkeys((directory, project)):
        loaded.add(_variables_of(_dotenv(folder / ".env"), "{} in", folder / ".env"))
    loaded.add(_toml(project / "resilience.toml"))
    loaded.add(_toml(project / "pyproject.toml", "tool", "resilience"))
    return loaded


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


def project_directory(directory: Path) -> Path:
    """Return the nearest directory at or above *directory* with a `pyproject.toml` or `baml_src`, else *directory*."""
    for folder in (directory, *directory.parents):
        if any((folder / mark).exists() for mark in _MARKS):
            return folder
    return directory


def _variables_of(
    values: Mapping[str, str | None], where: str, file: Path | None = None
) -> dict[str, tuple[str, str]]:
    # The path is appended, not formatted in: it may contain braces.
    return {
        name: (text, f"{where.format(name)} {file}" if file else where.format(name))
        for name, text in values.items()
        if name.startswith(PREFIX) and text is not None
    }


def _dotenv(file: Path) -> Mapping[str, str | None]:
    if not file.is_file():
        return {}
    try:
        # No interpolation: a `$` in a password is a dollar sign.
        return dotenv_values(file, interpolate=False)
    except (OSError, UnicodeDecodeError) as exc:
        msg = f"{file} cannot be read ({exc}): make it a readable text file, or move it away"
        raise ConfigurationError(msg) from None


def _toml(file: Path, *path: str) -> dict[str, tuple[str, str]]:
    """Return the variables of the table at *path* in *file*, each with its text and origin."""
    if not file.is_file():
        return {}
    try:
        table: Any = tomllib.loads(file.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as exc:
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
