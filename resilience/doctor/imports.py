"""What the modules of a project import while they load, read from their source. Nothing of the project is run.

An import inside of a function runs when the function is called, so it is none of those; neither is one for type checkers alone. Names
are resolved in the project's folder and in `src` below it, as an installed or a started program finds its own modules.
"""

from __future__ import annotations

import ast
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

_MAX_FILES: Final = 2_000
_MAX_BYTES: Final = 1_000_000
"""Limits for a folder that is no project: a home folder, a root."""
_NO_SOURCES: Final = frozenset({"node_modules", "site-packages", "venv", "env", "build", "dist"})
_CLIENT: Final = "baml_client"
_SYNC_MODULE: Final = "sync_client"
_ASYNC_DEFAULT: Final = "from .async_client import b"
"""In the `__init__` of a generated package: its `b` is the client of async calls."""


class ProjectSources:
    """The Python files below *directory*, without environments and generated clients.

    Args:
        directory: the folder of the project.

    Attributes:
        settings: the text of the files that import Celery, without spaces.
    """

    def __init__(self, directory: Path) -> None:
        files = list(_files(directory))
        self._directory = directory
        self._modules = [path for path in files if path.parent.name != _CLIENT]
        # Only what imports Celery is parsed, and what that imports: a project may have thousands of files.
        self._imports: dict[Path, frozenset[str]] = {}
        is_async = any(_ASYNC_DEFAULT in _text(path) for path in files if path.parent.name == _CLIENT)
        self._blocking = {_SYNC_MODULE} if is_async else {_SYNC_MODULE, "b"}
        # A module may be imported from the project's folder or from `src` in it.
        self._paths = {
            name: path
            for path in self._modules
            for root in (directory / "src", directory)
            for name in _names(path, root)
        }
        self.settings = "".join(_text(path) for path in self.importing("celery")).replace(" ", "")

    def importing(self, package: str) -> Iterator[Path]:
        """Yield the files that import *package* as they load."""
        for path in self._modules:
            if package in _text(path) and any(
                name.partition(".")[0] == package for name in self._imports_of(path)
            ):
                yield path

    def _imports_of(self, path: Path) -> frozenset[str]:
        if path not in self._imports:
            self._imports[path] = _imports(path, self._directory)
        return self._imports[path]

    def importer_of_client(self, path: Path) -> Path | None:
        """Return the file that imports a blocking BAML client when *path* is loaded: itself, or one that it imports.

        Args:
            path: a file of the project.

        Returns:
            The first one that is found; None if loading *path* imports no such client.
        """
        seen, pending = {path}, [path]
        while pending:
            current = pending.pop()
            names = self._imports_of(current)
            if any(_member_of_client(name) in self._blocking for name in names):
                return current
            found = {self._paths[name] for name in names if name in self._paths} - seen
            seen |= found
            pending += sorted(found)
        return None


def generated_clients(directory: Path) -> list[Path]:
    """Return the folders below *directory* from which a generated client can be imported as `baml_client`, the nearest first.

    Args:
        directory: the folder of the project.
    """
    packages = {
        path.parent
        for path in _files(directory)
        if path.parent.name == _CLIENT and path.with_name("async_client.py").is_file()
    }
    # A package may be inside of another of its name. `import baml_client` finds the outer one.
    roots = {_above(package) for package in packages}
    return sorted(roots, key=lambda folder: (len(folder.parts), folder))


def _above(package: Path) -> Path:
    while package.name == _CLIENT:
        package = package.parent
    return package


def _member_of_client(name: str) -> str:
    """Return what *name* is of a generated package: `sync_client`, `b`, `types`, or nothing."""
    # A generated package may be inside of another, of the same name too.
    return f".{name}".rpartition(f".{_CLIENT}.")[2].partition(".")[0] if f".{_CLIENT}." in f".{name}" else ""


def _files(directory: Path) -> Iterator[Path]:
    found = 0
    for folder, folders, names in os.walk(directory):
        folders[:] = sorted(name for name in folders if name not in _NO_SOURCES and not name.startswith("."))
        for name in sorted(names):
            is_wanted = name == "__init__.py" if Path(folder).name == _CLIENT else name.endswith(".py")
            if is_wanted and found < _MAX_FILES:
                found += 1
                yield Path(folder, name)


def _names(path: Path, root: Path) -> Iterator[str]:
    """Yield the name under which *path* is imported if *root* is on the import path."""
    if path.is_relative_to(root):
        parts = path.relative_to(root).with_suffix("").parts
        yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file.read(_MAX_BYTES).decode("utf-8", "replace")
    except OSError:
        return ""


def _imports(path: Path, directory: Path) -> frozenset[str]:
    """Return the names that *path* below *directory* imports as it loads. Of `from a import b` these are `a` and `a.b`."""
    try:
        tree = ast.parse(_text(path))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return frozenset()
    package = path.relative_to(directory).parts[:-1]
    return frozenset(name for statement in _at_load(tree.body) for name in _imported(statement, package))


def _at_load(body: Sequence[ast.AST]) -> Iterator[ast.AST]:
    """Yield the statements that run as a module loads: not those of functions, nor those for type checkers alone."""
    for statement in body:
        yield statement
        if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        if isinstance(statement, ast.If) and "TYPE_CHECKING" in ast.unparse(statement.test):
            yield from _at_load(statement.orelse)
            continue
        yield from _at_load(
            [
                child
                for child in ast.iter_child_nodes(statement)
                if isinstance(child, ast.stmt | ast.excepthandler)
            ]
        )


def _imported(statement: ast.AST, package: tuple[str, ...]) -> Iterator[str]:
    if isinstance(statement, ast.Import):
        yield from (alias.name for alias in statement.names)
    elif isinstance(statement, ast.ImportFrom):
        above = package[: len(package) - statement.level + 1] if statement.level else ()
        base = ".".join((*above, *filter(None, [statement.module])))
        yield base
        yield from (f"{base}.{alias.name}" for alias in statement.names)
