"""The location that a command works on, as `--at` and `--namespace` name it.

The settings of a command are those of a process that starts in its folder. These two options say so without a `cd` and
without variables: an operator looks at the demo's folder, at another project, or at a store by its URL.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

import typer

_HISTORY: Final = "resilience.db"
_CIRCUITS: Final = "circuits.db"
_REDIS: Final = ("redis://", "rediss://", "unix://", "redis+", "rediss+")


def use(at: str | None, namespace: str | None) -> Callable[[], None]:
    """Make the settings of this process name a place.

    Args:
        at: a folder with the files of circuits and history, a project's folder, an SQLite file of a history, or a URL.
        namespace: the deployment.

    Returns:
        A function that restores the environment and the working directory.

    Raises:
        typer.BadParameter: *at* names nothing that exists.
    """
    # What a program runs in its own process, as tests do, must not change that program's environment for good.
    before = dict(os.environ)
    folder = _working_directory()
    if namespace is not None:
        os.environ["RESILIENCE_NAMESPACE"] = namespace
    if at is not None:
        os.environ.update(_variables(at))

    def restore() -> None:
        for name in {*os.environ, *before}:
            if name.startswith("RESILIENCE_") and os.environ.get(name) != before.get(name):
                os.environ.pop(name, None)
                os.environ.update({name: before[name]} if name in before else {})
        if folder is not None:
            os.chdir(folder)

    return restore


def _working_directory() -> Path | None:
    try:
        return Path.cwd()
    except FileNotFoundError:  # the settings report it, with its remedy
        return None


def _variables(at: str) -> dict[str, str]:
    """Return the variables that name a place. A project's folder needs none: it becomes the working directory."""
    if "://" in at:
        return {"RESILIENCE_REDIS_URL" if at.startswith(_REDIS) else "RESILIENCE_DATABASE_URL": at}
    path = Path(at).expanduser().absolute()
    if path.is_file():
        return {**_in_folder(path.parent), "RESILIENCE_DATABASE_URL": f"sqlite:///{path}"}
    if not path.is_dir():
        msg = f"{at!r} does not exist: give a folder, an SQLite file, or a URL such as redis://host/0 or postgresql://host/db"
        raise typer.BadParameter(msg, param_hint="--at")
    if any((path / name).exists() for name in (_HISTORY, _CIRCUITS)):
        return _in_folder(path)
    os.chdir(path)
    return {}


def _in_folder(path: Path) -> dict[str, str]:
    # An empty variable wins over a Redis in the settings files: the folder is what was asked for.
    return {
        "RESILIENCE_REDIS_URL": "",
        "RESILIENCE_STORE_URL": f"sqlite:///{path / _CIRCUITS}",
        "RESILIENCE_DATABASE_URL": f"sqlite:///{path / _HISTORY}",
    }
