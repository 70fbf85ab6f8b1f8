"""Every syntax in which a provider states a wait, and the numbers that only look like one."""

from __future__ import annotations

import pytest

from resilience.failure import Evidence, classify_evidence
from resilience.failure.retry_after import MAX_WAIT, duration_seconds

DATE = "Tue, 26 Mar 2024 19:59:59 GMT"
EPOCH = 1711483199.0
"""The same moment."""


def delay(
    headers: dict[str, str] | None = None,
    body: str | None = None,
    *,
    status: int = 429,
    now: float | None = None,
) -> float | None:
    return classify_evidence(Evidence(status=status, headers=headers or {}, body=body), now).retry_after


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "20"}, 20.0),
        ({"retry-after": " 1.5 "}, 1.5),
        ({"retry-after": "20s"}, 20.0),
        ({"retry-after": "13262"}, 13262.0),
        ({"retry-after-ms": "1500"}, 1.5),
        ({"x-ms-retry-after-ms": "250"}, 0.25),
        ({"retry-after-ms": "300", "retry-after": "1"}, 0.3),
        ({"retry-after-ms": "soon", "retry-after": "7"}, 7.0),
        ({"retry-after": "Tue, 26 Mar 2024 20:00:29 GMT", "date": DATE}, 30.0),
        ({"x-rate-limit-reset-tokens": "55"}, 55.0),
        ({"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "6m0s"}, 360.0),
        ({"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "100ms"}, 0.1),
        ({"x-ratelimit-remaining": "0", "x-ratelimit-reset": "12"}, 12.0),
        ({"ratelimit-remaining": "0", "ratelimit-reset": "9"}, 9.0),
        ({"anthropic-ratelimit-requests-remaining": "0", "anthropic-ratelimit-requests-reset": "2024-03-26T20:00:00Z", "date": DATE}, 1.0),
        (
            {
                "anthropic-ratelimit-input-tokens-remaining": "0",
                "anthropic-ratelimit-input-tokens-reset": "2024-03-26T20:00:09Z",
                "date": DATE,
            },
            10.0,
        ),
        ({"anthropic-ratelimit-unified-status": "rejected", "anthropic-ratelimit-unified-reset": "1711483259", "date": DATE}, 60.0),
        ({"x-codex-primary-used-percent": "100", "x-codex-primary-reset-after-seconds": "13873"}, 13873.0),
        ({"x-codex-primary-reset-at": "1711483219", "date": DATE}, 20.0),
        ({"retry-after": "1711483219", "date": DATE}, 20.0),
        ({"retry-after": "Tuesday, 26-Mar-24 20:00:29 GMT", "date": DATE}, 30.0),
        ({"retry-after": "2024-03-26T20:00:29Z", "date": DATE}, 30.0),
        ({"x-ratelimit-reset-requests": "1s"}, 1.0),
        ({"x-ratelimit-remaining-tokens-minute": "0", "x-ratelimit-reset-tokens-minute": "14.2"}, 14.2),
    ],
)  # fmt: skip
def test_headers(headers: dict[str, str], seconds: float) -> None:
    """Exact headers outrank windows, milliseconds outrank seconds, and dates count from the response's own."""
    assert delay(headers) == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("body", "seconds"),
    [
        (
            '{"error":{"details":[{"@type":"type.googleapis.com/google.rpc.RetryInfo","retryDelay":"38s"}]}}',
            38.0,
        ),
        (
            '{"error":{"message":"Please retry in 36.429760048s.","details":[{"@type":"…RetryInfo","retryDelay":"36s"}]}}',
            36.429760048,
        ),
        ('{"error":{"type":"x","resets_in_seconds":13872}}', 13872.0),
        ('{"error":{"type":"x","resets_at":1711483219}}', 20.0),
        (
            '{"error":{"metadata":{"headers":{"X-RateLimit-Remaining":"0","X-RateLimit-Reset":"1711483229000"}}}}',
            30.0,
        ),
        ('{"error":{"metadata":{"headers":{"Retry-After":"3"}}}}', 3.0),
        ('{"error":"Model x is currently loading","estimated_time":35.6677131652832}', 35.6677131652832),
        ('{"retry_after":4}', 4.0),
        ('{"retry_after":"2.5"}', 2.5),
        ('{"error":{"retryAfterMs":"700"}}', 0.7),
        ('{"error":{"metadata":{"quotaResetDelay":"3h10m0s"}}}', 11400.0),
        ('{"error":{"metadata":{"quotaResetTimeStamp":"2024-03-26T20:00:09Z"}}}', 10.0),
        ("Please try again in 6ms.", 0.006),
        ("Please try again in 1s. Contact", 1.0),
        ("Please try again in 9.816s. Visit", 9.816),
        ("Please try again in 50.597142857s", 50.597142857),
        ("Please try again in 1m0.363142857s.", 60.363142857),
        ("Please try again in 7m12s.", 432.0),
        ("Please try again in 9m38.016s.", 578.016),
        ("Please retry after 20 seconds. For", 20.0),
        ("Please retry after 86400 seconds.", 86400.0),
        ("Rate limit is exceeded. Try again in 2 seconds.", 2.0),
        ("please try again after 1 seconds", 1.0),
        ("Your quota will reset after 8h44m7s.", 31447.0),
        ("reset after 2m 13s", 133.0),
        ("try again in 5 days 22 hours 11 minutes.", 511860.0),
        ("Please wait 3600 seconds before retrying", 3600.0),
        ("[x] [429]: quota (reset after 23s)", 23.0),
        ("Rate limited. Retry-After: 30", 30.0),
        ('429 quota [links {\n url: "x"\n}\n, retry_delay {\n  seconds: 22\n  nanos: 500000000\n}\n]', 22.5),
        ('{"error":{"details":[{"retryDelay":{"seconds":7}}]}}', 7.0),
        ("Out of call volume quota. Quota will be replenished in 12:30:15.", 45015.0),
    ],
)
def test_bodies(body: str, seconds: float) -> None:
    """Fields and sentences are read; of several the longest, because Gemini rounds its field down."""
    assert delay(body=body, now=EPOCH) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "headers",
    [
        {"retry-after": "0"},
        {"retry-after": "-1"},
        {"retry-after": "soon"},
        {"retry-after": "NaN"},
        {"retry-after": "Infinity"},
        {"retry-after": "1e400"},
        {"retry-after-ms": "-200"},
        {"retry-after": "9" * 400},
        {"retry-after": "99999999999999"},
        {"retry-after": "Tue, 26 Mar 2024 19:59:00 GMT", "date": DATE},
        {"retry-after": "Tue, 26 Mar 2024 20:00:29 GMT"},
        {"retry-after": "Tue, 99 Mar 2024 20:00:29 GMT", "date": DATE},
        {"x-ratelimit-remaining-tokens": "-1", "x-ratelimit-reset-tokens": "0"},
        {"x-ratelimit-remaining-tokens": "1014", "x-ratelimit-reset-tokens": "40ms"},
        {
            "anthropic-ratelimit-unified-status": "allowed",
            "anthropic-ratelimit-unified-reset": "1711483259",
            "date": DATE,
        },
        {"x-codex-primary-used-percent": "80", "x-codex-primary-reset-after-seconds": "13873"},
        {
            "openai-processing-ms": "71",
            "expires": "Thu, 01 Jan 1970 00:00:00 GMT",
            "alt-svc": 'h3=":443"; ma=86400',
        },
    ],
)
def test_headers_that_say_nothing(headers: dict[str, str]) -> None:
    """Zero, negative, past and unreadable values state no wait, nor do windows that still have room."""
    assert delay(headers) is None


@pytest.mark.parametrize(
    "body",
    [
        "Read timed out. (read timeout=600).",
        "Max retries exceeded with url: /v1 (attempt 4/10)",
        "An error occurred (ThrottlingException) when calling the InvokeModel operation (reached max retries: 4): Too many",
        "Limit 30000, Used 14567, Requested 24754",
        "Please try again later.",
        '{"error":{"message":"x","resets_at":1711483219}}',
        '{"retry_after":true}',
        '{"retry_after":[1]}',
        '{"retry_after":NaN}',
        '{"retry_after":1e999}',
        '{"error":{"retryDelay":{"seconds":7,"of":"what"}}}',
        "Retry-After-Ms: soon",
        '{"retryDelay":36}',
        '{"headers":"none"}',
    ],
)
def test_bodies_that_say_nothing(body: str) -> None:
    """Counters, token counts, the client's own limits and dates without a clock state no wait."""
    assert delay(body=body) is None


@pytest.mark.parametrize("status", [400, 401, 403, 404, 422])
def test_delay_alone_makes_nothing_recoverable(status: int) -> None:
    """A gateway's "(reset after 23s)" behind a permanent error is ignored (9router)."""
    failure = classify_evidence(
        Evidence(status=status, body='{"error":{"message":"wrong parameter (reset after 23s)"}}')
    )

    assert (failure.recoverable, failure.retry_after) == (False, None)


def test_a_window_is_no_delay_on_other_statuses() -> None:
    """OpenAI sends its windows with every response; they count only for a throttled one."""
    assert (
        delay({"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "6m0s"}, status=500) is None
    )


def test_own_date_outranks_the_local_clock() -> None:
    """The server's own date outranks the local clock; without it *now* is used."""
    headers = {"retry-after": "Tue, 26 Mar 2024 20:00:29 GMT"}

    assert delay({**headers, "date": DATE}, now=0.0) == 30.0
    assert delay(headers, now=EPOCH) == 30.0


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1.5s", 1.5),
        ("2h", 7200.0),
        ("1d", 86400.0),
        ("3 mins", 180.0),
        ("1 hr 5 secs", 3605.0),
        ("500 milliseconds", 0.5),
    ],
)
def test_durations(text: str, seconds: float) -> None:
    """Short and long units are read, alone and in sequence."""
    assert duration_seconds(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "12", "2 tokens", "3 models", "s", "1.2.3"])
def test_no_durations(text: str) -> None:
    """A number without a unit of time is no duration."""
    assert duration_seconds(text) is None


def test_absurd_delays_are_dropped() -> None:
    """A wait of more than ninety days is a misread number."""
    assert delay({"retry-after": str(int(MAX_WAIT))}) == MAX_WAIT
    assert delay({"retry-after": str(int(MAX_WAIT) + 1)}) is None
