"""What must never be kept: keys, tokens, passwords and personal numbers, found in text and masked.

The laws of this room:

- A rule starts from a literal that `str.find` looks for, and its pattern is tried only there: a text without the literal
  costs one fast scan. Only numbers and IBANs, which have no literal, are looked for by pattern.
- A pattern has bounded repetitions, or ends in the one repetition that eats what it has looked at. Nothing nests.
  Twice the text takes at most twice the time, whoever wrote the text.
- Rules only point at spans, and spans that overlap are masked as one: no rule can uncover what another one covered.
- A long text is cut first, and its last stretch is dropped after masking: half a key at the cut is gone, not shown.
- When in doubt a word is masked. What operators need survives: limits, waits, times, and ids such as `req_...`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

LIMIT = 16_384
"""The longest text looked at, in characters; what lies beyond is dropped."""
OVERLAP = 256
"""What is dropped before the cut, in characters: longer than the shortest form of any rule below."""
CUT = " [cut]"
"""Stands where a long text was cut."""
MASK = "[secret]"
"""Stands for a value whose key says that it is secret."""

_DEPTH = 8
"""How deep a mapping may nest before the rest is left out."""


@dataclass(frozen=True, slots=True)
class _Rule:
    """A literal in lower case, and the pattern tried where it stands. A group `value` narrows what is masked."""

    mark: str
    literal: str
    pattern: re.Pattern[str]


@dataclass(frozen=True, slots=True)
class _Span:
    start: int
    end: int
    mark: str


_SEPARATOR = r"""\\{0,3}["']?\s{0,8}(?:=>?|:|,(?=\s{0,8}\\{0,3}["']))\s{0,8}"""
_VALUE = (
    r"(?:"
    r'"(?P<double>(?:[^"\\\n]|\\.)+)'
    r"|'(?P<single>(?:[^'\\\n]|\\.)+)"
    r"""|\\{1,3}["'](?P<escaped>[^"'\\\n]+)"""
    r"|(?P<bare>(?:(?:bearer|basic|digest|token)\s{1,8})?[^\s\"'\\&,;<>()\[\]{}]+)"
    r")"
)
_LINE = r"""["'\\]{0,4}(?P<bare>[^"'\\\n]+)"""


def _prefixed(literal: str, tail: str, mark: str = "[key]") -> _Rule:
    """A key known by its first letters, which no letter or digit may precede."""
    return _Rule(mark, literal.lower(), re.compile(rf"(?<![A-Za-z0-9]){re.escape(literal)}{tail}"))


def _named(literal: str, name: str | None = None, value: str = _VALUE) -> _Rule:
    """A value behind a name that says it is secret: `name=value`, `"name": "value"`, `('name', 'value')`."""
    return _Rule(MASK, literal, re.compile((name or re.escape(literal)) + _SEPARATOR + value, re.IGNORECASE))


_WORD = r"[A-Za-z0-9_-]"
_RULES = (
    _prefixed(
        "sk-", r"[A-Za-z0-9_*-]{8,}"
    ),  # OpenAI, Anthropic (sk-ant-), OpenRouter (sk-or-), DeepSeek; * as providers echo them
    *(
        _prefixed(start, rf"{_WORD}{{12,}}")
        for start in ("AIza", "gsk_", "xai-", "hf_", "pplx-", "nvapi-", "csk-", "fw_", "r8_")
    ),
    *(
        _prefixed(start, rf"{_WORD}{{12,}}")
        for start in ("ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_", "glpat-")
    ),
    *(
        _prefixed(start, rf"{_WORD}{{8,}}")
        for start in ("sk_live_", "sk_test_", "rk_live_", "pk-lf-", "lsv2_", "tgp_v1_", "npm_")
    ),
    *(_prefixed(start, r"[A-Z0-9]{12,}") for start in ("AKIA", "ASIA")),
    *(_prefixed(start, rf"{_WORD}{{8,}}") for start in ("xoxa-", "xoxb-", "xoxp-", "xoxr-", "xoxs-")),
    _prefixed("ya29.", rf"{_WORD}{{12,}}", "[token]"),
    _prefixed("eyJ", rf"{_WORD}{{8,}}(?:\.{_WORD}*){{0,2}}", "[token]"),
    _Rule(
        "[token]",
        "bearer",
        re.compile(r"(?<![a-z0-9])bearer\s{1,8}(?P<bare>[\w.~+/=:|*-]{8,})", re.IGNORECASE),
    ),
    _Rule(
        "[token]",
        "basic",
        re.compile(r"(?<![a-z0-9])basic\s{1,8}(?P<bare>[a-z0-9+/]{12,}={0,2})", re.IGNORECASE),
    ),
    _Rule(
        "[pem]",
        "-----begin ",
        re.compile(r"-----BEGIN [A-Z0-9 ]{1,40}-----.*?(?:-----END [A-Z0-9 ]{1,40}-----|\Z)", re.DOTALL),
    ),
    _Rule("[credentials]", "://", re.compile(r"://(?P<bare>[^\s/?#\"'<>\\]{1,512})@")),
    _named("api", r"api[_ -]{0,2}key"),
    *(_named(name, rf"{name}(?:d|word|phrase)?") for name in ("passw", "passphrase", "pwd")),
    _named("password"),
    _named("secret", r"secret(?:[_-]?(?:access[_-]?)?key)?"),
    _named("token"),
    _named("credential", "credentials?"),
    _named("authorization"),
    _named("signature"),
    _named("private", r"private[_-]?key(?:[_-]id)?"),
    _named("access", r"access[_-]?key(?:[_-]id)?"),
    _named("session", r"session(?:[_-]?(?:id|key|token))?"),
    _named("cookie", value=_LINE),
    _Rule(
        MASK,
        "key=",
        re.compile(r"(?<![a-z0-9])key=[\"']?(?P<bare>[^\s\"'\\&,;<>()\[\]{}]+)", re.IGNORECASE),
    ),
)

_BY_LITERAL = tuple((rule.literal, rule) for rule in _RULES)

_MARK = re.compile(r"\[(?:key|token|pem|credentials|secret|email|phone|card|iban|ssn)\]")
_LOCAL_PART = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.!#$%&*+/=?^_`{|}~-"
_DOMAIN = re.compile(r"[\w-]{1,63}(?:\.[\w-]{1,63}){1,8}")
_DIGITS = re.compile(r"\d[\d ().-]{7,}")
_SSN = re.compile(r"(?<![\w-])(?!000|666|9)\d{3}([ -])(?!00)\d\d\1(?!0000)\d{4}(?![\w-])")
_CARD = re.compile(r"(?<!\w)(?:\d{13,19}|\d{4}([ -])\d{4}\1\d{4}\1\d{4}|\d{4}([ -])\d{6}\2\d{5})(?!\w)")
_PHONE = re.compile(
    r"(?<![\w.])(?:\+[1-9](?:[ ().-]{0,2}\d){7,14}|(?:1[ .-])?(?:\(\d{3}\) ?|\d{3}[ .-])\d{3}[ .-]\d{4})(?!\w)"
)
_IBAN = re.compile(r"(?<![A-Za-z0-9])[A-Za-z]{2}\d\d(?: ?[A-Za-z0-9]){11,30}")
_IBAN_REGISTRY = (  # SWIFT IBAN registry, release 99: country and length
    "AD24 AE23 AL28 AT20 AZ28 BA20 BE16 BG22 BH22 BI27 BR29 BY28 CH21 CR22 CY28 CZ24 DE22 DJ27 DK18 DO28 EE20 EG29 ES24 FI18 FK18 FO18 "
    "FR27 GB22 GE22 GI23 GL18 GR27 GT28 HN28 HR21 HU28 IE22 IL23 IQ23 IS26 IT27 JO30 KW30 KZ20 LB28 LC32 LI21 LT20 LU20 LV21 LY25 MC27 "
    "MD24 ME22 MK19 MN20 MR27 MT31 MU30 NI28 NL18 NO15 OM23 PK24 PL28 PS29 PT25 QA29 RO24 RS22 RU33 SA24 SC31 SD18 SE24 SI19 SK24 SM27 "
    "SO23 ST25 SV28 TL23 TN24 TR26 UA29 VA22 VG24 XK20 YE30"
)
_IBAN_LENGTHS = {entry[:2]: int(entry[2:]) for entry in _IBAN_REGISTRY.split()}


def redact(text: str) -> str:
    """Mask every key, token, password, e-mail, phone, card, IBAN and US social security number in *text*.

    Masks say what they cover: `[key]`, `[token]`, `[pem]`, `[credentials]`, `[secret]`, `[email]`, `[phone]`, `[card]`,
    `[iban]`, `[ssn]`. Of a text longer than 16 384 characters the beginning is kept, ending in ` [cut]`.
    Phone numbers are known by a `+` and country code, or by the North American form; cards by Luhn's check, IBANs by theirs.
    """
    if len(text) <= LIMIT:
        return _masked(text)
    return _masked(text[: LIMIT + OVERLAP])[:-OVERLAP][:LIMIT] + CUT


def redact_mapping(mapping: Mapping[Any, Any]) -> dict[str, Any]:
    """Copy *mapping* with every secret masked, however deep.

    A value under a name such as `authorization`, `api_key`, `x-api-key`, `password`, `accessToken`, `cookie`, `session` or
    `secret` becomes `[secret]`, counts of tokens stay. Other texts pass `redact`. A value that is no plain value (an
    exception, a client, bytes) becomes its type's name: its own text may hold a prompt or a key.
    """
    return _mapping(mapping, _DEPTH)


def _masked(text: str) -> str:
    spans = sorted(_spans(text), key=lambda span: (span.start, -span.end))
    if not spans:
        return text
    parts: list[str] = []
    done = 0
    for span in spans:
        if span.start >= done:
            parts += text[done : span.start], span.mark
        done = max(done, span.end)
    parts.append(text[done:])
    return "".join(parts)


def _spans(text: str) -> list[_Span]:
    lowered = _lowered(text)
    spans: list[_Span] = []
    for literal, rule in _BY_LITERAL:
        if literal in lowered:
            spans += _matches(rule, text, lowered)
    if "@" in text:
        spans += _emails(text, after_credentials={span.end for span in spans})
    for run in _DIGITS.finditer(text):
        spans += _numbers(text, max(0, run.start() - 2), run.end())
    spans += _ibans(text)
    return spans


def _lowered(text: str) -> str:
    """Lower case with every character in its place: a few, such as the Turkish dotted I, would become two."""
    lowered = text.lower()
    return (
        lowered
        if len(lowered) == len(text)
        else "".join(char.lower() if char.isascii() else char for char in text)
    )


def _matches(rule: _Rule, text: str, lowered: str) -> Iterator[_Span]:
    at = lowered.find(rule.literal)
    while at >= 0:
        match = rule.pattern.match(text, at)
        if match:
            start, end = match.span(match.lastgroup or 0)
            if not _MARK.fullmatch(text, start, end):
                yield _Span(start, end, rule.mark)
        at = lowered.find(rule.literal, match.end() if match else at + 1)


def _emails(text: str, after_credentials: set[int]) -> Iterator[_Span]:
    at = text.find("@")
    while at >= 0:
        before = text[max(0, at - 64) : at]
        start = at - len(before) + len(before.rstrip(_LOCAL_PART))
        domain = _DOMAIN.match(text, at + 1) if start < at and at not in after_credentials else None
        if domain:
            yield _Span(start, domain.end(), "[email]")
        at = text.find("@", domain.end() if domain else at + 1)


def _numbers(text: str, start: int, end: int) -> Iterator[_Span]:
    for match in _SSN.finditer(text, start, end):
        yield _Span(*match.span(), "[ssn]")
    for match in _PHONE.finditer(text, start, end):
        yield _Span(*match.span(), "[phone]")
    card = _CARD.search(text, start, end)
    while card:
        if _luhn(card.group()):
            yield _Span(*card.span(), "[card]")
        card = _CARD.search(text, card.start() + 1, end)


def _luhn(number: str) -> bool:
    """Luhn's check, ISO/IEC 7812-1: from the right, every second digit doubled, the sum of digits ends in 0."""
    digits = [int(char) for char in reversed(number) if char.isdigit()]
    return sum(digits[::2] + [sum(divmod(2 * digit, 10)) for digit in digits[1::2]]) % 10 == 0


def _ibans(text: str) -> Iterator[_Span]:
    for match in _IBAN.finditer(text):
        length = _IBAN_LENGTHS.get(match.group()[:2].upper(), 0)
        end, seen = match.start(), 0
        while seen < length and end < match.end():
            seen += text[end] != " "
            end += 1
        if length and seen == length and _iban_checks(text[match.start() : end]):
            yield _Span(match.start(), end, "[iban]")


def _iban_checks(iban: str) -> bool:
    """ISO 13616: the first four moved to the end, letters as numbers from 10, the rest by 97 is 1."""
    compact = iban.replace(" ", "").upper()
    return int("".join(str(int(char, 36)) for char in compact[4:] + compact[:4])) % 97 == 1


_WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
_SECRET_WORDS = frozenset(
    [
        "authorization",
        "apikey",
        "password",
        "passwd",
        "passphrase",
        "passcode",
        "pwd",
        "token",
        "cookie",
        "cookies",
        "session",
        "secret",
        "secrets",
        "credential",
        "credentials",
        "jwt",
        "bearer",
        "signature",
        "sessionid",
        "csrf",
        "xsrf",
    ]
)
_SECRET_PAIRS = frozenset(
    {
        ("api", "key"),
        ("access", "key"),
        ("private", "key"),
        ("secret", "key"),
        ("pass", "word"),
        ("pass", "phrase"),
    }
)
_COUNTING_WORDS = frozenset(
    ["count", "counts", "limit", "type", "usage", "used", "remaining", "reset", "total"]
)


def _is_secret(name: str) -> bool:
    words = [word.lower() for word in _WORDS.findall(name[:OVERLAP])]
    if not _SECRET_WORDS.isdisjoint(words):
        return _COUNTING_WORDS.isdisjoint(words)
    return any(pair in _SECRET_PAIRS for pair in pairwise(words))


def _mapping(mapping: Mapping[Any, Any], depth: int) -> dict[str, Any]:
    return {
        redact(str(name)): MASK if _is_secret(str(name)) else _plain(value, depth)
        for name, value in mapping.items()
    }


def _plain(value: Any, depth: int) -> Any:
    if isinstance(value, str):
        return redact(value)
    if value is None or isinstance(value, (bool, int, float)):
        return value
    if depth and isinstance(value, Mapping):
        return _mapping(value, depth - 1)
    if depth and isinstance(value, (list, tuple, set, frozenset)):
        return [_plain(item, depth - 1) for item in value]
    return f"[{type(value).__name__}]"
