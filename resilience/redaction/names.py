"""Names of fields, headers, variables and parameters whose values are secret."""

from __future__ import annotations

import re
from itertools import pairwise
from typing import Final

WORDS: Final = (
    *("authorization", "password", "passwd", "passphrase", "passcode", "pwd", "token", "secret"),
    *("credential", "signature", "cookie", "session", "sessionid", "csrftoken"),
)
"""Words that make a name secret wherever they stand in it."""
SHORT_WORDS: Final = ("auth", "pass", "jwt", "bearer", "otp", "sig", "sid", "csrf", "xsrf")
"""Words that make a name secret, but are ordinary words in a sentence: there they count only in an unmistakable notation."""
KEYS: Final = (
    *("api", "access", "account", "private", "secret", "signing", "encryption", "subscription", "master"),
    *("hash", "auth", "app", "service", "server", "client", "admin", "ssh", "storage", "webhook", "deploy"),
    *("openai", "anthropic", "azure", "google", "gemini", "mistral", "groq", "cohere", "openrouter", "aws"),
)
"""Words that make `key` secret when they stand before it."""

_PARTS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
_NAME_LIMIT: Final = 1024
_COUNT_WORDS: Final = frozenset(
    ["count", "counts", "limit", "type", "usage", "used", "remaining", "reset", "total"]
)
# Not `tokens`: that is a count, as in `max_tokens`.
_PLURALS: Final = frozenset(f"{word}s" for word in WORDS if word != "token")
_SECRET_WORDS: Final = _PLURALS.union(
    WORDS, SHORT_WORDS, (f"{word}key" for word in KEYS), ("ssn",)
)  # in a text, a rule of its own finds the number
_SECRET_PAIRS: Final = frozenset(
    [*((word, key) for word in KEYS for key in ("key", "keys"))]
    + [("pass", word) for word in ("word", "phrase", "code")]
)


def is_secret(name: str) -> bool:
    """Return whether a value with this name must be masked, whatever it is."""
    words = [word.lower() for word in _PARTS.findall(name[:_NAME_LIMIT])]
    if not _SECRET_WORDS.isdisjoint(words):
        return _COUNT_WORDS.isdisjoint(words)
    return not _SECRET_PAIRS.isdisjoint(pairwise(words))
