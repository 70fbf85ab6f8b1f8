"""Keys, tokens, passwords and credentials: the rules that are never switched off.

The prefixes are those that providers document and that gitleaks and detect-secrets know. Keys without a form of their own
(Mistral, Cohere, Azure's older ones, AWS's secret halves) are known by the name before them.
"""

from __future__ import annotations

import re
import string
from collections.abc import Iterator
from dataclasses import dataclass

from resilience.redaction.spans import NOT_WITHIN, Span

MASK = "[secret]"
"""Stands for a value whose name says that it is secret."""


@dataclass(frozen=True, slots=True)
class _Rule:
    """A literal in lower case, and the pattern tried where it stands, or so many characters *before* it.

    A group of the pattern narrows what is masked; *before* counts letters and digits alone.
    """

    mark: str
    literal: str
    pattern: re.Pattern[str]
    before: int = 0


_SEPARATOR = r"""\\{0,3}["']?\s{0,8}(?:=>?|:|,(?=\s{0,8}\\{0,3}["']))\s{0,8}"""
_OR_QUOTE = rf"""(?:{_SEPARATOR}|\s{{1,8}}(?=\\{{0,3}}["']))"""
_VALUE = (
    r"(?:"
    r'"(?P<double>(?:[^"\\\n]|\\.)+)'
    r"|'(?P<single>(?:[^'\\\n]|\\.)+)"
    r"""|\\{1,3}["'](?P<escaped>[^"'\\\n]+)"""
    r"|(?P<bare>(?:(?:bearer|basic|digest|token)\s{1,8})?[^\s\"'\\&,;<>()\[\]{}]+)"
    r")"
)
_LINE = r"""["'\\]{0,4}(?P<bare>[^"'\\\n]+)"""
_WORD = r"[A-Za-z0-9_-]"
_ESCAPE = re.compile(r"\\[bfnrt]")
_ALPHANUMERIC = string.ascii_letters + string.digits


def _prefixed(literal: str, tail: str = rf"{_WORD}{{12,}}", mark: str = "[key]") -> _Rule:
    """A key known by its first letters, which no letter or digit may precede."""
    return _Rule(mark, literal.lower(), re.compile(rf"{NOT_WITHIN}{re.escape(literal)}{tail}"))


def _named(
    literal: str, name: str | None = None, *, value: str = _VALUE, separator: str = _SEPARATOR
) -> _Rule:
    """A value behind a name that says it is secret: `name=value`, `"name": "value"`, `('name', 'value')`."""
    return _Rule(MASK, literal, re.compile((name or re.escape(literal)) + separator + value, re.IGNORECASE))


_LONG_PREFIXES = (  # and at least 12 characters
    *(
        "GOCSPX-",
        "gsk_",
        "xai-",
        "hf_",
        "api_org_",
        "pplx-",
        "nvapi-",
        "csk-",
        "fw_",
        "r8_",
        "jina_",
        "pcsk_",
        "tvly-",
    ),
    *("bedrock-api-key-", "ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_", "glpat-", "gldt-", "glsa_"),
    *("dop_v1_", "pypi-", "shpat_", "sntrys_", "sbp_", "NRAK-", "sess-"),
)
_SHORT_PREFIXES = (  # and at least 8
    *("sk_live_", "sk_test_", "rk_live_", "rk_test_", "whsec_"),  # Stripe
    *("xoxa-", "xoxb-", "xoxe-", "xoxp-", "xoxr-", "xoxs-", "xapp-"),  # Slack
    *("pk-lf-", "lsv2_", "tgp_v1_", "npm_"),
)


def _prefixes(separator: str) -> _Rule:
    """All keys whose first letters end in a *separator*, which is looked for: far fewer searches than one for each."""
    long, short = (
        "|".join(re.escape(start) for start in starts if re.search("[_-]", start)[0] == separator)  # type: ignore[index]  # each has one
        for starts in (_LONG_PREFIXES, _SHORT_PREFIXES)
    )
    keys = rf"(?:(?:{long}){_WORD}{{12,}}|(?:{short}){_WORD}{{8,}})"
    return _Rule("[key]", separator, re.compile(NOT_WITHIN + keys), before=9)


_KEY_SAID = r"(?:\s(?:provided|supplied|given|used|is|was|value|invalid)){0,2}"

_RULES = (
    _prefixed(
        "sk-", r"[A-Za-z0-9_*-]{8,}"
    ),  # OpenAI, Anthropic (sk-ant-), OpenRouter (sk-or-), DeepSeek; * as providers echo them
    *map(_prefixes, "_-"),
    *map(
        _prefixed, ("AIza", "AQ.", "ABSK", "dapi", "hvs.", "xoxe.")
    ),  # Google, AWS Bedrock, Databricks, Vault, Slack
    *(_prefixed(start, r"[A-Z0-9]{12,}") for start in ("AKIA", "ASIA", "ABIA", "ACCA")),
    _prefixed("SG.", rf"{_WORD}{{12,}}(?:\.{_WORD}{{12,}})?"),  # SendGrid
    _Rule(
        "[key]", "jqqj9", re.compile(r"[A-Za-z0-9]{0,52}JQQJ9[9D][A-Za-z0-9]{12,}={0,2}"), before=52
    ),  # Azure
    _prefixed("ya29.", mark="[token]"),
    _prefixed(
        "eyJ", rf"{_WORD}{{8,}}(?:\.{_WORD}*){{0,2}}(?:\.{_WORD}+){{0,2}}", "[token]"
    ),  # a JWS has three parts, a JWE five
    _Rule(
        "[token]",
        "bearer",
        re.compile(rf"{NOT_WITHIN}bearer\s{{1,8}}(?P<bare>[\w.~+/=:|*-]{{8,}})", re.IGNORECASE),
    ),
    _Rule(
        "[token]",
        "basic",
        re.compile(rf"{NOT_WITHIN}basic\s{{1,8}}(?P<bare>[a-z0-9+/]{{12,}}={{0,2}})", re.IGNORECASE),
    ),
    _Rule(
        "[pem]",
        "-----begin ",
        re.compile(r"-----BEGIN [A-Z0-9 ]{1,40}-----.*?(?:-----END [A-Z0-9 ]{1,40}-----|\Z)", re.DOTALL),
    ),
    _Rule("[credentials]", "://", re.compile(r"://(?P<bare>[^\s/?#\"'<>\\]{1,1024})@")),
    _Rule("[key]", "hooks.slack.com/", re.compile(r"hooks\.slack\.com/(?P<bare>[\w/]{8,})", re.IGNORECASE)),
    _named("api", rf"api[_ -]{{0,2}}key{_KEY_SAID}", separator=_OR_QUOTE),
    *(_named(name, rf"{name}(?:d|word|phrase)?") for name in ("passw", "passphrase", "pwd")),
    _named("password"),
    _named("secret", r"secret(?:[_-]?(?:access[_-]?)?key)?"),
    _named("token"),
    _named("credential", "credentials?"),
    _named("authorization"),
    _named("signature"),
    _named("private", r"private[_-]?key(?:[_-]id)?"),
    _named("access", r"access[_-]?key(?:[_-]id)?"),
    _named("accountkey"),
    _named("subscription", r"subscription[_ -]?key"),
    _named("session", r"session(?:[_-]?(?:id|key|token))?"),
    _named("cookie", value=_LINE),
    *(
        _Rule(
            MASK,
            name,
            re.compile(rf"{NOT_WITHIN}{name}[\"']?(?P<bare>[^\s\"'\\&,;<>()\[\]{{}}]+)", re.IGNORECASE),
        )
        for name in ("key=", "sig=")
    ),
)

_BY_LITERAL = tuple((rule.literal, rule) for rule in _RULES)
_MARK = re.compile(r"\[(?:key|token|pem|credentials|secret|email|phone|card|iban|ssn)\]")


def spans(text: str) -> list[Span]:
    """Where *text* holds a key, a token, a password or credentials."""
    lowered = _lowered(text)
    found: list[Span] = []
    for literal, rule in _BY_LITERAL:
        if literal in lowered:
            found += _matches(rule, text, lowered)
    return found


def _lowered(text: str) -> str:
    """Lower case with every character in its place: a few, such as the Turkish dotted I, would become two."""
    lowered = text.lower()
    return (
        lowered
        if len(lowered) == len(text)
        else "".join(char.lower() if char.isascii() else char for char in text)
    )


def _matches(rule: _Rule, text: str, lowered: str) -> Iterator[Span]:
    at, done = lowered.find(rule.literal), 0
    while at >= 0:
        match = rule.pattern.match(text, at - _run(text, max(done, at - rule.before), at))
        if match:
            start, end = match.span(match.lastgroup or 0)
            if not _MARK.fullmatch(text, start, end):
                yield Span(start, end, rule.mark)
            done = match.end()
        at = lowered.find(rule.literal, match.end() if match else at + 1)


def _run(text: str, start: int, end: int) -> int:
    """How many letters and digits stand right before *end*, from *start* on; that of an escaped line break is none."""
    run = end - start - len(text[start:end].rstrip(_ALPHANUMERIC))
    return run - 1 if run and _ESCAPE.match(text, max(0, end - run - 1)) else run
