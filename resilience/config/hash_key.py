"""The random hash key that all processes of a project share: a file that only its owner can read, made by the first process.

Without it level `hashed` would need a setting before it is of any use: hashes of two processes would never match.
"""

from __future__ import annotations

import contextlib
import logging
import os
from pathlib import Path
from typing import Final

from resilience import file_trust

NAME: Final = "hash.key"
"""The file's name in the project's folder."""

_BYTES: Final = 32
_MOST_CHARACTERS: Final = 256
"""More than a key has; the file may be anything."""
_log = logging.getLogger("resilience")


def shared_key(path: Path) -> bytes:
    """Return the key in the file at *path*, and create the file if it is missing.

    If the file can be neither read nor created, or another user could know it, the key is a random one of this process, and one warning is logged: hashes then
    match within this process only.
    """
    try:
        key = _read(path)
        if key is None:
            _create(path)
            key = _read(path)  # the file of another process, if that was first
    except OSError as exc:
        return _process_key(path, exc.strerror or type(exc).__name__)
    return key or _process_key(path, "it holds no key")


def _read(path: Path) -> bytes | None:
    """Return the key, None without a file, or b"" for a file that was cut short or edited."""
    try:
        file = file_trust.open_file(path, os.O_RDONLY)
    except FileNotFoundError:
        return None
    with os.fdopen(file, encoding="ascii", errors="replace") as stream:
        text = stream.read(_MOST_CHARACTERS).strip()
    try:
        key = bytes.fromhex(text)
    except ValueError:
        return b""
    return key if len(key) == _BYTES else b""


def _create(path: Path) -> None:
    """Create the file with a new key, unless another process has just done so."""
    import tempfile  # noqa: PLC0415 - a project does this once

    file_trust.make_folder(path.parent)
    file, draft = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")  # mode 0600
    try:
        with os.fdopen(file, "w", encoding="ascii") as stream:
            stream.write(os.urandom(_BYTES).hex() + "\n")
        # A link, not a rename: it appears with all its content, and fails if the file exists. Of several processes that start
        # together the first one's key stays, and none ever reads half a key.
        with contextlib.suppress(FileExistsError):
            os.link(draft, path)
    finally:
        Path(draft).unlink()


def _process_key(path: Path, why: str) -> bytes:
    _log.warning(
        "hashes match within this process alone: the key file %s cannot be used (%s); make it readable, delete it if it is "
        "damaged, or set RESILIENCE_HASH_KEY",
        path,
        why,
    )
    return os.urandom(_BYTES)
