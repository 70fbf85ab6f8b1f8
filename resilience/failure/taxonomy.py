"""The error categories and the one table that says what each of them means.

A category is one member of `ErrorCategory` and one row of `CATEGORY_RULES`. Everything that depends on the category reads
its row: whether and when to retry, whether to fall back, what the circuit counts, the cool-down and the stock message.
A member without a row fails at import. To let evidence lead to a new category, add its codes to `codes.py` and its rules to
`meaning.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from resilience.redaction import SentText


class ErrorCategory(StrEnum):
    """The categories of failure. SQL rows, log events and metrics carry the values."""

    TIMEOUT = "timeout"
    RATE_LIMIT = "rate_limit"
    SERVICE_UNAVAILABLE = "service_unavailable"
    OVERLOADED = "overloaded"
    SERVER_ERROR = "server_error"
    NETWORK = "network"
    OUTPUT_INVALID = "output_invalid"
    OUTPUT_TRUNCATED = "output_truncated"
    INVALID_REQUEST = "invalid_request"
    CONTEXT_LENGTH = "context_length"
    CONTENT_POLICY = "content_policy"
    AUTHENTICATION = "authentication"
    PERMISSION = "permission"
    NOT_FOUND = "not_found"
    QUOTA_EXHAUSTED = "quota_exhausted"
    CIRCUIT_OPEN = "circuit_open"
    CANCELLED = "cancelled"
    UNKNOWN = "unknown"


class RetryMode(StrEnum):
    """When the same client may be asked again."""

    NEVER = "never"
    LAST_RESORT = "last_resort"
    """Only while no other client is free."""
    ONCE = "once"
    """Once even if another client is free; up to the policy's limit if none is."""
    ALWAYS = "always"
    """Up to the policy's limit, even if another client is free."""


class BackoffMode(StrEnum):
    """How long to wait before the same client is asked again."""

    NONE = "none"
    """Ask again immediately."""
    EXPONENTIAL = "exponential"
    """Wait for the backoff of `RetryPolicy`."""
    IMMEDIATE_FIRST = "immediate_first"
    """Make the first retry immediately, further ones after the backoff."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CooldownRules:
    """How long a client is left alone after a failure that starts a cool-down.

    A wait that the provider stated replaces *seconds* and does not double, where `CategoryRules.honors_retry_after`.

    Attributes:
        seconds: length of the cool-down in seconds; None for the backoff of the failed attempt.
        max_seconds: upper limit in seconds, if it is below `BreakerPolicy.cooldown_max`; None for that limit alone.
        doubling: whether the length doubles each time until a success. One that a provider stated grows more slowly.
    """

    seconds: float | None = None
    max_seconds: float | None = None
    doubling: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class CategoryRules:
    """One row of the table: everything that depends on the category.

    Attributes:
        message: the text for people where the provider sent no sentence of its own.
        recoverable: whether the same request may succeed later, without a change to it and without a payment.
        counts_as_failure: whether it counts as a failure for the client's circuit.
        retry_mode: when the same client may be asked again.
        allow_fallback: whether the next client may be asked, unless `FallbackPolicy.on` says otherwise.
        backoff: how long to wait before the same client is asked again.
        honors_retry_after: whether waiting can help, so that a stated wait is used. A gateway also writes
            "(reset after 23s)" behind a bad request; there it makes nothing recoverable and is ignored.
        cooldown: the cool-down that a failure of this category starts; None for no cool-down.
    """

    message: str
    recoverable: bool
    counts_as_failure: bool
    retry_mode: RetryMode
    allow_fallback: bool
    backoff: BackoffMode = BackoffMode.EXPONENTIAL
    honors_retry_after: bool = False
    cooldown: CooldownRules | None = None


def complete_table(rows: Mapping[ErrorCategory, CategoryRules]) -> Mapping[ErrorCategory, CategoryRules]:
    """Return *rows* as a read-only mapping.

    Raises:
        LookupError: a category has no row. Without this check the first error of that category would raise a KeyError
            inside `classify`, which answers every exception with `unknown`.
    """
    missing = [category.name for category in ErrorCategory if category not in rows]
    if missing:
        msg = f"CATEGORY_RULES has no row for {', '.join(missing)}: add a CategoryRules for each member of ErrorCategory"
        raise LookupError(msg)
    return MappingProxyType(dict(rows))


CATEGORY_RULES: Final = complete_table(
    {
        # 408, 524, our own attempt_timeout. A silent client is likely to be silent again, and each try costs the whole limit:
        # the same client is asked again only if no other is free.
        ErrorCategory.TIMEOUT: CategoryRules(
            message="no answer in time",
            recoverable=True,
            counts_as_failure=True,
            retry_mode=RetryMode.LAST_RESORT,
            allow_fallback=True,
            honors_retry_after=True,
        ),
        # 429 and throttling codes. The client is healthy, so its circuit counts nothing; a cool-down keeps the whole fleet away
        # for the stated wait, or for the backoff where none is stated.
        ErrorCategory.RATE_LIMIT: CategoryRules(
            message="too many requests",
            recoverable=True,
            counts_as_failure=False,
            retry_mode=RetryMode.LAST_RESORT,
            allow_fallback=True,
            honors_retry_after=True,
            cooldown=CooldownRules(),
        ),
        # 503, 504, 520 to 523, a gateway without a server behind it.
        ErrorCategory.SERVICE_UNAVAILABLE: CategoryRules(
            message="the provider is not available",
            recoverable=True,
            counts_as_failure=True,
            retry_mode=RetryMode.LAST_RESORT,
            allow_fallback=True,
            honors_retry_after=True,
        ),
        # 529 and codes for missing capacity. Further requests make it worse, so another client comes first.
        ErrorCategory.OVERLOADED: CategoryRules(
            message="the provider is overloaded",
            recoverable=True,
            counts_as_failure=True,
            retry_mode=RetryMode.LAST_RESORT,
            allow_fallback=True,
            honors_retry_after=True,
        ),
        # 500, 502. Often a single bad request or machine, so one retry is worth it before the next client.
        ErrorCategory.SERVER_ERROR: CategoryRules(
            message="the provider failed",
            recoverable=True,
            counts_as_failure=True,
            retry_mode=RetryMode.ONCE,
            allow_fallback=True,
            honors_retry_after=True,
        ),
        # Refused, reset, DNS, TLS, a response that is not the protocol. A fresh connection usually works, hence the immediate
        # first retry.
        ErrorCategory.NETWORK: CategoryRules(
            message="the connection failed",
            recoverable=True,
            counts_as_failure=True,
            retry_mode=RetryMode.ALWAYS,
            allow_fallback=True,
            backoff=BackoffMode.IMMEDIATE_FIRST,
            honors_retry_after=True,
        ),
        # The answer does not parse or is empty. Sampling again gives another answer; waiting changes nothing. The limit is
        # `RetryPolicy.max_output_retries`.
        ErrorCategory.OUTPUT_INVALID: CategoryRules(
            message="the answer does not match the return type of the function",
            recoverable=True,
            counts_as_failure=False,
            retry_mode=RetryMode.ALWAYS,
            allow_fallback=True,
            backoff=BackoffMode.NONE,
        ),
        # The same client would stop at the same limit.
        ErrorCategory.OUTPUT_TRUNCATED: CategoryRules(
            message="the answer was cut at the token limit",
            recoverable=False,
            counts_as_failure=False,
            retry_mode=RetryMode.NEVER,
            allow_fallback=True,
            backoff=BackoffMode.NONE,
        ),
        # 400, 422, wrong arguments: every client would refuse it, so the caller learns of it at once.
        ErrorCategory.INVALID_REQUEST: CategoryRules(
            message="the request or its configuration is wrong",
            recoverable=False,
            counts_as_failure=False,
            retry_mode=RetryMode.NEVER,
            allow_fallback=False,
        ),
        # Falls back to `FallbackPolicy.context_clients` first, then to clients that were not asked: one of them may have room.
        ErrorCategory.CONTEXT_LENGTH: CategoryRules(
            message="the request is too long for this client",
            recoverable=False,
            counts_as_failure=False,
            retry_mode=RetryMode.NEVER,
            allow_fallback=False,
        ),
        # Falls back only to `FallbackPolicy.content_clients`: whether to look for a more lenient filter is the user's choice.
        ErrorCategory.CONTENT_POLICY: CategoryRules(
            message="refused by the provider's content filter",
            recoverable=False,
            counts_as_failure=False,
            retry_mode=RetryMode.NEVER,
            allow_fallback=False,
        ),
        # Raised at once, so that a wrong key is noticed. The cool-down is short because a key may be in rotation.
        ErrorCategory.AUTHENTICATION: CategoryRules(
            message="the credentials were refused",
            recoverable=False,
            counts_as_failure=False,
            retry_mode=RetryMode.NEVER,
            allow_fallback=False,
            cooldown=CooldownRules(seconds=5.0, max_seconds=60.0, doubling=True),
        ),
        # 403, regions, closed accounts. Like a wrong key, it should be noticed.
        ErrorCategory.PERMISSION: CategoryRules(
            message="not permitted",
            recoverable=False,
            counts_as_failure=False,
            retry_mode=RetryMode.NEVER,
            allow_fallback=False,
        ),
        # 404 or 410 for a model or deployment: another client has another model.
        ErrorCategory.NOT_FOUND: CategoryRules(
            message="no such model or deployment",
            recoverable=False,
            counts_as_failure=False,
            retry_mode=RetryMode.NEVER,
            allow_fallback=True,
        ),
        # Billing under any status. A retry does not pay the bill, so the cool-down is long: `BreakerPolicy.cooldown_max`, or the
        # stated reset if that comes sooner. It doubles until a call succeeds, where a policy allows more.
        ErrorCategory.QUOTA_EXHAUSTED: CategoryRules(
            message="the account's quota or credit is used up",
            recoverable=False,
            counts_as_failure=False,
            retry_mode=RetryMode.NEVER,
            allow_fallback=True,
            honors_retry_after=True,
            cooldown=CooldownRules(seconds=300.0, doubling=True),
        ),
        # Our own refusal. Its wait comes from the exception, never from a text.
        ErrorCategory.CIRCUIT_OPEN: CategoryRules(
            message="the circuit does not admit attempts",
            recoverable=True,
            counts_as_failure=False,
            retry_mode=RetryMode.NEVER,
            allow_fallback=True,
            backoff=BackoffMode.NONE,
        ),
        # The caller's own doing, which says nothing about the client.
        ErrorCategory.CANCELLED: CategoryRules(
            message="cancelled",
            recoverable=False,
            counts_as_failure=False,
            retry_mode=RetryMode.NEVER,
            allow_fallback=False,
        ),
        # Retried and counted: an outage with an unknown error must still open the circuit.
        ErrorCategory.UNKNOWN: CategoryRules(
            message="an error of unknown kind",
            recoverable=True,
            counts_as_failure=True,
            retry_mode=RetryMode.ALWAYS,
            allow_fallback=True,
            honors_retry_after=True,
        ),
    }
)
"""The rules of every category, in the order of `ErrorCategory`. Read-only."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """What classification makes of an exception. Holds no prompt, no output and no key.

    Attributes:
        category: the category.
        recoverable: whether the same request may succeed later.
        counts_against_client: whether it counts as a failure for the client's circuit.
        retry_after: the wait that the provider stated, in seconds; None when it stated none.
        status: the HTTP status that a server really sent; None without a response.
        provider_code: the provider's own code or type, for example `insufficient_quota`.
        provider_request_id: the provider's id of the request, for its support.
        message: one line for people, redacted, at most 300 characters.
        exception_type: the class name of the exception.
        should_retry: the provider's own `x-should-retry`; see `RetryPolicy.retry_mode_for`. None without one.
        starts_cooldown: whether the client is left alone for a while (rate limit, billing, credentials).
        corrected: whether behaviour corrects the category: the client refuses every request as wrong, so that the next client may
            be asked.
        because: the evidence that decided, the strongest first, each with its weight; the last line speaks against it.
    """

    category: ErrorCategory
    recoverable: bool
    counts_against_client: bool
    retry_after: float | None = None
    status: int | None = None
    provider_code: str | None = None
    provider_request_id: str | None = None
    message: str = ""
    exception_type: str = ""
    should_retry: bool | None = None
    starts_cooldown: bool = False
    corrected: bool = False
    because: tuple[str, ...] = ()

    @property
    def rules(self) -> CategoryRules:
        """The table's row for this category."""
        return CATEGORY_RULES[self.category]


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What an attempt left behind, independent of the library that made the request.

    Attributes:
        exception: the exception itself; its text is looked at last.
        status: the HTTP status, only if a server really sent it.
        headers: the real response headers, names in lower case.
        body: the response body as text.
        finish_reason: why the provider stopped, where it said so.
        configuration: whether the attempt failed before a request could be built (unknown client, missing key, bad
            argument).
        connected: False when it is certain that nothing was sent to the provider; None when unknown.
        sent: what was sent. What the failure repeats of it is removed from its texts. None when unknown.
    """

    exception: BaseException | None = None
    status: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    body: str | None = None
    finish_reason: str | None = None
    configuration: bool = False
    connected: bool | None = None
    sent: SentText | None = field(default=None, repr=False, compare=False)
