"""Generates the co-scientist's BAML client at run time, once per machine, baml-py version and set of sources.

A generated client works with one minor version of baml-py only, so none is shipped. Generated clients are kept in a
cache that several processes may fill at the same time: each builds in a private folder, and the rename that publishes
the folder succeeds for one of them.

This module does not import `baml_py`: a process that has loaded the BAML runtime must not fork (BoundaryML/baml#2776),
and the parent of a fleet forks. Generation runs in a child process.
"""

from __future__ import annotations

import atexit
import hashlib
import importlib
import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType

from resilience.errors import ConfigurationError, MissingClientError

_PACKAGED = Path(__file__).parent / "baml_src"
_CHECKOUT = Path(__file__).parents[2] / "baml_src"

_CLI = "import sys, baml_py; sys.argv = ['baml-cli', 'generate', '--from', sys.argv[1]]; sys.exit(baml_py.invoke_runtime_cli())"
_CLI_SECONDS = 120
_CLI_DECORATION = re.compile(r"^(?:\S+ \[BAML ERROR\] |Error: )")

_GENERATOR = re.compile(r"^generator\s+\w+\s*\{.*?^\}", re.MULTILINE | re.DOTALL)
_VERSION = re.compile(r'^([ \t]*version[ \t]+)"[^"]*"', re.MULTILINE)
_OUTPUT_DIR = re.compile(r'^([ \t]*output_dir[ \t]+)"[^"]*"', re.MULTILINE)


def generate(source: Path | None = None, *, into: Path | None = None) -> Path:
    """Generate a client for the installed baml-py, unless the cache has it; return its folder.

    Args:
        source: a folder of `.baml` files; the co-scientist's, from the wheel or the checkout, when not given.
        into: the cache of generated clients; `$XDG_CACHE_HOME/resilience/baml` (`~/.cache/resilience/baml`) when not
            given. A cache that cannot be written is replaced by a folder that is removed when this process exits.

    Returns:
        The folder to put on `sys.path`; it contains the package `baml_client`.

    Raises:
        ConfigurationError: the sources are missing or do not compile, or baml-py is not installed.
    """
    version = _installed_version()
    sources = _read(source or (_PACKAGED if _PACKAGED.is_dir() else _CHECKOUT), version)
    target = _writable(into or _cache()) / _key(version, sources)
    if not _is_complete(target):
        _build(sources, target)
    return target


def load(path: Path | None = None) -> ModuleType:
    """Import `baml_client.async_client`, whose attribute `b` is the client.

    Call it in the process that makes the calls, after any fork.

    Args:
        path: what `generate` returned; it is called when not given.

    Raises:
        ConfigurationError: as `generate`, or another `baml_client` is already imported in this process.
    """
    path = path or generate()
    # Python keeps one module per name: a second client in this process would silently be the first.
    imported = sys.modules.get("baml_client")
    if imported is None:
        sys.path.insert(0, str(path))
        importlib.invalidate_caches()
    elif (other := Path(str(imported.__file__)).parents[1].resolve()) != path.resolve():
        msg = f"another baml_client is already imported from {other}: run this in a process of its own"
        raise ConfigurationError(msg)
    return importlib.import_module("baml_client.async_client")


def _installed_version() -> str:
    try:
        return importlib.metadata.version("baml-py")
    except importlib.metadata.PackageNotFoundError:
        msg = "baml-py is not installed here: pip install baml-py"
        raise MissingClientError(msg) from None


def _read(folder: Path, version: str) -> dict[str, str]:
    """Read the sources by relative name; their generators are set to *version* and to the folder beside them."""
    sources = {
        str(file.relative_to(folder)): file.read_text("utf-8") for file in sorted(folder.rglob("*.baml"))
    }
    if not sources:
        msg = f"no .baml files in {folder}: give the folder of your baml_src"
        raise ConfigurationError(msg)
    return {name: _retarget(text, version) for name, text in sources.items()}


def _retarget(text: str, version: str) -> str:
    def retarget_block(block: re.Match[str]) -> str:
        return _OUTPUT_DIR.sub(r'\1".."', _VERSION.sub(rf'\1"{version}"', block[0]))

    return _GENERATOR.sub(retarget_block, text)


def _cache() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "resilience" / "baml"


def _writable(cache: Path) -> Path:
    """Return *cache*, or a private folder removed at exit if it cannot be written."""
    try:
        cache.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=cache):
            return cache
    except OSError:
        # Never a guessable name in the shared /tmp: another user could put code there, and it would be imported.
        private = Path(tempfile.mkdtemp(prefix="resilience-baml-"))
        atexit.register(shutil.rmtree, private, ignore_errors=True)
        return private


def _key(version: str, sources: Mapping[str, str]) -> str:
    # The sources as they will be generated: a changed prompt or another baml-py is another client.
    digest = hashlib.sha256()
    for name, text in sources.items():
        digest.update(f"{name}\0{text}\0".encode())
    return f"{version}-{digest.hexdigest()[:16]}"


def _is_complete(folder: Path) -> bool:
    return (folder / "baml_client" / "async_client.py").is_file()


def _build(sources: Mapping[str, str], target: Path) -> None:
    """Generate beside *target* and publish by rename; a process that comes second uses the first one's client."""
    with tempfile.TemporaryDirectory(
        dir=target.parent, prefix=".building-", ignore_cleanup_errors=True
    ) as scratch:
        draft = Path(scratch) / "client"
        for name, text in sources.items():
            file = draft / "baml_src" / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, "utf-8")
        _run_cli(draft / "baml_src")
        if not _is_complete(draft):
            msg = 'baml-cli generated no Python client: the sources need a `generator` with output_type "python/pydantic"'
            raise ConfigurationError(msg)
        _publish(draft, target)


def _publish(draft: Path, target: Path) -> None:
    try:
        # Atomic within one file system. It fails if *target* is a folder with files: another process was first.
        draft.rename(target)
    except OSError as exc:
        if _is_complete(target):
            return
        msg = f"the cache at {target} is damaged ({exc.strerror}): delete that folder and start again"
        raise ConfigurationError(msg) from exc


def _run_cli(baml_src: Path) -> None:
    """Run `baml-cli generate` through the Python package, which needs no script on the PATH."""
    # -P keeps a folder called baml_py in the working directory from being imported instead.
    result = subprocess.run(  # noqa: S603 - our own interpreter, our own arguments
        [sys.executable, "-P", "-c", _CLI, str(baml_src)],
        env={**os.environ, "BAML_LOG": "error", "RUST_BACKTRACE": "0"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=_CLI_SECONDS,
        check=False,
    )
    if result.returncode != 0:
        msg = f"baml-cli could not generate the client: {_first_error(result)}; correct the .baml sources, or `pip install -U baml-py`"
        raise ConfigurationError(msg)


def _first_error(result: subprocess.CompletedProcess[str]) -> str:
    """Return the line that names the mistake: BAML prints `error: ...` below a headline without details."""
    lines = [
        line.strip() for line in (*result.stdout.splitlines(), *result.stderr.splitlines()) if line.strip()
    ]
    errors = (line.removeprefix("error: ") for line in lines if line.startswith("error: "))
    return next(errors, "") or (
        _CLI_DECORATION.sub("", lines[0]) if lines else f"exit status {result.returncode}"
    )
