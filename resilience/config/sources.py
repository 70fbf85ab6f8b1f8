"""Where settings are written down: the environment, `.env`, `resilience.toml`, `pyproject.toml`; and which of them said what."""

from __future__ import annotations

import json
import os
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from dotenv import dotenv_values

from resilience.errors import ConfigurationError

PREFIX: Final = "RESILIENCE_"
"""What every variable of ours begins with."""
FOLDER: Final = ".resilience"
"""Where all processes of one project keep what they share."""
SHORT: Final = {f"{PREFIX}FALLBACK": f"{PREFIX}FALLBACK__CLIENTS"}
"""Variables that are a short name of another; where one place has both, the long one counts."""
_MARKS: Final = ("pyproject.toml", "baml_src")


class LoadedSettings(dict[str, str]):
    """What was written down, as variables of the environment, with the place of each; the strongest place wins.

    A key `deadline` of the table `[retry]` is the variable `RESILIENCE_RETRY__DEADLINE`.

    Attributes:
        places: for each variable how to find where it was set.
    """

    def __init__(self) -> None:
        super().__init__()
        self.places: dict[str, str] = {}

    def add(self, found: Mapping[str, tuple[str, str]]) -> None:
        """Take what was *found* in a place weaker than all before: for each variable its text and where it stands."""
        for name in sorted(found, key=SHORT.__contains__):
            variable = SHORT.get(name, name)
            if variable not in self:
                self[variable], self.places[variable] = found[name]


def read(environ: Mapping[str, str] | None = None, directory: Path | None = None) -> LoadedSettings:
    """Everything that is written down for processes in *directory*, strongest first.

    The order: the environment, `.env` in the directory, `.env` of the project, `resilience.toml` of the project, and
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
    written = LoadedSettings()
    written.add(_ours(environ, "the variable {} of the environment"))
    for folder in dict.fromkeys((directory, project)):
        written.add(_ours(_dotenv(folder / ".env"), "{} in", folder / ".env"))
    written.add(_toml(project / "resilience.toml"))
    written.add(_toml(project / "pyproject.toml", "tool", "resilience"))
    return written


def place(values: Mapping[str, str], variable: str) -> str:
    """Where *variable* was set, for a message."""
    if isinstance(values, LoadedSettings):
        return values.places[variable]
    return f"the variable {variable}"


def working_directory() -> Path:
    """Where this process is.

    Raises:
        ConfigurationError: that folder was removed.
    """
    try:
        return Path.cwd()
    except FileNotFoundError:
        msg = "the working directory is gone: start in a folder that is there"
        raise ConfigurationError(msg) from None


def project_directory(directory: Path) -> Path:
    """The nearest directory at or above *directory* with a `pyproject.toml` or `baml_src`, else *directory*."""
    for folder in (directory, *directory.parents):
        if any((folder / mark).exists() for mark in _MARKS):
            return folder
    return directory


def _ours(
    values: Mapping[str, str | None], where: str, file: Path | None = None
) -> dict[str, tuple[str, str]]:
    return {
        name: (text, f"{where.format(name)} {file}" if file else where.format(name))
        for name, text in values.items()
        if name.startswith(PREFIX) and text is not None
    }


def _dotenv(file: Path) -> Mapping[str, str | None]:
    if not file.is_file():
        return {}
    try:
        return dotenv_values(file, interpolate=False)
    except (OSError, UnicodeDecodeError) as exc:
        msg = f"{file} cannot be read ({exc}): make it a readable text file, or move it away"
        raise ConfigurationError(msg) from None


def _toml(file: Path, *path: str) -> dict[str, tuple[str, str]]:
    """What the table at *path* in *file* says."""
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
            for field, each in value.items():
                where = f"{field} of [{path + '.' if path else ''}{key}]"
                yield f"{PREFIX}{key.upper()}__{field.upper()}", where, _text(each)
        else:
            where = f"{key} of [{path}]" if path else key
            yield f"{PREFIX}{key.upper()}", where, _text(value)


def _text(value: Any) -> str:
    """A TOML value as one would write it into the environment."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list) and all(isinstance(each, str) for each in value):
        return ",".join(value)
    if isinstance(value, Mapping) and all(isinstance(each, str) for each in value.values()):
        return ",".join(f"{name}={each}" for name, each in value.items())
    return value if isinstance(value, str) else json.dumps(value, default=str)
