"""Names that say of a value that it is secret: those of fields, headers, variables and parameters."""

from __future__ import annotations

import re
from itertools import pairwise
from typing import Final

WORDS: Final = (
    *("authorization", "password", "passwd", "passphrase", "passcode", "pwd", "token", "secret"),
    *("credential", "signature", "cookie", "session", "sessionid", "csrftoken"),
)
"""Each says it wherever it stands in a name."""
SHORT_WORDS: Final = ("auth", "pass", "jwt", "bearer", "otp", "sig", "sid", "csrf", "xsrf")
"""Each says it in a name too; in a sentence it says anything, and counts only where it is clear that it names something."""
KEYS: Final = (
    *("api", "access", "account", "private", "secret", "signing", "encryption", "subscription", "master"),
    *("hash", "auth", "app", "service", "server", "client", "admin", "ssh", "storage", "webhook", "deploy"),
    *("openai", "anthropic", "azure", "google", "gemini", "mistral", "groq", "cohere", "openrouter", "aws"),
)
"""A key is one that opens something when one of these stands before it."""

_PARTS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
_LONGEST: Final = 1024
_COUNTING: Final = frozenset(
    ["count", "counts", "limit", "type", "usage", "used", "remaining", "reset", "total"]
)
_MANY: Final = frozenset(f"{word}s" for word in WORDS if word != "token")  # tokens are counted
_ALONE: Final = _MANY.union(
    WORDS, SHORT_WORDS, (f"{word}key" for word in KEYS), ("ssn",)
)  # in a text a number is known by its own rule
_PAIRS: Final = frozenset(
    [*((word, key) for word in KEYS for key in ("key", "keys"))]
    + [("pass", word) for word in ("word", "phrase", "code")]
)


def is_secret(name: str) -> bool:
    """Does a value of this name have to be masked whatever it is?"""
    words = [word.lower() for word in _PARTS.findall(name[:_LONGEST])]
    if not _ALONE.isdisjoint(words):
        return _COUNTING.isdisjoint(words)
    return not _PAIRS.isdisjoint(pairwise(words))
