"""What mends a store that cannot be used: the same words for `doctor`, orders, lists and the status. Pure."""

from __future__ import annotations

from typing import Final

_LOGIN: Final = "give the user and password of the server in the URL"
_FILE: Final = "check that the path is a writable SQLite file on a local disk"
_BY_WORD: Final = {
    "authentication": _LOGIN,
    "noauth": _LOGIN,
    "wrongpass": _LOGIN,
    "noperm": "give the user the rights that docs/operate.md lists under `ACL SETUSER`",
    "readonly": "point the URL at the primary, or use a redis+sentinel:// or redis+cluster:// URL",
    "oom": "give the server more memory; the policy noeviction is right, other applications' keys need a server of their own",
    "database": _FILE,
    "sqlite": _FILE,
}
"""Remedies by a word of the exception's class or message. The first that matches is used: the general words are last."""
_REACH: Final = "start it, and check host, port, TLS and firewall of its URL"


def remedy(exc: BaseException) -> str:
    """Return what mends *exc*, judged by its text: one exception class of a driver stands for many problems."""
    text = f"{type(exc).__name__} {exc}".lower()
    return next((found for word, found in _BY_WORD.items() if word in text), _REACH)
