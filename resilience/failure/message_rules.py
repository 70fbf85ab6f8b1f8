"""Tables of sentences: what providers write where no code tells, or where status and code tell something else.

A rule is a list of literals, found in lower case with white space made single, and perhaps one pattern that is tried only
where a literal stands. Rules are read from top to bottom and the first that fits wins, so the exceptions stand above.
`under` names the statuses a rule may overrule; without it, any. Numbers in a sentence are never a status. The comments name
the providers whose wording it is; the bodies are in the labelled corpus or in the tests, each with its source.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from resilience.failure.body import clip
from resilience.failure.taxonomy import ErrorCategory as Kind

_HEAD, _TAIL = 12_000, 4_000
"""Characters of text that rules look at."""

_SPACE = re.compile(r"\s+")

_BLANK = frozenset({None})
"""No status, or one of success: the error came inside a stream."""
_SERVER = _BLANK | frozenset(range(500, 600))
_BUSY = _SERVER | {408, 429, 498}
_THROTTLED = _SERVER | {400, 403, 429}
_REQUEST = _BLANK | {400, 401, 403, 404, 422}


@dataclass(frozen=True, slots=True)
class _MessageRule:
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
    kind: Kind, literals: str, *, pattern: str | None = None, under: frozenset[int | None] | None = None
) -> _MessageRule:
    """*literals* are divided by bars; a line's indentation counts for nothing."""
    each = tuple(filter(None, (literal.strip() for literal in literals.split("|"))))
    return _MessageRule(kind, each, None if pattern is None else re.compile(pattern), under)


_RULES = (
    # Bedrock, Cerebras, Meta: tokens of a minute, not of the context.
    _rule(
        Kind.RATE_LIMIT,
        """too many tokens, please wait | wait before trying again | too many tokens processed
        | tokens allowed within a given time""",
    ),
    # OpenAI's and Groq's sentence goes on about payment; Together's carries the type `credit_limit`.
    _rule(Kind.RATE_LIMIT, "rate limit reached for | you have been rate limited", under=_THROTTLED),
    # Anthropic's goes on "please reduce the prompt length".
    _rule(
        Kind.RATE_LIMIT,
        "rate limit",
        pattern=r"would exceed (?:your|the) .{0,40}rate limit",
        under=_THROTTLED,
    ),
    # Capacity, some of it under 429: Azure at peak load, Anthropic, Google, Moonshot, Groq, Cerebras, Ollama, Codex.
    _rule(
        Kind.OVERLOADED,
        """overloaded | high demand | peak load | at capacity | over capacity | no capacity | capacity exceeded
        | insufficient capacity | out of capacity | too busy | server is busy | server busy | high load | heavy load
        | high traffic | high volume of traffic | queue is full | queue_exceeded | temporarily overwhelmed
        | pending requests exceeded | no slots available | servers are busy | capacity temporarily | model is busy""",
        under=_BUSY,
    ),
    # Billing: OpenAI, Anthropic, DeepSeek, xAI, OpenRouter, Together, Fireworks (412), Hugging Face, Moonshot, Zhipu, LiteLLM.
    _rule(
        Kind.QUOTA_EXHAUSTED,
        """insufficient balance | insufficient credit | insufficient fund | insufficient_quota
        | balance is too low | balance is insufficient | balance too low | negative balance | not enough balance
        | billing hard limit | billing_hard_limit | billing is not active | account is not active | billing_not_active
        | out of credit | run out of credit | no credits left | no credits remaining | have no credits | not enough credit | requires more credits | more credits
        | can only afford | purchase credits | add credits | available credits | credit limit exceeded | included credits
        | credits are depleted | credits depleted | credits exhausted | credits have been | prepaid credit | prepayment credit
        | spending limit | spend limit | spending cap | payment required | past invoices | unpaid invoice | is overdue
        | in arrears | good standing | over budget | budget has been exceeded | budget exceeded | exceeded budget
        | exceeded their budget | exceededbudget | crossed budget | exceededtokenbudget | out of extra usage
        | api usage limits | usage limit has been reached | hit your usage limit | usage limit reached | weekly limit | hit your limit | regain access on
        | extra usage is required | individual quota reached | recharge your account | please recharge | top up your
        | needs a credit card | monthly quota | monthly usage limit | api calls / month | free-models-per-day | key limit exceeded
        | daily free allocation | daily request limit | call volume quota | token quota has been | billing to be enabled
        | 余额不足 | 欠费 | 充值 | 资源包""",
    ),
    _rule(Kind.QUOTA_EXHAUSTED, "add | buy", pattern=r"\b(?:add|buy) \$?\d{1,6} (?:more )?credits"),
    # Google: the tier has none of this model at all, so the delay it states helps nobody.
    _rule(Kind.QUOTA_EXHAUSTED, "quota exceeded for metric", pattern=r"\blimit: 0\b"),
    # Content: Azure, OpenAI, Anthropic, Google, OpenRouter's moderation, Alibaba, DeepSeek.
    _rule(
        Kind.CONTENT_POLICY,
        """content management policy | content filter | content_filter | content policy | content_policy
        | responsibleaipolicyviolation | usage policy | usage policies | usage guidelines | acceptable use policy
        | safety system | blocked due to | blocked by safety | prompt was blocked | content was blocked
        | safety reasons | prohibited_content | prohibited content
        | inappropriate content | content exists risk | considered high risk | was flagged | requires moderation | flagged by
        | flagged as | harmful content | unsafe content | sensitive content | sensitive words | sensitive information
        | new_sensitive | nsfw | 敏感""",
        under=_REQUEST | {451, 498, 500},
    ),
    # Bedrock, LiteLLM, Portkey; not OpenRouter's restrictions of who may answer.
    _rule(
        Kind.CONTENT_POLICY,
        "guardrail",
        pattern=r"guardrails?\b.{0,80}?\b(?:block|interven|violat|trigger|flag|reject|fail|denied)"
        r"|\b(?:block|violat|flag|reject|trigger|fail|denied)\w*\b.{0,80}?guardrail",
        under=_REQUEST | {451, 498, 500},
    ),
    # Length: OpenAI and its imitators, Anthropic, Google, Bedrock, Cohere, Mistral, xAI, TGI, vLLM, llama.cpp, LM Studio.
    _rule(
        Kind.CONTEXT_LENGTH,
        """maximum context length | max context length | context_length_exceeded | context length exceeded | context size
        | context length of only | context overflow | prompt is too long | prompt too long | input is too long
        | input too long | inputs too long | message is too long | too many input tokens | input token count
        | input tokens exceed | prompt length exceeds | input length exceeds | maximum number of tokens allowed
        | maximum allowed number of input tokens | exceeds the maximum number of tokens | reduce the length of
        | exceeds the context | exceed the context | exceeds context | exceed context | exceeds maximum context
        | exceeds the maximum context | exceeds the model's context | longer than the model's context
        | greater than the context length | n_keep | prompt token count | must have less than | string too long
        | maximum model length | maximum prompt length | tokens in the prompt cannot exceed | max_new_tokens` must be
        | expected maxlength | range of input length | request too large for | request entity too large
        | payload too large | request exceeds the maximum size | model token limit | cannot exceed the total tokens
        | input is too large to process | 超长""",
    ),
    _rule(
        Kind.CONTEXT_LENGTH,
        "context window",
        pattern=r"(?:exceed|larger|longer|too|over|outside|fit)[^.]{0,60}context window"
        r"|context window[^.]{0,60}(?:exceed|too|limit|full)",
    ),
    _rule(Kind.CONTEXT_LENGTH, "prompt", pattern=r"\bprompt \([^)]{1,60}\) is too long"),
    _rule(Kind.CONTEXT_LENGTH, "max context", pattern=r"\bexceeds? (?:the )?(?:model |model's )?max context"),
    _rule(
        Kind.CONTEXT_LENGTH,
        "maximum context length",
        pattern=r"too large for model with \d+ maximum context length",
    ),
    # vLLM works out max_tokens as the window minus the prompt.
    _rule(Kind.CONTEXT_LENGTH, "max_tokens must be at least 1", pattern=r"got -\d"),
    # Geography (Google says 400), the edge's own wall, accounts that were closed (Anthropic says 400).
    _rule(
        Kind.PERMISSION,
        """location is not supported | country, region, or territory | not available in your country
        | not available in your region | not supported in your region | not supported in your country
        | you have been blocked | error 1020 | attention required! | organization has been disabled
        | organization must be verified | access is denied due to | is not authorized to perform
        | is not allowed to use publisher model | has not been used in project""",
        under=_REQUEST | {429, 451, 500, 503},
    ),
    # Credentials: Gemini answers 400, AWS 403.
    _rule(
        Kind.AUTHENTICATION,
        """api key not valid | api key not found | api key expired | invalid api key | incorrect api key | wrong api key | api key is invalid
        | invalid api token | access token invalid | invalid access token | login fail
        | invalid x-api-key | invalid bearer token | security token included in the request | no auth credentials
        | invalid authentication | missing authentication | missing api key | no api key | token has expired
        | token is expired | unable to locate credentials | could not resolve authentication method | api_key client option
        | signature we calculated does not match""",
        under=_BLANK | {400, 401, 403},
    ),
    # A model nobody has: LM Studio, Ollama, OpenRouter, Bedrock, OpenAI, xAI, Google, DeepSeek.
    _rule(
        Kind.NOT_FOUND,
        """does not exist or you do not have access | try pulling it first | no models loaded | no endpoints found
        | no endpoints available
        | is not a valid model | no such model | unknown model | model not found | model_not_found | model not exist
        | model identifier is invalid | could not resolve the foundation model | has been decommissioned
        | deployment for this resource does not exist | is not found for api version | invalid model name
        | may not exist or you may not have access | not supported by any provider | model not supported | 模型不存在""",
        under=_BLANK | {400, 404, 422, 500},
    ),
    _rule(
        Kind.NOT_FOUND,
        "model",
        pattern=r"\bmodel\b.{1,120}?\b(?:not found|does not exist)|\binvalid model:? ['\"`]",
        under=_BLANK | {400, 404, 422, 500},
    ),
    # Throttling told in words, also under a gateway's 500 and AWS's 400.
    _rule(
        Kind.RATE_LIMIT,
        """too many requests | too many concurrent | rate limit exceeded | rate limit is exceeded | rate limit has been | rate_limit_exceeded
        | rate-limited | rate limited | reached the rate limit | hit the rate limit | hit your rate limit | rate limit reached | requests rate limit | token rate limit | call rate limit
        | error code: 1015 | error 1015 | request rate | per minute limit exceeded | concurrency limit | reached max request
        | request too frequent | requests too frequent | resource exhausted | resource has been exhausted
        | resource_exhausted | throttl | quota exceeded | exhausted your capacity | hit a rate limit | due to rate limiting
        | request limit reached""",
        under=_THROTTLED,
    ),
    _rule(
        Kind.RATE_LIMIT,
        "rate limit of | per minute) limit | per day) limit",
        pattern=r"\blimit (?:of|for) .{1,80}\bexceeded",
        under=_THROTTLED,
    ),
    # A gateway in front of a silent provider: nginx, HAProxy, Envoy, Cloudflare, Google, Bedrock.
    _rule(
        Kind.TIMEOUT,
        """gateway time-out | gateway timeout | a timeout occurred | deadline expired | deadline exceeded | deadline_exceeded
        | upstream request timeout | upstream timed out | stream timeout | request timed out | request timeout
        | timed out waiting | timed out while waiting | model timed out | didn't respond in time | response timed out
        | operation was timeout | upstream server is timing out""",
        under=_BLANK | {408, 424, 500, 502, 503, 504, 524},
    ),
    # An edge with nobody behind it, and servers that are still starting: Envoy, Cloudflare, TGI, llama.cpp, Bedrock.
    _rule(
        Kind.SERVICE_UNAVAILABLE,
        """upstream connect error | no healthy upstream | currently loading | loading model | still loading
        | service unavailable | temporarily unavailable | currently unavailable | service is unavailable
        | model is not ready | model not ready | network connection lost | under maintenance | shutting down
        | no server is available | web server is down | origin is unreachable | unable to process your request""",
        under=_SERVER - {504, 524},
    ),
    _rule(Kind.SERVICE_UNAVAILABLE, "bad gateway", under=_BLANK),
    # LM Studio loads a model when it is first asked for.
    _rule(Kind.SERVICE_UNAVAILABLE, "failed to load model", under=_SERVER | {400, 404}),
)
"""Sentences that outrank the status."""

_HINTS = (
    _rule(Kind.CANCELLED, "request was aborted | aborted by the user | operation was aborted"),
    _rule(
        Kind.OUTPUT_TRUNCATED,
        "length limit was reached | max_tokens limit was reached | incomplete due to a max",
    ),
    _rule(
        Kind.OUTPUT_INVALID,
        """quick accessor only works | empty response | no content in response | returned no content
        | no choices | failed to parse llm response | generatecontentresponse( | modelresponse( | chatcompletion(""",
    ),
    _rule(
        Kind.SERVER_ERROR,
        """has crashed | unexpectedly stopped | process has terminated | had an error while processing | experienced an error while
        | error occurred while processing your request | internal error | internal server error
        | unexpected error during processing""",
    ),
    _rule(Kind.INVALID_REQUEST, "the model returned the following errors"),
    _rule(Kind.TIMEOUT, "timed out | timeout | timedout | deadline exceeded | time-out | 超时"),
    _rule(
        Kind.NETWORK,
        """connection reset | connection refused | connection aborted | connection error | connection closed
        | connection lost | peer closed | forcibly closed | actively refused | econnre | enotfound | eai_again | getaddrinfo
        | name resolution | name or service not known | no such host | dns error | socket hang up | broken pipe | network is unreachable
        | no route to host | cannot connect to | unable to connect to | failed to connect to | connect call failed
        | fetch failed | failed to fetch
        | server disconnected | premature close | eof occurred | unexpected eof | incomplete chunked | incompleteread
        | certificate | ssl: | [ssl | ssl_ | handshake | dial tcp | reqwest::error | error sending request
        | typeerror: terminated | protocol error | expecting value | transport error | stream ended | could not read response
        | stream disconnected | error decoding response | payload is not completed | prematurely closed | unexpected end of
        | invalid json response""",
    ),
)
"""Keywords, last of all: only where no status is known."""

_TOO_MUCH = re.compile(r"\blimit:? ([\d,]{1,15})\b.{0,80}?\brequested:? ~?([\d,]{1,15})")
_PLAN = "please check your plan and billing"
_NO_CURE = (
    "certificate_verify_failed",
    "certificate verify failed",
    "failed to verify certificate",
    "unable to verify the first certificate",
    "unable to get local issuer",
    "self-signed certificate",
    "self signed certificate",
    "certificate has expired",
    "hostname mismatch",
    "x509:",
)


def plain(text: str) -> str:
    """What the rules look at: bounded, lower case, white space single, typographic apostrophes straight."""
    return _SPACE.sub(" ", clip(text, _HEAD, _TAIL)).lower().replace("\u2019", "'")


def overrules(text: str, status: int | None) -> Kind | None:
    """The category of the first sentence that may overrule *status*; *text* as `plain` gave it."""
    return Kind.CONTEXT_LENGTH if _never_fits(text) else _first(_RULES, text, status)


def hints(text: str) -> Kind | None:
    """The category that keywords suggest where nothing better is known."""
    return _first(_HINTS, text, None)


def current_quota(text: str) -> bool:
    """OpenAI writes this sentence about unpaid bills; Google writes the same one about requests a minute."""
    return _PLAN in text


def permanent(text: str) -> bool:
    """Does a network failure lie in a certificate, which no retry changes?"""
    return any(literal in text for literal in _NO_CURE)


def _never_fits(text: str) -> bool:
    """OpenAI, Groq: one request above what a minute allows. The wait they state never helps."""
    found = _TOO_MUCH.search(text) if "requested" in text else None
    if found is None:
        return False
    limit, requested = (int(number.replace(",", "") or "0") for number in found.groups())
    return requested > limit


def _first(rules: tuple[_MessageRule, ...], text: str, status: int | None) -> Kind | None:
    return next((rule.kind for rule in rules if rule.fits(text, status)), None)
