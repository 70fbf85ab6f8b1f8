"""Tables of sentences: what providers write where no code tells, or where status and code tell something else.

A rule is a few literals, found in lower case with white space made single, and perhaps one pattern that is tried only
where its literal stands. Rules are read from top to bottom and the first that fits wins, so the exceptions stand above.
`under` names the statuses a rule may overrule; without it, any. Numbers in a sentence are never a status.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from resilience.failure.body import clip
from resilience.failure.taxonomy import ErrorCategory as Kind

_HEAD, _TAIL = 12_000, 4_000
"""Characters of text that rules look at."""

_SPACE = re.compile(r"\s+")
_BLANK = frozenset({None, 200})
"""No status, or one that says nothing: the error came inside a stream."""
_SERVER = frozenset({*_BLANK, *range(500, 600)})
_BUSY = _SERVER | {429, 408, 498}
_THROTTLED = _SERVER | {400, 403, 408, 409, 429}
_REQUEST = _BLANK | {400, 401, 403, 404, 422}
_MODEL = _BLANK | {400, 404, 422, 500}


@dataclass(frozen=True, slots=True)
class _Rule:
    kind: Kind
    literals: tuple[str, ...]
    pattern: re.Pattern[str] | None = None
    under: frozenset[int | None] | None = None

    def fits(self, text: str, status: int | None) -> bool:
        if self.under is not None and status not in self.under:
            return False
        if not any(literal in text for literal in self.literals):
            return False
        return self.pattern is None or self.pattern.search(text) is not None


def _rule(
    kind: Kind, *literals: str, pattern: str | None = None, under: frozenset[int | None] | None = None
) -> _Rule:
    return _Rule(kind, literals, None if pattern is None else re.compile(pattern), under)


_LIMIT = re.compile(r"limit:? ([\d,]{1,15})\b.{0,80}?\brequested:? ~?([\d,]{1,15})")

_RULES = (
    # Throttling in words that belong to something else. Bedrock: tokens per minute, not the context window.
    _rule(
        Kind.RATE_LIMIT,
        "too many tokens, please wait",
        "please wait before trying again",
        "wait before trying again",
    ),
    _rule(Kind.RATE_LIMIT, "you have been rate limited", "rate limit reached for", under=_THROTTLED),
    # Anthropic's sentence for its rate limit advises to "reduce the prompt length".
    _rule(
        Kind.RATE_LIMIT,
        "rate limit",
        pattern=r"would exceed (?:your|the) .{0,40}rate limit",
        under=_THROTTLED,
    ),
    # Capacity. Azure at peak load, Anthropic and Google in streams, Moonshot, Groq; some of it comes as 429.
    _rule(
        Kind.OVERLOADED,
        "overloaded",
        "high demand",
        "peak load",
        "at capacity",
        "over capacity",
        "no capacity",
        "capacity exceeded",
        "insufficient capacity",
        "out of capacity",
        "too busy",
        "server is busy",
        "server busy",
        "high load",
        "queue is full",
        "heavy load",
        "temporarily overwhelmed",
        under=_BUSY,
    ),
    # Billing. OpenAI, Anthropic, DeepSeek, xAI, OpenRouter, Together, Fireworks (412), Hugging Face, Moonshot, Zhipu, LiteLLM.
    _rule(
        Kind.QUOTA_EXHAUSTED,
        "insufficient balance",
        "insufficient credit",
        "insufficient fund",
        "insufficient quota",
        "insufficient_quota",
        "credit balance is too low",
        "balance is too low",
        "balance is insufficient",
        "negative balance",
        "billing hard limit",
        "billing is not active",
        "account is not active",
        "billing_not_active",
        "out of credits",
        "no credits",
        "not enough credits",
        "requires more credits",
        "can only afford",
        "purchase more credits",
        "purchase credits",
        "add more credits",
        "add credits",
        "available credits",
        "run out of credit",
        "credits to unlock",
        "credit limit exceeded",
        "credits are depleted",
        "credits depleted",
        "credits exhausted",
        "included credits",
        "spending limit",
        "spend limit",
        "spending cap",
        "payment required",
        "past invoices",
        "overdue",
        "in arrears",
        "good standing",
        "over budget",
        "budget has been exceeded",
        "budget exceeded",
        "exceeded budget",
        "exceeded their budget",
        "exceededbudget",
        "crossed budget",
        "out of extra usage",
        "api usage limits",
        "usage limit has been reached",
        "hit your usage limit",
        "usage limit reached",
        "regain access on",
        "extra usage is required",
        "individual quota reached",
        "recharge your account",
        "please recharge",
        "top up your",
        "needs a credit card",
        "余额不足",
        "欠费",
        "充值",
    ),  # fmt: skip
    _rule(Kind.QUOTA_EXHAUSTED, "add ", "buy ", pattern=r"\b(?:add|buy) \d{1,6} credits"),
    _rule(
        Kind.QUOTA_EXHAUSTED, "quota exceeded for metric", pattern=r"\blimit: 0\b"
    ),  # no free tier for this model
    # Content. Azure, OpenAI, Anthropic, Google, OpenRouter's moderation, Alibaba, DeepSeek.
    _rule(
        Kind.CONTENT_POLICY,
        "content management policy",
        "content filter",
        "content_filter",
        "content policy",
        "content_policy",
        "responsibleaipolicyviolation",
        "usage policy",
        "usage policies",
        "usage guidelines",
        "acceptable use policy",
        "safety system",
        "blocked due to safety",
        "was blocked due to",
        "safety reasons",
        "prohibited_content",
        "prohibited content",
        "inappropriate content",
        "content exists risk",
        "considered high risk",
        "was flagged",
        "requires moderation",
        "flagged by",
        "harmful content",
        "unsafe content",
        "sensitive content",
        "guardrail",
        under=frozenset({*_REQUEST, 451, 498, 500}),
    ),  # fmt: skip
    # The length of the request. OpenAI and its imitators, Anthropic, Google, Bedrock, Cohere, Mistral, xAI, TGI, vLLM,
    # llama.cpp, LM Studio.
    _rule(
        Kind.CONTEXT_LENGTH,
        "maximum context length",
        "context_length_exceeded",
        "context length exceeded",
        "context size",
        "prompt is too long",
        "prompt too long",
        "input is too long",
        "input too long",
        "inputs too long",
        "too many input tokens",
        "maximum number of tokens allowed",
        "input token count",
        "reduce the length of",
        "context overflow",
        "context window exceeded",
        "exceeds the context",
        "exceed the context",
        "exceed context limit",
        "exceeds context",
        "exceed context",
        "exceeds the model's context",
        "maximum model length",
        "maximum prompt length",
        "max_new_tokens` must be",
        "expected maxlength",
        "request too large for",
        "request entity too large",
        "payload too large",
        "request exceeds the maximum size",
        "maximum allowed number of input tokens",
        "message is too long",
        "longer than the model's context",
        "exceeds the maximum context",
        "tokens in the prompt cannot exceed",
        "exceeds the maximum number of tokens",
        "exceeds maximum context",
        "context length of only",
        "exceeds the available context",
        "input tokens exceed",
        "exceeds the limit of tokens",
        "max context length",
        "prompt length exceeds",
        "input length exceeds",
        "range of input length",
    ),  # fmt: skip
    _rule(
        Kind.CONTEXT_LENGTH,
        "context window",
        pattern=r"(?:exceed|larger|longer|too|over|outside|fit).{0,60}context window|context window.{0,60}(?:exceed|too|limit|full)",
    ),
    _rule(
        Kind.CONTEXT_LENGTH, "max_tokens must be at least 1", pattern=r"got -\d"
    ),  # vLLM: window minus prompt
    # Geography and the edge's own wall.
    _rule(
        Kind.PERMISSION,
        "location is not supported",
        "country, region, or territory",
        "not available in your country",
        "not available in your region",
        "not supported in your region",
        "not supported in your country",
        "you have been blocked",
        "error 1020",
        "attention required! | cloudflare",
        under=_REQUEST | {429, 451, 500, 503},
    ),  # fmt: skip
    # Credentials under a status that says something else: Gemini answers 400, AWS 403.
    _rule(
        Kind.AUTHENTICATION,
        "api key not valid",
        "api key not found",
        "api key expired",
        "invalid api key",
        "incorrect api key",
        "api key is invalid",
        "invalid x-api-key",
        "invalid bearer token",
        "security token included in the request",
        "no auth credentials",
        "invalid authentication",
        "missing authentication",
        "missing api key",
        "no api key",
        "token has expired",
        "token is expired",
        "could not resolve authentication method",
        "signature we calculated does not match",
        under=_REQUEST - {404, 422},
    ),  # fmt: skip
    # A model nobody has. LM Studio, Ollama, OpenRouter, Bedrock, OpenAI, xAI, Google.
    _rule(
        Kind.NOT_FOUND,
        "does not exist or you do not have access",
        "try pulling it first",
        "no models loaded",
        "no endpoints found",
        "is not a valid model",
        "no such model",
        "unknown model",
        "model not found",
        "model_not_found",
        "model identifier is invalid",
        "could not resolve the foundation model",
        "has been decommissioned",
        "does not exist or your team",
        "model not exist",
        "deployment for this resource does not exist",
        "model is not found",
        "is not found for api version",
        under=_MODEL,
    ),  # fmt: skip
    _rule(Kind.NOT_FOUND, "model", pattern=r"\bmodel\b.{1,200}?\b(?:not found|does not exist)", under=_MODEL),
    # Throttling told in words only, or under a gateway's 500.
    _rule(
        Kind.RATE_LIMIT,
        "too many requests",
        "rate limit exceeded",
        "rate limit is exceeded",
        "rate limit has been",
        "rate_limit_exceeded",
        "rate-limited",
        "rate limited",
        "rate limit reached",
        "requests rate limit",
        "exceeded call rate limit",
        "exceeded token rate limit",
        "exceeded the token rate limit",
        "exceeded the call rate limit",
        "error code: 1015",
        "request rate",
        "per minute limit exceeded",
        "concurrency limit",
        "max request",
        "request too frequent",
        "requests too frequent",
        "resource exhausted",
        "resource has been exhausted",
        "resource_exhausted",
        "throttl",
        "exceeded the maximum number of requests",
        "quota exceeded",
        under=_THROTTLED - {408, 409},
    ),  # fmt: skip
    # The edge in front of the provider, and servers that are still starting.
    _rule(
        Kind.TIMEOUT,
        "gateway time-out",
        "gateway timeout",
        "a timeout occurred",
        "deadline expired",
        "deadline exceeded",
        "deadline_exceeded",
        "upstream request timeout",
        "upstream timed out",
        "stream timeout",
        "request timed out",
        "request timeout",
        "timed out waiting",
        "model timed out",
        "didn't respond in time",
        "response timed out",
        under=frozenset({*_BLANK, 408, 500, 502, 503, 504, 524}),
    ),  # fmt: skip
    _rule(
        Kind.SERVICE_UNAVAILABLE,
        "upstream connect error",
        "no healthy upstream",
        "currently loading",
        "loading model",
        "still loading",
        "bad gateway",
        "service unavailable",
        "temporarily unavailable",
        "currently unavailable",
        "service is unavailable",
        "model is not ready",
        "model not ready",
        "network connection lost",
        "under maintenance",
        "shutting down",
        "no server is available",
        "web server is down",
        "origin is unreachable",
        "unable to process your request",
        under=_SERVER - {504, 524},
    ),  # fmt: skip
    _rule(
        Kind.SERVICE_UNAVAILABLE, "failed to load model", under=_SERVER | {400, 404}
    ),  # LM Studio loads on demand
)

_TRANSPORT = (
    _rule(
        Kind.TIMEOUT,
        "timed out",
        "timeout",
        "timedout",
        "etimedout",
        "deadline exceeded",
        "time-out",
        "信号灯超时",
    ),  # fmt: skip
    _rule(
        Kind.NETWORK,
        "connection reset",
        "connection refused",
        "connection aborted",
        "connection error",
        "connection closed",
        "connection lost",
        "peer closed",
        "forcibly closed",
        "actively refused",
        "econnre",
        "enotfound",
        "eai_again",
        "getaddrinfo",
        "name resolution",
        "name or service not known",
        "dns error",
        "socket hang up",
        "broken pipe",
        "network is unreachable",
        "no route to host",
        "cannot connect to host",
        "connect call failed",
        "fetch failed",
        "failed to fetch",
        "server disconnected",
        "premature close",
        "eof occurred",
        "unexpected eof",
        "incomplete chunked",
        "incompleteread",
        "certificate",
        "ssl",
        "handshake",
        "dial tcp",
        "reqwest::error",
        "error sending request",
        "terminated",
        "expecting value",
        "transport error",
        "stream ended",
        "could not read response",
    ),  # fmt: skip
)
"""Last of all, and only where neither a status nor a class is known."""

_ABORTED = ("request was aborted", "aborted by the user", "operation was aborted")
_LENGTH = ("length limit was reached", "max_tokens limit was reached", "finish_reason=length")
_EMPTY = (
    "quick accessor only works",
    "empty response",
    "no content in response",
    "returned no content",
    "no choices",
)
_CRASHED = ("has crashed", "unexpectedly stopped", "had an error while processing", "experienced an error while",
            "an error occurred while processing your request", "internal error", "internal server error",
            "unexpected error during processing")  # fmt: skip

_LEFT = (
    _rule(Kind.CANCELLED, *_ABORTED, under=_BLANK),
    _rule(Kind.OUTPUT_TRUNCATED, *_LENGTH, under=_BLANK),
    _rule(Kind.OUTPUT_INVALID, *_EMPTY, under=_BLANK),
    _rule(Kind.SERVER_ERROR, *_CRASHED, under=_BLANK),
)

_PLAN = "exceeded your current quota"
_NO_CURE = (
    "certificate_verify_failed",
    "certificate verify failed",
    "certificate has expired",
    "hostname mismatch",
)


def plain(text: str) -> str:
    """What the rules look at: bounded, lower case, white space single, typographic apostrophes straight."""
    return _SPACE.sub(" ", clip(text, _HEAD, _TAIL)).lower().replace("\u2019", "'")


def overrules(text: str, status: int | None) -> Kind | None:
    """The category of the first sentence that may overrule *status*; *text* as `plain` gave it."""
    if _never_fits(text):
        return Kind.CONTEXT_LENGTH
    return _first(_RULES, text, status)


def hints(text: str, status: int | None) -> Kind | None:
    """The category keywords suggest where nothing better is known."""
    return _first((*_LEFT, *_TRANSPORT), text, status)


def current_quota(text: str) -> bool:
    """OpenAI writes this sentence for unpaid bills; Google writes the same one for a limit of requests a minute."""
    return _PLAN in text


def permanent(text: str) -> bool:
    """Does the network failure lie in a certificate, which no retry changes?"""
    return any(literal in text for literal in _NO_CURE)


def _never_fits(text: str) -> bool:
    """OpenAI and Groq: one request above the tokens a minute allows. The wait they state never helps."""
    if "requested" not in text:
        return False
    found = _LIMIT.search(text)
    if found is None:
        return False
    limit, requested = (int(number.replace(",", "") or "0") for number in found.groups())
    return requested > limit


def _first(rules: tuple[_Rule, ...], text: str, status: int | None) -> Kind | None:
    return next((rule.kind for rule in rules if rule.fits(text, status)), None)
