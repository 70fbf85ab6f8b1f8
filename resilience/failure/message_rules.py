"""Tables of sentences: what providers write where no code decides, or where status and code mislead.

A rule is a list of literals and at most one pattern. It matches a text that contains a literal and, where it has a pattern,
the pattern too; literals are tested first because they are fast. The first rule that matches wins, so exceptions come
before the rule they belong to. `statuses` limits a rule to the statuses that it may overrule. Numbers in a sentence are
never a status. Comments name the providers with that wording; `tests/data/provider_errors.jsonl` and the tests hold the
bodies, each with its source.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from resilience.failure.body import clip
from resilience.failure.taxonomy import ErrorCategory as Category

_HEAD, _TAIL = 12_000, 4_000
"""Characters at the start and the end of a text that rules search."""

_SPACE = re.compile(r"\s+")

_NO_STATUS = frozenset({None})
"""No status, or one of success: the error came inside a stream."""
_SERVER = _NO_STATUS | frozenset(range(500, 600))
_BUSY = _SERVER | {408, 429, 498}
_THROTTLED = _SERVER | {400, 403, 429}
_REQUEST = _NO_STATUS | {400, 401, 403, 404, 422}


@dataclass(frozen=True, slots=True)
class _MessageRule:
    category: Category
    literals: tuple[str, ...]
    pattern: re.Pattern[str] | None = None
    statuses: frozenset[int | None] | None = None

    def matches(self, text: str, status: int | None) -> bool:
        if self.statuses is not None and status not in self.statuses:
            return False
        if not any(literal in text for literal in self.literals):
            return False
        return self.pattern is None or self.pattern.search(text) is not None


def _rule(
    category: Category,
    literals: str,
    *,
    pattern: str | None = None,
    statuses: frozenset[int | None] | None = None,
) -> _MessageRule:
    """Return a rule.

    Args:
        category: what a matching text means.
        literals: alternatives in lower case, separated by bars; white space around a bar is ignored.
        pattern: a regular expression that must be found as well.
        statuses: the statuses that the rule may overrule; None for all.
    """
    stripped = tuple(filter(None, (literal.strip() for literal in literals.split("|"))))
    return _MessageRule(category, stripped, None if pattern is None else re.compile(pattern), statuses)


_RULES = (
    # Bedrock, Cerebras, Meta: tokens of a minute, not of the context.
    _rule(
        Category.RATE_LIMIT,
        """too many tokens, please wait | wait before trying again | too many tokens processed
        | tokens allowed within a given time""",
    ),
    # OpenAI's and Groq's sentence goes on about payment; Together's has the type `credit_limit`. So they come before billing.
    _rule(Category.RATE_LIMIT, "rate limit reached for | you have been rate limited", statuses=_THROTTLED),
    # Anthropic's goes on "please reduce the prompt length".
    _rule(
        Category.RATE_LIMIT,
        "rate limit",
        pattern=r"would exceed (?:your|the) .{0,40}rate limit",
        statuses=_THROTTLED,
    ),
    # Capacity, some of it under 429: Azure at peak load, Anthropic, Google, Moonshot, Groq, Cerebras, Ollama, Codex.
    _rule(
        Category.OVERLOADED,
        """overloaded | high demand | peak load | at capacity | over capacity | no capacity | capacity exceeded
        | insufficient capacity | out of capacity | too busy | server is busy | server busy | high load | heavy load
        | high traffic | high volume of traffic | queue is full | queue_exceeded | temporarily overwhelmed
        | pending requests exceeded | no slots available | servers are busy | capacity temporarily | model is busy""",
        statuses=_BUSY,
    ),
    # Billing: OpenAI, Anthropic, DeepSeek, xAI, OpenRouter, Together, Fireworks (412), Hugging Face, Moonshot, Zhipu, LiteLLM,
    # Bedrock.
    _rule(
        Category.QUOTA_EXHAUSTED,
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
        | invalid_payment_instrument | valid payment instrument
        | 余额不足 | 欠费 | 充值 | 资源包""",
    ),
    _rule(Category.QUOTA_EXHAUSTED, "add | buy", pattern=r"\b(?:add|buy) \$?\d{1,6} (?:more )?credits"),
    # Google: the tier has no quota for this model at all, so the delay it states does not help.
    _rule(Category.QUOTA_EXHAUSTED, "quota exceeded for metric", pattern=r"\blimit: 0\b"),
    # Content: Azure, OpenAI, Anthropic, Google, OpenRouter's moderation, Alibaba, DeepSeek.
    _rule(
        Category.CONTENT_POLICY,
        """content management policy | content filter | content_filter | content policy | content_policy
        | responsibleaipolicyviolation | usage policy | usage policies | usage guidelines | acceptable use policy
        | safety system | blocked due to | blocked by safety | prompt was blocked | content was blocked
        | safety reasons | prohibited_content | prohibited content
        | inappropriate content | content exists risk | considered high risk | was flagged | requires moderation | flagged by
        | flagged as | harmful content | unsafe content | sensitive content | sensitive words | sensitive information
        | new_sensitive | nsfw | 敏感""",
        statuses=_REQUEST | {451, 498, 500},
    ),
    # Bedrock, LiteLLM, Portkey; not OpenRouter's restrictions of who may answer.
    _rule(
        Category.CONTENT_POLICY,
        "guardrail",
        pattern=r"guardrails?\b.{0,80}?\b(?:block|interven|violat|trigger|flag|reject|fail|denied)"
        r"|\b(?:block|violat|flag|reject|trigger|fail|denied)\w*\b.{0,80}?guardrail",
        statuses=_REQUEST | {451, 498, 500},
    ),
    # Length: OpenAI and its imitators, Anthropic, Google, Bedrock, Cohere, Mistral, xAI, TGI, vLLM, llama.cpp, LM Studio.
    _rule(
        Category.CONTEXT_LENGTH,
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
        Category.CONTEXT_LENGTH,
        "context window",
        pattern=r"(?:exceed|larger|longer|too|over|outside|fit)[^.]{0,60}context window"
        r"|context window[^.]{0,60}(?:exceed|too|limit|full)",
    ),
    _rule(Category.CONTEXT_LENGTH, "prompt", pattern=r"\bprompt \([^)]{1,60}\) is too long"),
    _rule(
        Category.CONTEXT_LENGTH, "max context", pattern=r"\bexceeds? (?:the )?(?:model |model's )?max context"
    ),
    _rule(
        Category.CONTEXT_LENGTH,
        "maximum context length",
        pattern=r"too large for model with \d+ maximum context length",
    ),
    # vLLM works out max_tokens as the window minus the prompt.
    _rule(Category.CONTEXT_LENGTH, "max_tokens must be at least 1", pattern=r"got -\d"),
    # Geography (Google sends 400), a gateway's own block, accounts that were closed (Anthropic sends 400).
    _rule(
        Category.PERMISSION,
        """location is not supported | country, region, or territory | not available in your country
        | not available in your region | not supported in your region | not supported in your country
        | you have been blocked | error 1020 | attention required! | organization has been disabled
        | organization must be verified | access is denied due to | is not authorized to perform
        | is not allowed to use publisher model | has not been used in project""",
        statuses=_REQUEST | {429, 451, 500, 503},
    ),
    # Credentials: Gemini answers 400, AWS 403.
    _rule(
        Category.AUTHENTICATION,
        """api key not valid | api key not found | api key expired | invalid api key | incorrect api key | wrong api key | api key is invalid
        | invalid api token | access token invalid | invalid access token | login fail
        | invalid x-api-key | invalid bearer token | security token included in the request | no auth credentials
        | invalid authentication | missing authentication | missing api key | no api key | token has expired
        | token is expired | unable to locate credentials | could not resolve authentication method | api_key client option
        | signature we calculated does not match""",
        statuses=_NO_STATUS | {400, 401, 403},
    ),
    # No such model: LM Studio, Ollama, OpenRouter, Bedrock, OpenAI, xAI, Google, DeepSeek.
    _rule(
        Category.NOT_FOUND,
        """does not exist or you do not have access | try pulling it first | no models loaded | no endpoints found
        | no endpoints available
        | is not a valid model | no such model | unknown model | model not found | model_not_found | model not exist
        | model identifier is invalid | could not resolve the foundation model | has been decommissioned
        | deployment for this resource does not exist | is not found for api version | invalid model name
        | may not exist or you may not have access | not supported by any provider | model not supported | 模型不存在""",
        statuses=_NO_STATUS | {400, 404, 422, 500},
    ),
    _rule(
        Category.NOT_FOUND,
        "model",
        pattern=r"\bmodel\b.{1,120}?\b(?:not found|does not exist)|\binvalid model:? ['\"`]",
        statuses=_NO_STATUS | {400, 404, 422, 500},
    ),
    # Throttling in words, also with a gateway's 500 and AWS's 400.
    _rule(
        Category.RATE_LIMIT,
        """too many requests | too many concurrent | rate limit exceeded | rate limit is exceeded | rate limit has been | rate_limit_exceeded
        | rate-limited | rate limited | reached the rate limit | hit the rate limit | hit your rate limit | rate limit reached | requests rate limit | token rate limit | call rate limit
        | error code: 1015 | error 1015 | request rate | per minute limit exceeded | concurrency limit | reached max request
        | request too frequent | requests too frequent | resource exhausted | resource has been exhausted
        | resource_exhausted | throttl | quota exceeded | exhausted your capacity | hit a rate limit | due to rate limiting
        | request limit reached""",
        statuses=_THROTTLED,
    ),
    _rule(
        Category.RATE_LIMIT,
        "rate limit of | per minute) limit | per day) limit",
        pattern=r"\blimit (?:of|for) .{1,80}\bexceeded",
        statuses=_THROTTLED,
    ),
    # A gateway in front of a silent provider: nginx, HAProxy, Envoy, Cloudflare, Google, Bedrock.
    _rule(
        Category.TIMEOUT,
        """gateway time-out | gateway timeout | a timeout occurred | deadline expired | deadline exceeded | deadline_exceeded
        | upstream request timeout | upstream timed out | stream timeout | request timed out | request timeout
        | timed out waiting | timed out while waiting | model timed out | didn't respond in time | response timed out
        | operation was timeout | upstream server is timing out""",
        statuses=_NO_STATUS | {408, 424, 500, 502, 503, 504, 524},
    ),
    # A gateway without a server behind it, and servers that are still starting: Envoy, Cloudflare, TGI, llama.cpp, Bedrock.
    _rule(
        Category.SERVICE_UNAVAILABLE,
        """upstream connect error | no healthy upstream | currently loading | loading model | still loading
        | service unavailable | temporarily unavailable | currently unavailable | service is unavailable
        | model is not ready | model not ready | network connection lost | under maintenance | shutting down
        | no server is available | web server is down | origin is unreachable | unable to process your request""",
        statuses=_SERVER - {504, 524},
    ),
    _rule(Category.SERVICE_UNAVAILABLE, "bad gateway", statuses=_NO_STATUS),
    # LM Studio loads a model at its first request.
    _rule(Category.SERVICE_UNAVAILABLE, "failed to load model", statuses=_SERVER | {400, 404}),
)
"""Sentences that outrank the status."""

_KEYWORDS = (
    _rule(Category.CANCELLED, "request was aborted | aborted by the user | operation was aborted"),
    _rule(
        Category.OUTPUT_TRUNCATED,
        "length limit was reached | max_tokens limit was reached | incomplete due to a max",
    ),
    _rule(
        Category.OUTPUT_INVALID,
        """quick accessor only works | empty response | no content in response | returned no content
        | no choices | failed to parse llm response | generatecontentresponse( | modelresponse( | chatcompletion(""",
    ),
    _rule(
        Category.SERVER_ERROR,
        """has crashed | unexpectedly stopped | process has terminated | had an error while processing | experienced an error while
        | error occurred while processing your request | internal error | internal server error
        | unexpected error during processing""",
    ),
    _rule(Category.INVALID_REQUEST, "the model returned the following errors"),
    _rule(Category.TIMEOUT, "timed out | timeout | timedout | deadline exceeded | time-out | 超时"),
    _rule(
        Category.NETWORK,
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
"""Keywords, the weakest evidence: used only where no status is known."""

_LIMIT_AND_REQUESTED = re.compile(r"\blimit:? ([\d,]{1,15})\b.{0,80}?\brequested:? ~?([\d,]{1,15})")
_PLAN_AND_BILLING = "please check your plan and billing"
_CERTIFICATE_FAULTS = (
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


def normalize(text: str) -> str:
    """Return what the rules search: *text* bounded, in lower case, with single spaces and straight apostrophes."""
    return _SPACE.sub(" ", clip(text, _HEAD, _TAIL)).lower().replace("\u2019", "'")


def category_of_message(text: str, status: int | None) -> Category | None:
    """Return the category of the first rule that matches and may overrule *status*; *text* is normalised."""
    return Category.CONTEXT_LENGTH if _never_fits(text) else _first(_RULES, text, status)


def category_of_keywords(text: str) -> Category | None:
    """Return the category that keywords of the normalised *text* suggest; None without any."""
    return _first(_KEYWORDS, text, None)


def mentions_current_quota(text: str) -> bool:
    """Return whether *text* has the sentence that OpenAI writes about unpaid bills and Google about requests a minute."""
    return _PLAN_AND_BILLING in text


def is_permanent(text: str) -> bool:
    """Return whether a network failure lies in a certificate, which no retry changes."""
    return any(literal in text for literal in _CERTIFICATE_FAULTS)


def _never_fits(text: str) -> bool:
    """Return whether one request alone is larger than the limit of a minute (OpenAI, Groq): no wait helps then."""
    match = _LIMIT_AND_REQUESTED.search(text) if "requested" in text else None
    if match is None:
        return False
    limit, requested = (int(number.replace(",", "") or "0") for number in match.groups())
    return requested > limit


def _first(rules: tuple[_MessageRule, ...], text: str, status: int | None) -> Category | None:
    return next((rule.category for rule in rules if rule.matches(text, status)), None)
