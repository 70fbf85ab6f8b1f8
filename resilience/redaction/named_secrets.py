"""Values with a secret name, in every notation: `name=value`, `"name": "value"`, `--name value`, ...

Keys without a format of their own (Mistral, Cohere, older keys of Azure, secret keys of AWS) are found by their name only.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from resilience.redaction.names import KEYS, SHORT_WORDS
from resilience.redaction.rule import LazyPattern, RedactionRule
from resilience.redaction.spans import NOT_WITHIN

MASK: Final = "[secret]"
"""The replacement of a value with a secret name."""

# --- between a name and its value ----------------------------------------------------------------------------------------

_BACKSLASHES: Final = r"\\{0,7}"
"""The backslashes before a quote in JSON within JSON, up to three levels."""
# A quote, or the bracket of `auth[token]=...`, in which forms and queries nest names.
_CLOSED: Final = rf"""{_BACKSLASHES}["'`]?(?:\]|%5D)?"""
# `=`, `=>`, `:`, `:=`; a comma before a quoted value, as in a tuple of Python; or the end of an XML tag.
_SEPARATOR: Final = (
    rf"""(?:{_CLOSED}\s{{0,8}}(?:=>?|:=?|,(?=\s{{0,8}}b?{_BACKSLASHES}["']))\s{{0,64}}|>(?=[^\s<>=]))"""
)
# At least 16 characters, with a digit and a letter: a key rather than a word. A look-ahead, so nothing is consumed.
_KEYLIKE: Final = r"(?=[(\"'`\\]{0,4}[\w+~/-]{16})(?=[^\s\d]{0,64}\d)(?=[^\sA-Za-z]{0,64}[A-Za-z])"
# Words such as `secret` and `token` are common in sentences. Without a separator, the value must look like a key.
_OR_KEYLIKE: Final = rf"(?:{_SEPARATOR}|\s{{1,8}}(?:(?:is|was)\s{{1,8}})?{_KEYLIKE})"
_OR_QUOTED: Final = (
    rf"""(?:{_SEPARATOR}|\s{{1,8}}(?={_BACKSLASHES}["'`])|\s{{1,8}}(?:(?:is|was)\s{{1,8}})?{_KEYLIKE})"""
)
# What is said of a password in general, so that "is" stands before no value.
_ADJECTIVE: Final = (
    r"(?!(?:(?:in)?correct|(?:in)?valid|required|needed|mandatory|optional|wrong|missing|empty|blank|unset|set|weak|expired|not|no|too"
    r"|never|always|being|been|a|an|the|in|on|at|of|for|to|by|from|with|case|only|also|already|still|changed|reset|stored|sent|used"
    r"|disabled|enabled|deprecated|unknown|different|longer|shorter|allowed|supported|provided|configured|encrypted|hashed|masked)\b)"
)
# After `password`, "is" and "was" are enough: passwords have no look of their own.
_OR_SAID: Final = rf"""(?:{_SEPARATOR}|\s{{1,8}}(?:is|was)\s{{1,8}}{_ADJECTIVE}|\s{{1,8}}{_KEYLIKE})"""

# --- the value -----------------------------------------------------------------------------------------------------------

_PLAIN: Final = r"[^\s\"'`\\&,;<>()\[\]{}]"
_WITHIN: Final = (
    r"(?:[\"'`&,;<>()\[\]{}]{1,3}(?=[\w$#@!%^*+=/~-])(?![\w.-]{1,40}[\"']?\s?[=:])|\\(?![bfnrtux\"'\\/]))"
)
"""Punctuation inside a password; not a separator before the next name."""
_WORD: Final = rf"{_PLAIN}+(?:{_WITHIN}{_PLAIN}+)*"
# The scheme of an `Authorization` header is masked together with its value.
_SCHEME: Final = r"(?:(?:bearer|basic|digest|token|apikey|key)\s{1,8})?"
# A mark that stands there already is no value: redacting a text twice changes nothing.
_MARKED: Final = r"(?!\[(?:key|token|pem|credentials|secret)\])"


def _value(bare: str) -> str:
    # One alternative for each notation of a value. Only the group that matched is masked: the quotes around it stay.
    return (
        r"(?:b?(?:"
        r'"(?P<double>(?:[^"\\\n]|\\.)+)'
        r"|'(?P<single>(?:[^'\\\n]|\\.)+)"
        r"|`(?P<ticked>[^`\n]+)"
        r"""|\\{1,7}["'](?P<escaped>[^"'\\\n]+))"""
        rf"|(?P<several>{_MARKED}[\[({{][^\])}}\n]+[\])}}]?)"
        rf"|(?P<bare>{bare}))"
    )


_VALUE: Final = _value(_SCHEME + _WORD)
_PARAMETERS: Final = rf"{_WORD}(?:[\"']?,\s{{0,8}}[\w-]{{1,40}}=[\"']?{_WORD})*"
_CREDENTIALS: Final = _value(rf"(?:[A-Za-z][\w-]{{1,19}}\s{{1,8}}{_PARAMETERS}|{_WORD})")
"""The value of an `Authorization` header: any scheme, with the parameters that some schemes list."""
_LINE: Final = r"""["'\\]{0,4}(?P<bare>[^"'\\\n]+)"""


def _named(
    literal: str, name: str = "", *, value: str = _VALUE, separator: str = _SEPARATOR
) -> RedactionRule:
    return RedactionRule(MASK, literal, LazyPattern((name or literal) + separator + value, re.IGNORECASE))


def _behind(words: Iterable[str]) -> str:
    """Return a look-behind for one of *words*, with or without a separator after it."""
    return f"(?:{'|'.join(f'(?<={word})|(?<={word}[_ -])' for word in words)})"


_ANY_KEY: Final = (
    rf"(?:{_behind(KEYS)}keys?(?:[_-]?id)?(?:\s(?:provided|supplied|given|used|is|was|value|invalid)){{0,2}}{_OR_QUOTED}"
    rf"|{NOT_WITHIN}key=|keys?{_CLOSED}\s{{0,8}}[=:,]\s{{0,8}}(?=[\"'\\]{{0,8}}[A-Za-z0-9]{{20}})(?=[^\s\d]{{0,64}}\d))"
)
"""A name ending in `key`: of a kind that grants access, in a URL query, or before a value that looks like a key."""


def _short(word: str) -> RedactionRule:
    """Return the rule for a short word: only in `word=...`, `"word": ...` and `x_word: ...`, where it must be a name."""
    name = (
        rf"(?:{NOT_WITHIN}{word}(?:=|{_BACKSLASHES}[\"']\s{{0,8}}:)|(?<=[_-]){word}s?{_CLOSED}\s{{0,8}}[=:])"
    )
    return RedactionRule(MASK, word, LazyPattern(rf"{name}\s{{0,8}}{_VALUE}", re.IGNORECASE))


RULES: Final = (
    _named("key", _ANY_KEY, separator=""),
    _named("pass", r"pass(?:[_-]?(?:words?|phrases?|codes?)|w(?:or)?ds?)", separator=_OR_SAID),
    _named("pwd"),
    _named("secret", r"secrets?", separator=_OR_KEYLIKE),
    _named("token", separator=_OR_KEYLIKE),
    _named("credential", "credentials?"),
    _named("authorization", value=_CREDENTIALS),
    _named("signature", r"signature(?!\s{0,8}[:=]\s{0,8}\()"),  # the signature of a function is none
    # In a query, where Azure Functions take a key and OAuth hands one out. Elsewhere a code is a word or a number.
    _named("code=", r"(?<=[?&])code(?==[\w%.~/+-]{16})"),
    _named("sess", r"sess(?:ion)?(?:[_-]?(?:id|key|token))?"),
    _named("cookie", "cookies?", value=_LINE),
    *map(_short, SHORT_WORDS),
    RedactionRule(
        MASK,
        "--",
        LazyPattern(
            r"--(?!-)(?:[a-z]{1,20}-)?(?:api-?key|token|password|secret|credentials?)\s{1,8}" + _VALUE,
            re.IGNORECASE,
        ),
    ),
)
