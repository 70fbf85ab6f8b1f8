"""Exceptions of many libraries, recognised by shape and name without importing any of them."""

from __future__ import annotations

import asyncio
import errno
import json
import socket
import ssl
import urllib.error
from email.message import Message
from http import HTTPStatus
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from resilience import errors
from resilience.failure import ErrorCategory as Kind
from resilience.failure import Evidence, classify, classify_evidence, evidence_of


def of(module: str, name: str, *bases: type[BaseException], **attributes: Any) -> BaseException:
    """Return an exception with the class name and the attributes of a library's."""
    exc: BaseException = type(name, bases or (Exception,), {"__module__": module})(
        attributes.get("message", "")
    )
    for key, value in attributes.items():
        setattr(exc, key, value)
    return exc


class Response:
    """The response that httpx and requests attach to their errors."""

    def __init__(self, status: int, text: str = "", headers: dict[str, str] | None = None) -> None:
        self.status_code = status
        self.text = text
        self.headers = headers or {}


BAML = "baml_py.internal_monkeypatch"
BamlError: Any = type("BamlError", (Exception,), {"__module__": "baml_py"})
BamlClientError: Any = type("BamlClientError", (BamlError,), {"__module__": "baml_py"})


def http(status: int, message: str) -> BaseException:
    return of(
        BAML, "BamlClientHttpError", BamlClientError, client_name="A", status_code=status, message=message
    )


def baml(name: str, message: str = "", **attributes: Any) -> BaseException:
    return of(BAML, name, BamlError, message=message, **attributes)


DUMP = (
    'LLM call failed: LLMErrorResponse { client: "A", model: None, prompt: Chat([RenderedChatMessage { role: "user", '
    'parts: [Text("insufficient_quota {\\"error\\":{\\"message\\":\\"canary\\",\\"code\\":\\"context_length_exceeded\\"}}")]'
    ' }]), start_time: 0, message: "%s", code: Other(%d) }'
)

BAML_CASES = [
    (http(429, 'Request failed with status code: 429 Too Many Requests. {"error":{"message":"Slow down"}}'), Kind.RATE_LIMIT, 429),
    (http(529, 'Request failed with status code: 529 <unknown status code>. {"error":{"type":"x"}}'), Kind.OVERLOADED, 529),
    (http(400, 'Request failed with status code: 400 Bad Request. {"error":{"code":"context_length_exceeded"}}'), Kind.CONTEXT_LENGTH, 400),
    (http(503, "Request failed with status code: 503 Service Unavailable. {}"), Kind.SERVICE_UNAVAILABLE, 503),
    (http(503, 'reqwest::Error { kind: Request, source: ConnectError("dns error") }'), Kind.NETWORK, None),
    (http(503, 'reqwest::Error { kind: Request, source: ConnectError("tcp connect error") }'), Kind.NETWORK, None),
    (http(2, "reqwest::Error { kind: Request, source: SendRequest }"), Kind.NETWORK, None),
    (http(2, "Could not read response body: reqwest::Error { kind: Decode, source: TimedOut }"), Kind.TIMEOUT, None),
    (http(2, "Stream ended without receiving any events"), Kind.NETWORK, None),
    (http(502, DUMP % ("<html><title>502 Bad Gateway</title>", 502)), Kind.SERVICE_UNAVAILABLE, 502),
    (http(200, DUMP % ("Failed to parse into a response accepted by baml", 200)), Kind.NETWORK, 200),
    (http(403, DUMP % ('x {\\"error\\":{\\"code\\":\\"AccountOverdueError\\"}}', 403)), Kind.QUOTA_EXHAUSTED, 403),
    (http(200, "LLM call failed: LLMErrorResponse { nothing behind it }"), Kind.NETWORK, 200),
    (baml("BamlTimeoutError", "Request timed out"), Kind.TIMEOUT, None),
    (baml("BamlTimeoutError", "Request failed with status code: 408 Request Timeout. {}"), Kind.TIMEOUT, None),
    (baml("BamlValidationError", "Missing required field: data", prompt="p", raw_output="r"), Kind.OUTPUT_INVALID, None),
    (baml("BamlValidationError", "LLM Failure: connection reset", prompt="p", raw_output="r"), Kind.NETWORK, None),
    (baml("BamlValidationError", "LLM Failure: operation timed out", prompt="p", raw_output="r"), Kind.TIMEOUT, None),
    (baml("BamlClientFinishReasonError", finish_reason="LENGTH"), Kind.OUTPUT_TRUNCATED, None),
    (baml("BamlClientFinishReasonError", finish_reason="content_filter"), Kind.CONTENT_POLICY, None),
    (baml("BamlClientFinishReasonError", finish_reason="tool_calls"), Kind.OUTPUT_INVALID, None),
    (of("baml_py", "BamlError", message="Could not find client with name: Nope"), Kind.INVALID_REQUEST, None),
    (baml("BamlInvalidArgumentError", "Missing required parameter: goal"), Kind.INVALID_REQUEST, None),
    (baml("BamlAbortError"), Kind.CANCELLED, None),
    (of("baml_py", "BamlClientError", BamlError, message="Unspecified error code: 2"), Kind.NETWORK, None),
]  # fmt: skip


@pytest.mark.parametrize(("exc", "kind", "status"), BAML_CASES)
def test_baml(exc: BaseException, kind: Kind, status: int | None) -> None:
    """Without a Collector BAML's invented statuses are ignored, and dumps are read behind the prompt."""
    failure = classify(exc)

    assert (kind, status) == (failure.category, failure.status)
    assert "canary" not in failure.message


def test_baml_with_its_collector() -> None:
    """What the Collector saw outranks the exception: a real status, headers, body."""
    exc = http(503, "reqwest::Error")
    evidence = Evidence(
        status=429, headers={"retry-after": "2"}, body='{"error":{"code":"insufficient_quota"}}'
    )
    failure = classify(exc, evidence=evidence)

    assert (failure.category, failure.status, failure.retry_after) == (Kind.QUOTA_EXHAUSTED, 429, 2.0)
    assert failure.exception_type == "BamlClientHttpError"


def test_baml_nothing_was_sent() -> None:
    """A connection that was never made is a network failure, whatever status BAML invents for it."""
    failure = classify(http(503, "No response."), evidence=Evidence(connected=False))

    assert (failure.category, failure.status) == (Kind.NETWORK, None)


def test_nothing_was_sent_and_nothing_is_known() -> None:
    """Nothing sent is a network failure also without an exception."""
    assert classify_evidence(Evidence(connected=False)).category is Kind.NETWORK


def test_baml_408() -> None:
    """A real 408 that BAML calls a time-out keeps its status."""
    failure = classify(baml("BamlTimeoutError"), evidence=Evidence(status=408, headers={"date": "x"}))

    assert (failure.category, failure.status) == (Kind.TIMEOUT, 408)


@pytest.mark.parametrize(
    ("reason", "body", "kind"),
    [
        ("length", None, Kind.OUTPUT_TRUNCATED),
        ("content_filter", None, Kind.CONTENT_POLICY),
        ("stop", None, Kind.OUTPUT_INVALID),
        (None, '{"choices":[{"finish_reason":"length","message":{"content":"{"}}]}', Kind.OUTPUT_TRUNCATED),
        (
            None,
            '{"choices":[{"finish_reason":"stop","message":{"content":"quota exceeded"}}]}',
            Kind.OUTPUT_INVALID,
        ),
    ],
)
def test_unparsable_answers(reason: str | None, body: str | None, kind: Kind) -> None:
    """An answer that does not parse because it was cut or refused has that category, whatever its text says."""
    exc = baml("BamlValidationError", "Failed to parse", prompt="p", raw_output="r")

    assert classify(exc, evidence=Evidence(status=200, body=body, finish_reason=reason)).category is kind


def test_configuration_is_never_retried() -> None:
    """An attempt that never became a request is an invalid request."""
    failure = classify(RuntimeError("no such client"), evidence=Evidence(configuration=True))

    assert (failure.category, failure.counts_against_client) == (Kind.INVALID_REQUEST, False)


QUOTA = {
    "message": "You exceeded your current quota",
    "type": "insufficient_quota",
    "code": "insufficient_quota",
}
APIConnectionError: Any = type("APIConnectionError", (Exception,), {"__module__": "openai"})

PLAN = "429 You exceeded your current quota, please check your plan and billing details. [%s\n]"
"""Google's sentence in the words of OpenAI's about unpaid bills, as its libraries print a protobuf message."""

LIBRARY_CASES = [
    (of("httpx", "HTTPStatusError", response=Response(429, '{"error":"slow down now"}', {"Retry-After": "3"})), Kind.RATE_LIMIT, 3.0),
    (of("httpx", "ReadTimeout"), Kind.TIMEOUT, None),
    (of("httpx", "ConnectTimeout"), Kind.TIMEOUT, None),
    (of("httpx", "PoolTimeout"), Kind.TIMEOUT, None),
    (of("httpx", "ConnectError"), Kind.NETWORK, None),
    (of("httpx", "RemoteProtocolError"), Kind.NETWORK, None),
    (of("aiohttp.client_exceptions", "ClientResponseError", status=503, headers={"Retry-After": "2"}), Kind.SERVICE_UNAVAILABLE, 2.0),
    (of("aiohttp.client_exceptions", "ServerDisconnectedError"), Kind.NETWORK, None),
    (of("aiohttp.client_exceptions", "ClientConnectorError", OSError), Kind.NETWORK, None),
    (of("aiohttp.client_exceptions", "ServerTimeoutError", TimeoutError), Kind.TIMEOUT, None),
    (of("openai", "RateLimitError", status_code=429, response=Response(429), body=QUOTA), Kind.QUOTA_EXHAUSTED, None),
    (of("openai", "APIError", body={"type": "server_error", "message": "The server had an error"}), Kind.SERVER_ERROR, None),
    (of("openai", "APITimeoutError", APIConnectionError), Kind.TIMEOUT, None),
    (of("openai", "APIConnectionError", message="Connection error."), Kind.NETWORK, None),
    (of("openai", "LengthFinishReasonError"), Kind.OUTPUT_TRUNCATED, None),
    (of("anthropic", "APIStatusError", status_code=529, body={"error": {"type": "overloaded_error"}}), Kind.OVERLOADED, None),
    (of("anthropic", "AuthenticationError", status_code=HTTPStatus.UNAUTHORIZED), Kind.AUTHENTICATION, None),
    (of("requests.exceptions", "HTTPError", OSError, response=Response(404, "model 'x' not found")), Kind.NOT_FOUND, None),
    (of("requests.exceptions", "ConnectionError", OSError, message="Read timed out."), Kind.TIMEOUT, None),
    (of("requests.exceptions", "ChunkedEncodingError", OSError), Kind.NETWORK, None),
    (of("google.api_core.exceptions", "ResourceExhausted", code=429, message="Please retry in 5s."), Kind.RATE_LIMIT, 5.0),
    (of("google.api_core.exceptions", "ResourceExhausted", message=PLAN % "retry_delay {\n  seconds: 22\n}"), Kind.RATE_LIMIT, 22.0),
    (of("builtins", "Exception", message=PLAN % 'violations {\n  quota_id: "GenerateRequestsPerMinutePerProject"\n}'), Kind.RATE_LIMIT, None),
    (of("builtins", "Exception", message=PLAN % "links {}"), Kind.QUOTA_EXHAUSTED, None),
    (of("google.api_core.exceptions", "DeadlineExceeded", code=504), Kind.TIMEOUT, None),
    (of("google.genai.errors", "ClientError", code=400, details={"error": {"message": "API key not valid."}}), Kind.AUTHENTICATION, None),
    (of("grpc", "RpcError", code=lambda: None, message="x"), Kind.UNKNOWN, None),
    (of("ollama", "ResponseError", status_code=404, error="model 'x' not found"), Kind.NOT_FOUND, None),
    (of("cohere.errors", "TooManyRequestsError", status_code=429, body={"message": "Trial key"}), Kind.RATE_LIMIT, None),
    (of("litellm.exceptions", "ContextWindowExceededError", status_code=400), Kind.CONTEXT_LENGTH, None),
    (of("litellm.exceptions", "ContextWindowExceededError"), Kind.CONTEXT_LENGTH, None),
    (urllib.error.HTTPError("http://x", 503, "busy", Message(), None), Kind.OVERLOADED, None),
]  # fmt: skip


@pytest.mark.parametrize(("exc", "kind", "delay"), LIBRARY_CASES)
def test_libraries(exc: BaseException, kind: Kind, delay: float | None) -> None:
    """Status, headers and body are found where each library keeps them; otherwise the class name decides."""
    failure = classify(exc)

    assert (kind, delay) == (failure.category, failure.retry_after)


def test_botocore() -> None:
    """Status, headers and code are found in botocore's response mapping."""
    response = {
        "Error": {"Code": "ThrottlingException", "Message": "Too many requests"},
        "ResponseMetadata": {
            "HTTPStatusCode": 400,
            "HTTPHeaders": {"x-amzn-RequestId": "r1", "Retry-After": "4"},
        },
    }
    failure = classify(of("botocore.exceptions", "ClientError", response=response))

    assert (failure.category, failure.status, failure.retry_after) == (Kind.RATE_LIMIT, 400, 4.0)
    assert (failure.provider_code, failure.provider_request_id) == ("ThrottlingException", "r1")
    assert failure.message == "Too many requests"


def test_botocore_without_an_error() -> None:
    """An empty response mapping is no evidence."""
    assert classify(of("botocore.exceptions", "ClientError", response={})).category is Kind.UNKNOWN


PYTHON_CASES = [
    (TimeoutError(), Kind.TIMEOUT),
    (OSError(errno.ETIMEDOUT, "Connection timed out"), Kind.TIMEOUT),
    (ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused"), Kind.NETWORK),
    (ConnectionResetError(), Kind.NETWORK),
    (BrokenPipeError(), Kind.NETWORK),
    (socket.gaierror(-2, "Name or service not known"), Kind.NETWORK),
    (ssl.SSLError(1, "handshake failure"), Kind.NETWORK),
    (OSError(errno.EHOSTUNREACH, "No route to host"), Kind.NETWORK),
    (EOFError(), Kind.NETWORK),
    (json.JSONDecodeError("Expecting value", "", 0), Kind.NETWORK),
    (UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"), Kind.NETWORK),
    (FileNotFoundError(2, "No such file"), Kind.INVALID_REQUEST),
    (PermissionError(13, "Permission denied"), Kind.INVALID_REQUEST),
    (TypeError("missing 1 required positional argument"), Kind.INVALID_REQUEST),
    (ValueError("bad"), Kind.INVALID_REQUEST),
    (UnicodeEncodeError("ascii", "ü", 0, 1, "ordinal"), Kind.INVALID_REQUEST),
    (asyncio.CancelledError(), Kind.CANCELLED),
    (KeyboardInterrupt(), Kind.CANCELLED),
    (SystemExit(500), Kind.CANCELLED),
    (RuntimeError("boom"), Kind.UNKNOWN),
    (KeyError("choices"), Kind.UNKNOWN),
    (ExceptionGroup("g", [TimeoutError()]), Kind.TIMEOUT),
    (ValueError("invalid literal: 'rate limit exceeded, insufficient_quota'"), Kind.INVALID_REQUEST),
    (TypeError("overloaded"), Kind.INVALID_REQUEST),
    (ConnectionResetError("too many requests"), Kind.NETWORK),
    (RuntimeError("provider says: rate limit exceeded"), Kind.RATE_LIMIT),
]


@pytest.mark.parametrize(("exc", "kind"), PYTHON_CASES)
def test_plain_python(exc: BaseException, kind: Kind) -> None:
    """Python's own exceptions have a category, also the subclasses of ValueError that are transport faults."""
    assert classify(exc).category is kind


def test_pydantic() -> None:
    """A value that does not fit its type is an unusable answer; the message names the type and no value."""

    class Answer(BaseModel):
        confidence: float

    with pytest.raises(ValidationError) as caught:
        Answer.model_validate({"confidence": "canary"})
    failure = classify(caught.value)

    assert failure.category is Kind.OUTPUT_INVALID
    assert "Answer" in failure.message
    assert "canary" not in failure.message


OUR_CASES = [
    (errors.CircuitOpenError("A", reason="timeout", retry_after=3.0), Kind.CIRCUIT_OPEN, 3.0),
    (errors.AttemptTimeoutError("A", 5), Kind.TIMEOUT, None),
    (errors.DeadlineExceededError("F", 5), Kind.CANCELLED, None),
    (errors.OutputTruncatedError("A", "canary"), Kind.OUTPUT_TRUNCATED, None),
    (errors.EmptyAnswerError("A"), Kind.OUTPUT_INVALID, None),
    (errors.ContentRefusedError("A", "canary"), Kind.CONTENT_POLICY, None),
    (errors.ForkedRuntimeError("fork"), Kind.INVALID_REQUEST, None),
    (errors.ConfigurationError("unknown client"), Kind.INVALID_REQUEST, None),
    (
        errors.AllClientsFailedError("F", {"A": ValueError("canary"), "B": TimeoutError()}, 7.0),
        Kind.TIMEOUT,
        7.0,
    ),
]


@pytest.mark.parametrize(("exc", "kind", "delay"), OUR_CASES)
def test_our_own(exc: BaseException, kind: Kind, delay: float | None) -> None:
    """Our own errors keep their wait and their text; a group has the category of its last client's error."""
    failure = classify(exc)

    assert (kind, delay) == (failure.category, failure.retry_after)
    assert "canary" not in failure.message
    assert failure.message.rstrip(".") in str(exc)


def raised(
    exc: BaseException, cause: BaseException | None = None, context: BaseException | None = None
) -> BaseException:
    exc.__context__ = context
    if cause is not None:  # setting it, even to None, hides the context
        exc.__cause__ = cause
    return exc


@pytest.mark.parametrize(
    ("exc", "kind"),
    [
        (raised(ValueError("wrapped"), cause=of("httpx", "ReadTimeout")), Kind.TIMEOUT),
        (raised(RuntimeError("wrapped"), cause=of("openai", "X", status_code=429)), Kind.RATE_LIMIT),
        (raised(RuntimeError("wrapped"), context=of("httpx", "ConnectError")), Kind.NETWORK),
        (raised(ValueError("a slip"), context=of("httpx", "ReadTimeout")), Kind.INVALID_REQUEST),
        (raised(RuntimeError("wrapped"), cause=baml("BamlValidationError", "canary")), Kind.OUTPUT_INVALID),
        (raised(RuntimeError("wrapped"), cause=of("pydantic_core", "ValidationError")), Kind.OUTPUT_INVALID),
        (raised(RuntimeError("wrapped"), cause=baml("BamlError")), Kind.INVALID_REQUEST),
        (raised(ConnectionResetError(), context=of("openai", "X", status_code=429)), Kind.NETWORK),
    ],
)
def test_causes(exc: BaseException, kind: Kind) -> None:
    """A wrapper has the category of its cause; an exception that was merely being handled counts for nothing."""
    assert classify(exc).category is kind


def test_circles_of_causes_end() -> None:
    """Two exceptions that name each other as their cause are read once."""
    one, other = RuntimeError("a"), RuntimeError("b")
    one.__cause__, other.__cause__ = other, one

    assert classify(one).category is Kind.UNKNOWN


def test_certificates_are_not_cured_by_retrying() -> None:
    """A certificate that does not verify is a permanent network failure, also as a mere cause."""
    inner = ssl.SSLCertVerificationError(1, "[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed")
    failure = classify(raised(APIConnectionError("Connection error."), cause=inner))

    assert (failure.category, failure.recoverable) == (Kind.NETWORK, False)


def test_evidence_is_public() -> None:
    """`evidence_of` returns what an exception carries, with header names in lower case."""
    evidence = evidence_of(of("x", "HTTPStatusError", response=Response(500, "oops", {"X-Request-ID": "r"})))

    assert (evidence.status, evidence.headers, evidence.body) == (500, {"x-request-id": "r"}, "oops")


def test_time_out_before_the_request() -> None:
    """A time-out before BAML made its request is not a mistake in the configuration."""
    assert classify(TimeoutError(), evidence=Evidence(configuration=True)).category is Kind.TIMEOUT


def test_class_names_are_no_provider_codes() -> None:
    """A library's class may decide the category but is not reported as the provider's code."""
    failure = classify(of("litellm.exceptions", "ContextWindowExceededError", status_code=400))

    assert failure.provider_code is None


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        ('{"promptFeedback":{"blockReason":"OTHER"}}', Kind.CONTENT_POLICY),
        ('{"choices":[]}', Kind.OUTPUT_INVALID),
        ('{"choices":[{"message":{"content":null},"finish_reason":"stop"}]}', Kind.OUTPUT_INVALID),
        (
            '{"choices":[{"message":{"content":null,"tool_calls":[{"id":"1"}]},"finish_reason":"stop"}]}',
            Kind.NETWORK,
        ),
        ('{"choices":[{"delta":{}}]}', Kind.NETWORK),
        ('{"choices":[{"text":"x"}]}', Kind.NETWORK),
        ('{"candidates":[{"finishReason":"MAX_TOKENS"}]}', Kind.OUTPUT_TRUNCATED),
        ('{"candidates":[{"finishReason":"IMAGE_SAFETY"}]}', Kind.CONTENT_POLICY),
        ('{"candidates":[{"content":{"role":"model"},"finishReason":"STOP"}]}', Kind.OUTPUT_INVALID),
        ('{"content":[{"type":"text","text":"x"}],"stop_reason":"max_tokens"}', Kind.OUTPUT_TRUNCATED),
        ('{"content":[],"stop_reason":"refusal"}', Kind.CONTENT_POLICY),
        ('{"message":{"role":"assistant","content":""},"done_reason":"length"}', Kind.OUTPUT_TRUNCATED),
        ('{"message":{"role":"assistant","content":""},"done_reason":"stop"}', Kind.OUTPUT_INVALID),
        ('{"output":[],"incomplete_details":{"reason":"max_output_tokens"}}', Kind.OUTPUT_TRUNCATED),
        (
            '{"choices":null,"base_resp":{"status_code":1002,"status_msg":"rate limit exceeded(RPM)"}}',
            Kind.RATE_LIMIT,
        ),
        ('{"base_resp":{"status_code":1008,"status_msg":"insufficient balance"}}', Kind.QUOTA_EXHAUSTED),
        (
            '{"choices":null,"base_resp":{"status_code":1027,"status_msg":"output new_sensitive"}}',
            Kind.CONTENT_POLICY,
        ),
        ('{"error_code":18,"error_msg":"Open api qps request limit reached"}', Kind.RATE_LIMIT),
        (
            '{"choices":[{"message":{"content":null}}],"error":{"code":429,"message":"slow down"}}',
            Kind.RATE_LIMIT,
        ),
    ],
)
def test_answers_with_a_200(body: str, kind: Kind) -> None:
    """A completion with status 200 is cut, refused or empty; for a whole one BAML's exception decides."""
    assert classify_evidence(Evidence(status=200, body=body)).category is kind


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (400, '{"code":"InternalError.Algo.DataInspectionFailed"}', Kind.CONTENT_POLICY),
        (
            429,
            '{"Response":{"Error":{"Code":"FailedOperation.ResourcePackExhausted"}}}',
            Kind.QUOTA_EXHAUSTED,
        ),
        (400, '{"code":"Throttling.RateQuota"}', Kind.RATE_LIMIT),
        (400, "{'body': b'{\"code\":\"insufficient_quota\"}'}", Kind.QUOTA_EXHAUSTED),
        (400, '[gateway] {\\"error\\":{\\"code\\":\\"context_length_exceeded\\"}}', Kind.CONTEXT_LENGTH),
    ],
)
def test_codes_in_disguise(status: int, body: str, kind: Kind) -> None:
    """Codes are found behind a dot, in a bytes literal inside a dict, and between escaped quotes."""
    assert classify_evidence(Evidence(status=status, body=body)).category is kind


AWS_DUMP = """Failed to parse event: ServiceError(
    ServiceError {
        source: %s(
            %s {
                message: Some(
                    "of \\"canary\\"",
                ),
                meta: ErrorMetadata { code: None, extras: None },
            },
        ),
        raw: Decoded(Message { headers: [Header { name: StrBytes { bytes: b":message-type" } }] }),
    },
)"""


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("ThrottlingException", Kind.RATE_LIMIT),
        ("ServiceUnavailableException", Kind.SERVICE_UNAVAILABLE),
        ("InternalServerException", Kind.SERVER_ERROR),
        ("ModelStreamErrorException", Kind.SERVER_ERROR),
        ("ValidationException", Kind.INVALID_REQUEST),
    ],
)
def test_an_error_inside_a_stream_of_bedrock(name: str, kind: Kind) -> None:
    """The debug text of the AWS SDK is all that is left of such an error. It is read like a body."""
    exc = http(2, AWS_DUMP % (name, name))

    for evidence in (None, Evidence(status=200, headers={"x-amzn-requestid": "r"}, body="")):
        failure = classify(exc, evidence=evidence)
        assert failure.category is kind
        assert failure.provider_code == name
        assert 'of "canary"' in failure.message


AWS_DISPATCH = """DispatchFailure(
    DispatchFailure {
        source: ConnectorError {
            kind: Other(None),
            source: CallError {
                kind: Other,
                message: "an unknown error occurred",
                source: Some(
                    reqwest::Error {
                        kind: Request,
                        source: hyper::Error(Io, Os { code: 104, message: "Connection reset by peer" }),
                    },
                ),
            },
        },
    },
)"""


@pytest.mark.parametrize("status", [2, 500])
def test_a_broken_connection_of_bedrock(status: int) -> None:
    """The SDK's debug text shows that there was no response, so the status is invented; its innermost message is the cause."""
    failure = classify(http(status, AWS_DISPATCH))

    assert failure.category is Kind.NETWORK
    assert failure.status is None
