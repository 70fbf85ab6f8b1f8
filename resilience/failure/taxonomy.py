"""What can go wrong with an attempt, and what each kind of trouble means: the table of DESIGN section 6."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType


class ErrorCategory(StrEnum):
    """The kinds of failure. The values are what SQL rows, logs and metrics carry."""

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
    """May the same client be asked again?"""

    NEVER = "never"
    LAST_RESORT = "last_resort"
    """Only while no other client is free."""
    ONCE = "once"
    """Once although another client is free; to the policy's limit when none is."""
    YES = "yes"


class BackoffMode(StrEnum):
    """How long before the same client is asked again."""

    NONE = "none"
    BACKOFF = "backoff"
    FIRST_AT_ONCE = "first_at_once"
    """The first retry at once, then backoff."""


@dataclass(frozen=True, slots=True)
class CategoryRules:
    """One row of the table."""

    recoverable: bool
    """May the same request succeed later, without anyone changing it or paying a bill?"""
    counts_as_failure: bool
    """Does it count against the client's circuit?"""
    patience: RetryMode
    allow_fallback: bool
    """May the next client be asked, unless the policy says otherwise?"""
    wait: BackoffMode = BackoffMode.BACKOFF


_NEVER, _LAST, _ONCE, _YES = RetryMode.NEVER, RetryMode.LAST_RESORT, RetryMode.ONCE, RetryMode.YES

CATEGORY_RULES: Mapping[ErrorCategory, CategoryRules] = MappingProxyType(
    {
        ErrorCategory.TIMEOUT: CategoryRules(True, True, _LAST, True),
        ErrorCategory.RATE_LIMIT: CategoryRules(True, False, _LAST, True),
        ErrorCategory.SERVICE_UNAVAILABLE: CategoryRules(True, True, _LAST, True),
        ErrorCategory.OVERLOADED: CategoryRules(True, True, _LAST, True),
        ErrorCategory.SERVER_ERROR: CategoryRules(True, True, _ONCE, True),
        ErrorCategory.NETWORK: CategoryRules(True, True, _YES, True, BackoffMode.FIRST_AT_ONCE),
        ErrorCategory.OUTPUT_INVALID: CategoryRules(True, False, _YES, True, BackoffMode.NONE),
        ErrorCategory.OUTPUT_TRUNCATED: CategoryRules(False, False, _NEVER, True, BackoffMode.NONE),
        ErrorCategory.INVALID_REQUEST: CategoryRules(False, False, _NEVER, False),
        ErrorCategory.CONTEXT_LENGTH: CategoryRules(False, False, _NEVER, False),
        ErrorCategory.CONTENT_POLICY: CategoryRules(False, False, _NEVER, False),
        ErrorCategory.AUTHENTICATION: CategoryRules(False, False, _NEVER, False),
        ErrorCategory.PERMISSION: CategoryRules(False, False, _NEVER, False),
        ErrorCategory.NOT_FOUND: CategoryRules(False, False, _NEVER, True),
        ErrorCategory.QUOTA_EXHAUSTED: CategoryRules(False, False, _NEVER, True),
        ErrorCategory.CIRCUIT_OPEN: CategoryRules(True, False, _NEVER, True, BackoffMode.NONE),
        ErrorCategory.CANCELLED: CategoryRules(False, False, _NEVER, False),
        ErrorCategory.UNKNOWN: CategoryRules(True, True, _YES, True),
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """What an exception turned out to be. Holds no prompt, no output and no key.

    Attributes:
        category: the kind of failure.
        recoverable: may the same request succeed later?
        counts_against_client: does it hurt the client's circuit?
        retry_after: the wait the provider stated, in seconds; None when it stated none.
        status: the HTTP status the provider really sent; None when no answer came from a server.
        provider_code: the provider's own code or type for it, for example `insufficient_quota`.
        provider_request_id: the provider's id of the request, for its support.
        message: one line for people, redacted and at most 300 characters.
        exception_type: the class name of the exception.
        should_retry: the provider's own word (`x-should-retry`), which wins over the table; None without one.
        cools_client: must the client be left alone for a while (rate limit, billing, credentials)?
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
    cools_client: bool = False

    @property
    def traits(self) -> CategoryRules:
        """The table's row for this category."""
        return CATEGORY_RULES[self.category]


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What an attempt left behind, without the library it came from.

    Attributes:
        exception: the exception itself; its text is the last thing to be looked at.
        status: the HTTP status, only if a server really sent it.
        headers: the real response headers, names in lower case.
        body: the response body as text.
        finish_reason: why the provider stopped, where it said so.
        configuration: the attempt never got as far as a request (unknown client, missing key, bad argument).
        connected: False when it is certain that nothing was sent to the provider; None when unknown.
    """

    exception: BaseException | None = None
    status: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    body: str | None = None
    finish_reason: str | None = None
    configuration: bool = False
    connected: bool | None = None
