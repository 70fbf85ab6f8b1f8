"""The project of a process: the folder with its settings, and with the files that all its processes share.

It is found upwards from the working directory, but only inside of our own tree. Above it begin folders in which other users may put
a `pyproject.toml`, such as `/tmp`; git had the same hole (CVE-2022-24765).
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from resilience import file_trust

_MARKS: Final = ("pyproject.toml", "baml_src")


@dataclass(frozen=True, slots=True)
class Project:
    """The project of one working directory.

    Attributes:
        directory: its folder.
        ignored: a folder above that looks like the project, and is outside of our tree; None for none.
        why: why *ignored* is not used, with the remedy.
    """

    directory: Path
    ignored: Path | None = None
    why: str = ""


def find(directory: Path) -> Project:
    """Return the nearest folder at or above *directory* with a `pyproject.toml` or `baml_src`, else *directory*.

    The search ends at the home folder, at the top of a git checkout, at a border between file systems, and below a folder that belongs
    to another user or that others may change. `RESILIENCE_TRUST_DIRS` takes the last two limits away.
    """
    start = folder = directory.absolute()
    while not _is_marked(folder):
        if _is_top(folder):
            return Project(start)
        if why := _border(folder):
            return _beyond(start, folder.parent, why)
        folder = folder.parent
    return Project(folder)


def project_directory(directory: Path) -> Path:
    """Return the folder of the project of a process in *directory*."""
    return find(directory).directory


def _is_marked(folder: Path) -> bool:
    # os.path.exists is false for a folder that may not be searched; Path.exists would raise.
    return any(os.path.exists(folder / mark) for mark in _MARKS)  # noqa: PTH110


def _is_top(folder: Path) -> bool:
    """Return whether nothing above *folder* belongs to the same tree: the root, the home folder, the top of a checkout."""
    if folder == folder.parent or os.path.lexists(folder / ".git"):
        return True
    return folder == Path(os.path.expanduser("~")).resolve()  # noqa: PTH111 - Path.home raises for a user without one


def _border(folder: Path) -> str:
    """Return why the search does not go on above *folder*; an empty text if it does."""
    above = folder.parent
    if problem := file_trust.tree_problem(above):
        return f"{above} {problem}"
    if _device(folder) not in (None, _device(above)) and not file_trust.is_consented(above):
        return f"{above} is on another file system than {folder}: name it in {file_trust.TRUST_DIRS}, or start there"
    return ""


def _device(folder: Path) -> int | None:
    try:
        return folder.stat().st_dev
    except OSError:
        return None


def _beyond(start: Path, folder: Path, why: str) -> Project:
    """Return the result of a search that ended below *folder*: the next marked folder above is named, and not used."""
    while not _is_marked(folder):
        if _is_top(folder):
            return Project(start)
        folder = folder.parent
    return Project(start, folder, why)
