"""A random key that all processes of a project share: a file only its owner can read, made by whoever comes first."""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import tempfile
from pathlib import Path
from typing import Final

NAME: Final = "hash.key"
"""The file's name in the project's folder."""

_BYTES: Final = 32
_log = logging.getLogger("resilience")


def shared_key(path: Path) -> bytes:
    """The key in the file at *path*, which is made where it is missing.

    Where it can neither be read nor made the key is a random one of this process, with one warning: hashes then match
    within this process alone.
    """
    try:
        key = _read(path)
        if key is None:
            _publish(path)
            key = _read(path)
    except OSError as exc:
        return _own(path, exc.strerror or type(exc).__name__)
    return key or _own(path, "it holds no key")


def _read(path: Path) -> bytes | None:
    """The key; None where there is no file. A file that was cut short or written by hand holds none (b"")."""
    try:
        text = path.read_text("ascii", "replace").strip()
    except FileNotFoundError:
        return None
    try:
        key = bytes.fromhex(text)
    except ValueError:
        return b""
    return key if len(key) == _BYTES else b""


def _publish(path: Path) -> None:
    """Write a new key beside *path* and link it there: others see all of it or nothing, and the first one stays."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    file, draft = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")  # mode 0600
    try:
        with os.fdopen(file, "w", encoding="ascii") as stream:
            stream.write(secrets.token_hex(_BYTES) + "\n")
        with contextlib.suppress(FileExistsError):
            os.link(draft, path)
    finally:
        Path(draft).unlink()


def _own(path: Path, why: str) -> bytes:
    _log.warning(
        "hashes match within this process alone: the key file %s cannot be used (%s); make it readable, delete it if it is "
        "damaged, or set RESILIENCE_HASH_KEY",
        path,
        why,
    )
    return secrets.token_bytes(_BYTES)
