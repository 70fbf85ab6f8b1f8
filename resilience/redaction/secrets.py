"""Keys, tokens, passwords and credentials: the rules that are never switched off."""

from __future__ import annotations

from typing import Final

from resilience.redaction import key_formats, named_secrets
from resilience.redaction.spans import Span

_BY_LITERAL: Final = tuple((rule.literal, rule) for rule in (*key_formats.RULES, *named_secrets.RULES))


def spans(text: str) -> list[Span]:
    """Where *text* holds a key, a token, a password or credentials."""
    lowered = _lowered(text)
    found: list[Span] = []
    for literal, rule in _BY_LITERAL:
        if literal in lowered:
            found += rule.spans(text, lowered)
    return found


def _lowered(text: str) -> str:
    """Lower case with every character in its place: a few, such as the Turkish dotted I, would become two."""
    lowered = text.lower()
    return (
        lowered
        if len(lowered) == len(text)
        else "".join(char.lower() if char.isascii() else char for char in text)
    )
