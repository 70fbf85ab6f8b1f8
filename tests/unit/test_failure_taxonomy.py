"""The table of categories, written out a second time, and what classification makes of statuses, headers and codes."""

from __future__ import annotations

import pytest

from resilience.breaker import BreakerPolicy, outcome_for
from resilience.errors import CircuitOpenError
from resilience.failure import (
    CATEGORY_RULES,
    BackoffMode,
    ErrorCategory,
    Evidence,
    Failure,
    RetryMode,
    classify_evidence,
)
from resilience.failure.body import ResponseBody
from resilience.failure.message import message_of
from resilience.failure.statuses import category_of_status
from resilience.failure.taxonomy import complete_table
from resilience.fallback import FallbackPolicy
from resilience.retry import RetryPolicy

NEVER, LAST, ONCE, ALWAYS = RetryMode.NEVER, RetryMode.LAST_RESORT, RetryMode.ONCE, RetryMode.ALWAYS
TABLE = {
    # category: (recoverable, counts as a failure, retry mode, fallback, backoff, honors Retry-After, cool-down)
    "timeout": (True, True, LAST, True, "exponential", True, None),
    "rate_limit": (True, False, LAST, True, "exponential", True, (None, None, False)),
    "service_unavailable": (True, True, LAST, True, "exponential", True, None),
    "overloaded": (True, True, LAST, True, "exponential", True, None),
    "server_error": (True, True, ONCE, True, "exponential", True, None),
    "network": (True, True, ALWAYS, True, "immediate_first", True, None),
    "output_invalid": (True, False, ALWAYS, True, "none", False, None),
    "output_truncated": (False, False, NEVER, True, "none", False, None),
    "invalid_request": (False, False, NEVER, False, "exponential", False, None),
    "context_length": (False, False, NEVER, False, "exponential", False, None),
    "content_policy": (False, False, NEVER, False, "exponential", False, None),
    "authentication": (False, False, NEVER, False, "exponential", False, (5.0, 60.0, True)),
    "permission": (False, False, NEVER, False, "exponential", False, None),
    "not_found": (False, False, NEVER, True, "exponential", False, None),
    "quota_exhausted": (False, False, NEVER, True, "exponential", True, (300.0, None, True)),
    "circuit_open": (True, False, NEVER, True, "none", False, None),
    "cancelled": (False, False, NEVER, False, "exponential", False, None),
    "unknown": (True, True, ALWAYS, True, "exponential", True, None),
}
EVIDENCE = {
    # One piece of evidence for each category. A new category needs one, else no exception leads to it.
    ErrorCategory.TIMEOUT: Evidence(status=408),
    ErrorCategory.RATE_LIMIT: Evidence(status=429),
    ErrorCategory.SERVICE_UNAVAILABLE: Evidence(status=503),
    ErrorCategory.OVERLOADED: Evidence(status=529),
    ErrorCategory.SERVER_ERROR: Evidence(status=500),
    ErrorCategory.NETWORK: Evidence(exception=ConnectionResetError()),
    ErrorCategory.OUTPUT_INVALID: Evidence(status=200, body='{"choices":[]}'),
    ErrorCategory.OUTPUT_TRUNCATED: Evidence(status=200, finish_reason="length"),
    ErrorCategory.INVALID_REQUEST: Evidence(status=400),
    ErrorCategory.CONTEXT_LENGTH: Evidence(status=413),
    ErrorCategory.CONTENT_POLICY: Evidence(status=200, finish_reason="SAFETY"),
    ErrorCategory.AUTHENTICATION: Evidence(status=401),
    ErrorCategory.PERMISSION: Evidence(status=403),
    ErrorCategory.NOT_FOUND: Evidence(status=404),
    ErrorCategory.QUOTA_EXHAUSTED: Evidence(status=402),
    ErrorCategory.CIRCUIT_OPEN: Evidence(exception=CircuitOpenError("A", reason="timeout")),
    ErrorCategory.CANCELLED: Evidence(exception=KeyboardInterrupt()),
    ErrorCategory.UNKNOWN: Evidence(exception=RuntimeError()),
}
STATUSES = {
    301: "invalid_request",
    400: "invalid_request",
    401: "authentication",
    402: "quota_exhausted",
    403: "permission",
    404: "not_found",
    405: "invalid_request",
    407: "authentication",
    408: "timeout",
    409: "rate_limit",
    410: "not_found",
    413: "context_length",
    415: "invalid_request",
    418: "invalid_request",
    422: "invalid_request",
    424: "server_error",
    425: "rate_limit",
    429: "rate_limit",
    451: "permission",
    498: "overloaded",
    499: "service_unavailable",
    500: "server_error",
    501: "invalid_request",
    502: "server_error",
    503: "service_unavailable",
    504: "service_unavailable",
    507: "server_error",
    520: "service_unavailable",
    521: "service_unavailable",
    522: "service_unavailable",
    523: "service_unavailable",
    524: "timeout",
    525: "service_unavailable",
    526: "service_unavailable",
    529: "overloaded",
    530: "service_unavailable",
    599: "timeout",
}


def test_table_is_the_contract() -> None:
    """Every category has the row that the contract gives it, and there are no others."""
    rows = {
        str(category): (
            rules.recoverable,
            rules.counts_as_failure,
            rules.retry_mode,
            rules.allow_fallback,
            BackoffMode(rules.backoff).value,
            rules.honors_retry_after,
            rules.cooldown and (rules.cooldown.seconds, rules.cooldown.max_seconds, rules.cooldown.doubling),
        )
        for category, rules in CATEGORY_RULES.items()
    }

    assert rows == TABLE
    assert list(TABLE) == [str(category) for category in ErrorCategory]


def test_a_category_without_a_row_fails_loudly() -> None:
    """A new member of ErrorCategory without its row fails at import, by name, and not at the first error it is for."""
    rows = dict(CATEGORY_RULES)
    del rows[ErrorCategory.NETWORK]

    with pytest.raises(LookupError, match=r"CATEGORY_RULES has no row for NETWORK: add a CategoryRules"):
        complete_table(rows)


def test_every_category_has_an_example() -> None:
    """No category is left out of the tests below."""
    assert list(EVIDENCE) == list(ErrorCategory)


@pytest.mark.parametrize(("category", "evidence"), EVIDENCE.items())
def test_every_category_goes_all_the_way(category: ErrorCategory, evidence: Evidence) -> None:
    """Classification, message, circuit, retry and fallback know every category."""
    failure = classify_evidence(evidence)
    rules = CATEGORY_RULES[category]
    outcome, cooldown = outcome_for(failure, seconds=1.0, policy=BreakerPolicy(), backoff=2.0)

    assert category is failure.category
    assert rules.message in message_of(category, Evidence(), ResponseBody())
    assert rules.counts_as_failure == (outcome.value == "failure")
    assert (rules.cooldown is not None) == (cooldown is not None)
    assert rules.retry_mode is RetryPolicy().retry_mode_for(failure)
    assert rules.allow_fallback == FallbackPolicy().allows(category)


def test_failure_knows_its_row() -> None:
    """A failure leads to the rules of its category."""
    failure = Failure(category=ErrorCategory.NETWORK, recoverable=True, counts_against_client=True)

    assert CATEGORY_RULES[ErrorCategory.NETWORK] is failure.rules


@pytest.mark.parametrize(("status", "category"), STATUSES.items())
def test_bare_status(status: int, category: str) -> None:
    """Where nothing but a status is known, it decides."""
    failure = classify_evidence(Evidence(status=status))

    assert (category, status) == (failure.category, failure.status)
    assert CATEGORY_RULES[failure.category].recoverable == failure.recoverable
    assert CATEGORY_RULES[failure.category].counts_as_failure == failure.counts_against_client


@pytest.mark.parametrize(
    ("body", "category"),
    [
        ("<html><h1>502 Bad Gateway</h1><hr>nginx</html>", ErrorCategory.SERVICE_UNAVAILABLE),
        ("502 Bad Gateway", ErrorCategory.SERVICE_UNAVAILABLE),
        ('{"error":{"message":"Bad gateway.","type":"server_error"}}', ErrorCategory.SERVER_ERROR),
        ("", ErrorCategory.SERVER_ERROR),
    ],
)
def test_bad_gateways(body: str, category: ErrorCategory) -> None:
    """A gateway's page means that no server is behind it; a 502 in the provider's own JSON is a failure of the provider."""
    assert classify_evidence(Evidence(status=502, body=body)).category is category


def test_odd_statuses_are_total() -> None:
    """Numbers that are no HTTP status have a category too."""
    assert ErrorCategory.UNKNOWN is category_of_status(0)
    assert ErrorCategory.SERVER_ERROR is category_of_status(999)


@pytest.mark.parametrize(
    ("status", "starts_cooldown"),
    [(429, True), (401, True), (402, True), (409, False), (425, False), (403, False), (500, False)],
)
def test_statuses_that_start_a_cooldown(status: int, starts_cooldown: bool) -> None:  # noqa: FBT001 - a parameter of the table above
    """Throttling, credentials and billing start a cool-down for the fleet; 409 and 425 only look like throttling."""
    assert classify_evidence(Evidence(status=status)).starts_cooldown is starts_cooldown


@pytest.mark.parametrize("body", ["ThrottlingException", '{"__type":"com.amazon.coral#ThrottlingException"}'])
def test_throttling_by_code_starts_a_cooldown(body: str) -> None:
    """AWS throttles with a 400; that starts a cool-down like any other."""
    failure = classify_evidence(Evidence(status=400, body=body))

    assert (failure.category, failure.starts_cooldown) == (ErrorCategory.RATE_LIMIT, True)


@pytest.mark.parametrize(
    ("header", "should_retry", "recoverable"),
    [("true", True, True), ("FALSE", False, False), ("maybe", None, True), ("", None, True)],
)
def test_should_retry(header: str, should_retry: bool | None, recoverable: bool) -> None:  # noqa: FBT001 - parameters
    """The provider's `false` makes a failure unrecoverable; the header is passed on, and nonsense is ignored."""
    failure = classify_evidence(Evidence(status=503, headers={"x-should-retry": header}))

    assert (should_retry, recoverable) == (failure.should_retry, failure.recoverable)


def test_should_retry_pays_no_bill() -> None:
    """A general `x-should-retry: true` does not make an unpaid bill recoverable."""
    failure = classify_evidence(
        Evidence(
            status=429, headers={"x-should-retry": "true"}, body='{"error":{"code":"insufficient_quota"}}'
        )
    )

    assert (failure.category, failure.recoverable) == (ErrorCategory.QUOTA_EXHAUSTED, False)


@pytest.mark.parametrize(
    "name", ["x-request-id", "request-id", "x-amzn-requestid", "apim-request-id", "cf-ray"]
)
def test_request_id_from_headers(name: str) -> None:
    """The provider's own id of the request is kept for its support."""
    assert classify_evidence(Evidence(status=500, headers={name: "req_1"})).provider_request_id == "req_1"


def test_request_id_from_body() -> None:
    """Anthropic repeats the id in the body, which is all that an event of a stream has."""
    assert (
        classify_evidence(Evidence(body='{"type":"error","request_id":"req_2"}')).provider_request_id
        == "req_2"
    )


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ('{"error":{"type":"tokens","code":"rate_limit_exceeded"}}', "rate_limit_exceeded"),
        ('{"error":{"type":"server_error","code":null}}', "server_error"),
        ('{"error":{"code":429}}', None),
        ('{"error":{"code":"429","type":"error"}}', None),
    ],
)
def test_provider_code(body: str, code: str | None) -> None:
    """The code that decided is reported; numbers and the word error are no codes."""
    assert classify_evidence(Evidence(status=429, body=body)).provider_code == code


def test_code_from_a_header() -> None:
    """AWS names the error in a header, with a URL behind it."""
    failure = classify_evidence(
        Evidence(status=400, headers={"x-amzn-errortype": "ThrottlingException:http://internal/"})
    )

    assert failure.category is ErrorCategory.RATE_LIMIT
