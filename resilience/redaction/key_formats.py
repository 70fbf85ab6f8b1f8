"""Keys, tokens and credentials that are recognised by their own format, whatever stands before them.

The prefixes are those that providers document, and that gitleaks and detect-secrets search.
"""

from __future__ import annotations

import re
from typing import Final

from resilience.redaction.rule import LazyPattern, RedactionRule
from resilience.redaction.spans import NOT_WITHIN

_CHARACTER: Final = r"[A-Za-z0-9_-]"


def _prefixed(literal: str, tail: str = rf"{_CHARACTER}{{12,}}", mark: str = "[key]") -> RedactionRule:
    """Return the rule for keys with a prefix, which no letter or digit may precede."""
    # Keys are case-sensitive, and so is the pattern; only the search for the literal runs on the text in lower case.
    return RedactionRule(mark, literal.lower(), LazyPattern(rf"{NOT_WITHIN}{re.escape(literal)}{tail}"))


_LONG_PREFIXES: Final = (  # followed by at least 12 characters
    *("GOCSPX-", "gsk_", "xai-", "hf_", "api_org_", "pplx-", "nvapi-", "csk-", "fw_", "r8_", "jina_"),
    *("pcsk_", "tvly-", "rpa_", "bedrock-api-key-", "ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_"),
    *("glpat-", "gldt-", "glsa_", "dop_v1_", "pypi-", "shpat_", "sntrys_", "sbp_", "NRAK-", "sess-"),
    *("lin_api_", "figd_", "ntn_", "vck_", "opk_", "nfp_", "fm2_", "sntryu_", "sntrya_", "llx-", "PMAK-"),
)
_SHORT_PREFIXES: Final = (  # followed by at least 8
    *("sk_live_", "sk_test_", "rk_live_", "rk_test_", "whsec_"),  # Stripe
    *("xoxa-", "xoxb-", "xoxe-", "xoxp-", "xoxr-", "xoxs-", "xapp-"),  # Slack
    *("pk-lf-", "lsv2_", "tgp_v1_", "npm_"),
    *("sq0atp-", "sq0csp-", "sq0idp-"),  # Square
)


def _prefixes(separator: str) -> RedactionRule:
    """Return one rule for all prefixes with this *separator* as literal: two searches instead of one for each prefix."""
    long, short = (
        "|".join(re.escape(start) for start in starts if re.search("[_-]", start)[0] == separator)  # type: ignore[index]  # each prefix has a separator
        for starts in (_LONG_PREFIXES, _SHORT_PREFIXES)
    )
    keys = rf"(?:(?:{long}){_CHARACTER}{{12,}}|(?:{short}){_CHARACTER}{{8,}})"
    heads = frozenset(re.split("[_-]", start)[0] for start in (*_LONG_PREFIXES, *_SHORT_PREFIXES))
    return RedactionRule("[key]", separator, LazyPattern(NOT_WITHIN + keys), before=9, heads=heads)


RULES: Final = (
    _prefixed(
        "sk-", r"(?:[A-Za-z0-9_*-]{8,}|[A-Za-z0-9_-]{0,8}\.{3}[A-Za-z0-9]{2,8})"
    ),  # OpenAI, Anthropic, OpenRouter, DeepSeek, ...; with the * or ... of providers that echo them
    *map(_prefixes, "_-"),
    *map(
        _prefixed, ("AIza", "AQ.", "ABSK", "dapi", "hvs.", "xoxe.")
    ),  # Google, AWS Bedrock, Databricks, Vault, Slack
    *(_prefixed(start, r"[A-Z0-9]{12,}") for start in ("AKIA", "ASIA", "ABIA", "ACCA")),
    _prefixed("SG.", rf"{_CHARACTER}{{12,}}(?:\.{_CHARACTER}{{12,}})?"),  # SendGrid
    _prefixed("pa-", r"[A-Za-z0-9_-]{40,}"),  # Voyage
    RedactionRule(
        "[key]", "jqqj9", LazyPattern(r"[A-Za-z0-9]{0,52}JQQJ9[9D][A-Za-z0-9]{12,}={0,2}"), before=52
    ),  # Azure
    RedactionRule(
        "[key]", "q~", LazyPattern(r"[\w.~]{0,3}\dQ~[\w.~-]{31,34}", re.ASCII), before=4
    ),  # Entra ID
    _prefixed("sk_", r"[0-9a-f]{24,}"),  # ElevenLabs
    _prefixed("ak-", r"[A-Za-z0-9]{16,}"),  # Modal; the other half of the pair begins with as-
    _prefixed("as-", r"(?=[A-Za-z]{0,32}\d)[A-Za-z0-9]{16,}"),
    _prefixed("bce-v3/", r"ALTAK-[A-Za-z0-9]{8,}/[0-9a-f]{16,}"),  # Baidu
    _prefixed("dp.", r"(?:pt|st|ct|sa|scim|audit)\.[\w.-]{16,}"),  # Doppler
    _prefixed("key-", r"[0-9a-f]{32}(?![0-9a-f])"),  # Mailgun
    _prefixed("SK", r"[0-9a-f]{32}(?![0-9a-f])"),  # Twilio
    _prefixed("AGE-SECRET-KEY-1", r"[A-Z0-9]{20,}"),
    _prefixed("pat", r"[A-Za-z0-9]{14}\.[0-9a-f]{32,}"),  # Airtable
    RedactionRule(  # Telegram: the number of the bot stands before the colon
        "[key]", ":aa", LazyPattern(r"(?<!\d)\d{6,12}:AA[A-Za-z0-9_-]{30,}"), before=12
    ),
    RedactionRule(  # Terraform
        "[key]", ".atlasv1.", LazyPattern(rf"[A-Za-z0-9]{{0,20}}\.atlasv1\.{_CHARACTER}{{20,}}"), before=20
    ),
    RedactionRule(  # Zhipu: 32 digits, a dot and a secret; without its dot it could be any id
        "[key]", ".", LazyPattern(r"[0-9a-f]{32}\.[A-Za-z0-9]{16}(?![A-Za-z0-9])"), before=32, least_before=32
    ),
    _prefixed("ya29.", mark="[token]"),
    _prefixed(
        "eyJ", rf"{_CHARACTER}{{8,}}(?:\.{_CHARACTER}*){{0,2}}(?:\.{_CHARACTER}+){{0,2}}", "[token]"
    ),  # a JWS has three parts, a JWE five
    RedactionRule(
        "[token]",
        "bearer",
        LazyPattern(
            rf"{NOT_WITHIN}bearer(?:\s{{1,8}}|\s?[:=]\s?)"
            r"(?!(?:authentications?|authorizations?|credentials?|token|format|realm|scheme)\b)(?P<bare>[\w.~+/=:|*-]{8,})",
            re.IGNORECASE,
        ),
    ),
    RedactionRule(  # base64 of a name and a password; a plain English word after `basic` is none
        "[token]",
        "basic",
        LazyPattern(
            rf"{NOT_WITHIN}(?i:basic)\s{{1,8}}(?=[A-Za-z][a-z]{{0,64}}[A-Z0-9+/=])(?P<bare>[A-Za-z0-9+/]{{12,}}={{0,2}})"
        ),
    ),
    RedactionRule(
        "[pem]",
        "-----begin ",
        LazyPattern(
            r"-----BEGIN [A-Z0-9 ]{1,40}-----.*?(?:-----END [A-Z0-9 ]{1,40}-----|\Z)",
            re.DOTALL | re.IGNORECASE,
        ),
    ),
    RedactionRule("[credentials]", "://", LazyPattern(r"://(?P<bare>[^\s/?#\"'<>\\]{1,1024})@")),
    RedactionRule(  # an address without its scheme
        "[credentials]",
        "//",
        LazyPattern(r"(?<![:/])//(?P<bare>[^\s/?#\"'<>\\:@]{1,255}:[^\s/?#\"'<>\\@]{1,767})@"),
    ),
    RedactionRule(  # a password with characters that should be quoted; SQLAlchemy accepts it
        "[credentials]",
        "://",
        LazyPattern(r"://(?P<bare>[^\s/?#\"'<>\\:@]{0,255}:(?!\d{1,5}[/?#])[^\s\"'<>\\@]{1,767}+)@"),
    ),
    *(
        RedactionRule("[key]", host, LazyPattern(rf"{re.escape(host)}(?P<bare>[\w/-]{{8,}})", re.IGNORECASE))
        for host in ("hooks.slack.com/", "discord.com/api/webhooks/")
    ),
)
