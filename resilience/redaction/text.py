"""Redacts a text of any length: cut first, masked whole."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from resilience.redaction import personal, secrets
from resilience.redaction.named_secrets import MASK
from resilience.redaction.spans import Span, mask
from resilience.redaction.unescape import Plain

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
"""The longest text looked at, in characters; what lies beyond is dropped."""
OVERLAP: Final = 1024
"""What is looked at beyond the cut and then dropped, in characters: longer than the shortest form of any rule."""
CUT: Final = " [cut]"
"""Stands where a long text was cut."""


def redact(text: str) -> str:
    """Mask every key, token, password, e-mail, phone, card, IBAN and US social security number in *text*.

    Masks say what they cover: `[key]`, `[token]`, `[pem]`, `[credentials]`, `[secret]`, `[email]`, `[phone]`, `[card]`,
    `[iban]`, `[ssn]`. Of a text longer than 16 384 characters the beginning is kept, ending in ` [cut]`.
    Phone numbers are known by a `+` and country code, or by the North American form; cards by Luhn's check, IBANs by theirs.
    """
    return cut(text, LIMIT, redact_whole)


def redact_secrets(text: str) -> str:
    """Mask keys, tokens, passwords and credentials alone, in the whole of *text*."""
    return _masked(text, secrets.spans)


def cut(text: str, limit: int, rule: Callable[[str], str]) -> str:
    """The first *limit* characters of *text* after *rule*, which sees beyond the cut; ` [cut]` where there was more."""
    if len(text) <= limit:
        return rule(text)
    return rule(text[: limit + OVERLAP])[:-OVERLAP][:limit] + CUT


def redact_whole(text: str) -> str:
    """As `redact`, however long *text* is; the time it takes is in proportion to the length."""
    return _masked(text, _all)


def _all(text: str) -> list[Span]:
    found = secrets.spans(text)
    return [*found, *personal.spans(text, {span.end for span in found})]


def _masked(text: str, rules: Callable[[str], list[Span]]) -> str:
    plain = Plain(text)
    found = rules(text)
    if plain.text is not None:
        found += plain.back(rules(plain.text))
    return mask(text, found)
