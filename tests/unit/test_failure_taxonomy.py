"""The table of DESIGN section 6, written out, and what the judgement makes of it."""

from __future__ import annotations

import pytest

from resilience.failure import (
    CATEGORY_RULES,
    BackoffMode,
    CategoryRules,
    ErrorCategory,
    Evidence,
    Failure,
    RetryMode,
    classify_evidence,
)
from resilience.failure.statuses import of_status

NEVER, LAST, ONCE, YES = RetryMode.NEVER, RetryMode.LAST_RESORT, RetryMode.ONCE, RetryMode.YES
TABLE = {
    # category: (recoverable, hurts the circuit, retry the same client, next client, wait)
    "timeout": (True, True, LAST, True, "backoff"),
    "rate_limit": (True, False, LAST, True, "backoff"),
    "service_unavailable": (True, True, LAST, True, "backoff"),
    "overloaded": (True, True, LAST, True, "backoff"),
    "server_error": (True, True, ONCE, True, "backoff"),
    "network": (True, True, YES, True, "first_at_once"),
    "output_invalid": (True, False, YES, True, "none"),
    "output_truncated": (False, False, NEVER, True, "none"),
    "invalid_request": (False, False, NEVER, False, "backoff"),
    "context_length": (False, False, NEVER, False, "backoff"),
    "content_policy": (False, False, NEVER, False, "backoff"),
    "authentication": (False, False, NEVER, False, "backoff"),
    "permission": (False, False, NEVER, False, "backoff"),
    "not_found": (False, False, NEVER, True, "backoff"),
    "quota_exhausted": (False, False, NEVER, True, "backoff"),
    "circuit_open": (True, False, NEVER, True, "none"),
    "cancelled": (False, False, NEVER, False, "backoff"),
    "unknown": (True, True, YES, True, "backoff"),
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
    written = {
        kind: CategoryRules(row[0], row[1], row[2], row[3], BackoffMode(row[4]))
        for kind, row in TABLE.items()
    }

    assert written == {str(kind): traits for kind, traits in CATEGORY_RULES.items()}
    assert list(TABLE) == [str(kind) for kind in ErrorCategory]


def test_failure_knows_its_row() -> None:
    """A failure carries the traits of its category."""
    failure = Failure(category=ErrorCategory.NETWORK, recoverable=True, counts_against_client=True)

    assert CATEGORY_RULES[ErrorCategory.NETWORK] is failure.traits


@pytest.mark.parametrize(("status", "kind"), STATUSES.items())
def test_bare_status(status: int, kind: str) -> None:
    """Where nothing but a status is known, it decides."""
    failure = classify_evidence(Evidence(status=status))

    assert (kind, status) == (failure.category, failure.status)
    assert CATEGORY_RULES[failure.category].recoverable == failure.recoverable
    assert CATEGORY_RULES[failure.category].counts_as_failure == failure.counts_against_client


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        ("<html><h1>502 Bad Gateway</h1><hr>nginx</html>", ErrorCategory.SERVICE_UNAVAILABLE),
        ("502 Bad Gateway", ErrorCategory.SERVICE_UNAVAILABLE),
        ('{"error":{"message":"Bad gateway.","type":"server_error"}}', ErrorCategory.SERVER_ERROR),
        ("", ErrorCategory.SERVER_ERROR),
    ],
)
def test_bad_gateways(body: str, kind: ErrorCategory) -> None:
    """An edge's page says that nobody is behind it; a 502 in the provider's own JSON is a failure of the provider."""
    assert classify_evidence(Evidence(status=502, body=body)).category is kind


def test_odd_statuses_are_total() -> None:
    """Numbers that are no HTTP status mean nothing, and do no harm."""
    assert ErrorCategory.UNKNOWN is of_status(0)
    assert ErrorCategory.SERVER_ERROR is of_status(999)


@pytest.mark.parametrize(
    ("status", "cools"),
    [(429, True), (401, True), (402, True), (409, False), (425, False), (403, False), (500, False)],
)
def test_cooling(status: int, cools: bool) -> None:  # noqa: FBT001 - a parameter of the table above
    """Throttling, credentials and billing cool the client for the fleet; 409 and 425 only look like throttling."""
    assert classify_evidence(Evidence(status=status)).cools_client is cools


@pytest.mark.parametrize("body", ["ThrottlingException", '{"__type":"com.amazon.coral#ThrottlingException"}'])
def test_throttling_by_code_cools(body: str) -> None:
    """AWS throttles with a 400; it cools the client like any other."""
    failure = classify_evidence(Evidence(status=400, body=body))

    assert (failure.category, failure.cools_client) == (ErrorCategory.RATE_LIMIT, True)


@pytest.mark.parametrize(
    ("word", "said", "recoverable"),
    [("true", True, True), ("FALSE", False, False), ("maybe", None, True), ("", None, True)],
)
def test_should_retry(word: str, said: bool | None, recoverable: bool) -> None:  # noqa: FBT001 - parameters
    """The provider's `false` makes a failure unrecoverable; its word is handed on, and nonsense is no word."""
    failure = classify_evidence(Evidence(status=503, headers={"x-should-retry": word}))

    assert (said, recoverable) == (failure.should_retry, failure.recoverable)


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
    """Anthropic repeats it in the body, which is all a stream event has."""
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
    """The code that decided is named; numbers and the word error are no codes."""
    assert classify_evidence(Evidence(status=429, body=body)).provider_code == code


def test_code_from_a_header() -> None:
    """AWS names the error in a header, with a URL behind it."""
    failure = classify_evidence(
        Evidence(status=400, headers={"x-amzn-errortype": "ThrottlingException:http://internal/"})
    )

    assert failure.category is ErrorCategory.RATE_LIMIT
