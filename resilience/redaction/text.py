"""Redact a text of any length with the built-in rules: cut first, then mask all spans at once."""

from __future__ import annotations

from collections.abc import Callable
from itertools import compress
from typing import Final

from resilience.redaction import key_formats, known_values, named_secrets, personal
from resilience.redaction.named_secrets import MASK
from resilience.redaction.spans import Span, mask
from resilience.redaction.unescape import Unescaped

__all__ = [
    "CUT",
    "LIMIT",
    "MASK",
    "MESSAGE_LIMIT",
    "OVERLAP",
    "cut",
    "redact",
    "redact_secrets",
    "redact_whole",
]

MESSAGE_LIMIT: Final = 300
"""Characters of a message or another short text in a record. The column `error_groups.title` has this width."""
LIMIT: Final = 16_384
"""Characters of the longest text that is searched; the rest is dropped."""
OVERLAP: Final = 1024
"""Characters beyond the cut that are searched and then dropped: more than the shortest form of any secret."""
CUT: Final = " [cut]"
"""The end of a text that was cut."""
_SECRET_RULES: Final = (*key_formats.RULES, *named_secrets.RULES)
"""The rules for keys, tokens, passwords and credentials, which are never switched off."""
_LITERALS: Final = tuple(rule.literal for rule in _SECRET_RULES)


def redact(text: str) -> str:
    """Mask every key, token, password, e-mail, phone, card, IBAN and US social security number in *text*.

    The masks tell what they cover: `[key]`, `[token]`, `[pem]`, `[credentials]`, `[secret]`, `[email]`, `[phone]`, `[card]`,
    `[iban]`, `[ssn]`. Phone numbers are recognised with `+` and country code, or in the North American form; cards by
    Luhn's check, IBANs by their check digits.

    Args:
        text: a text of any length. Of one longer than 16 384 characters the beginning is returned, ending in ` [cut]`.
    """
    return cut(text, LIMIT, redact_whole)


def redact_secrets(text: str) -> str:
    """Mask keys, tokens, passwords and credentials in the whole of *text*, and no personal numbers."""
    return _masked(text, _secrets)


def redact_whole(text: str) -> str:
    """Mask as `redact`, without cutting. The time it takes is in proportion to the length."""
    return _masked(text, _secrets_and_personal)


def cut(text: str, limit: int, rule: Callable[[str], str]) -> str:
    """Return the first *limit* characters of *text* after *rule*, and ` [cut]` if there were more.

    The rule also sees the `OVERLAP` characters behind the limit, so that it recognises a secret at the cut.
    """
    if len(text) <= limit:
        return rule(text)
    return rule(text[: limit + OVERLAP])[:-OVERLAP][:limit] + CUT


def _secrets(text: str) -> list[Span]:
    lowered = _lowered(text)
    spans = list(known_values.spans(text, lowered))
    for rule in compress(_SECRET_RULES, map(lowered.__contains__, _LITERALS)):
        spans += rule.spans(text, lowered)
    return spans


def _secrets_and_personal(text: str) -> list[Span]:
    spans = _secrets(text)
    return [*spans, *personal.spans(text, {span.end for span in spans})]


def _masked(text: str, rules: Callable[[str], list[Span]]) -> str:
    unescaped = Unescaped(text)
    spans = rules(text)
    if unescaped.text is not None:
        spans += unescaped.original_spans(rules(unescaped.text))
    return mask(text, spans)


def _lowered(text: str) -> str:
    """Return *text* in lower case, with every character at its place."""
    lowered = text.lower()
    if len(lowered) == len(text):
        return lowered
    # A few characters, such as the Turkish dotted I, become two in lower case. The literals of the rules are ASCII.
    return "".join(char.lower() if char.isascii() else char for char in text)
