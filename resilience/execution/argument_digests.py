"""Digests of arguments, by which a process tells its requests apart. A digest is keyed by this process and never leaves it."""

from __future__ import annotations

import functools
import os
import re
from hashlib import blake2b
from typing import Any, Final

_KEY: Final = os.urandom(16)
_ADDRESS: Final = re.compile(r" at 0x[0-9a-fA-F]+")
"""Where an object has no text of its own, its address would make every request a different one."""


def digest_of(function: Any, arguments: tuple[Any, Any]) -> bytes:
    """Return a digest of the arguments of a call. Never raises.

    Args:
        function: what is called; the arguments that a `functools.partial` holds count too.
        arguments: positional and keyword arguments.
    """
    bound = (function.args, function.keywords) if isinstance(function, functools.partial) else ()
    try:
        text = repr((*arguments, bound))
    except Exception:  # noqa: BLE001 - an argument may be of any class; without its text the requests count as one
        text = ""
    return blake2b(_ADDRESS.sub("", text).encode("utf-8", "replace"), key=_KEY, digest_size=16).digest()
