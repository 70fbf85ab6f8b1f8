"""The error bodies and headers that providers send, by protocol and HTTP status."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple, TypeAlias, TypeVar

from resilience.testing.dialects import Dialect

ErrorKind: TypeAlias = Literal[
    "overloaded",
    "rate_limit",
    "unavailable",
    "server_error",
    "authentication",
    "permission",
    "not_found",
    "invalid_request",
    "context_length",
    "billing",
]
"""A kind of error that a provider reports inside a stream, after status 200."""

_Entry = TypeVar("_Entry")


class _ErrorText(NamedTuple):
    message: str
    type: str
    code: str | None = None


_ERRORS: dict[int, _ErrorText] = {
    400: _ErrorText("We could not parse the JSON body of your request.", "invalid_request_error"),
    401: _ErrorText(
        "Incorrect API key provided. You can find your API key in your account settings.",
        "invalid_request_error",
        "invalid_api_key",
    ),
    402: _ErrorText("Insufficient balance", "insufficient_balance", "insufficient_balance"),
    403: _ErrorText("You do not have access to this resource.", "permission_error", "permission_denied"),
    404: _ErrorText(
        "The model `{model}` does not exist or you do not have access to it.",
        "invalid_request_error",
        "model_not_found",
    ),
    408: _ErrorText("The request took too long to arrive.", "timeout"),
    409: _ErrorText("The resource was changed by another request.", "conflict_error"),
    413: _ErrorText("The request body is too large.", "invalid_request_error", "request_too_large"),
    422: _ErrorText("The request was well-formed but could not be processed.", "invalid_request_error"),
    429: _ErrorText(
        "Rate limit reached for `{model}` on requests per min (RPM): Limit 500, Used 500, Requested 1.",
        "requests",
        "rate_limit_exceeded",
    ),
    500: _ErrorText("The server had an error while processing your request.", "server_error"),
    502: _ErrorText("Bad gateway.", "server_error"),
    503: _ErrorText("The engine is currently overloaded, please try again later.", "service_unavailable"),
    504: _ErrorText("No upstream is available.", "server_error"),
    529: _ErrorText("Overloaded", "overloaded_error"),
}


# Where a provider has a sentence of its own. It has that of `_ERRORS` for every other status.
_MESSAGES: Mapping[Dialect, Mapping[int, str]] = {
    "azure-openai": {
        401: "Access denied due to invalid subscription key or wrong API endpoint.",
        404: "The API deployment for this resource does not exist.",
        429: "Requests to the ChatCompletions_Create Operation have exceeded call rate limit.",
        503: "The service is temporarily unable to process your request.",
    },
    "anthropic": {
        401: "invalid x-api-key",
        402: "Your credit balance is too low to access the Anthropic API.",
        403: "Your API key does not have permission to use the specified resource.",
        404: "model: {model}",
        429: "This request would exceed your rate limit.",
        500: "Internal server error",
        503: "Service unavailable",
    },
    "google-ai": {
        401: "Request had invalid authentication credentials.",
        403: "The caller does not have permission",
        404: "models/{model} is not found for API version v1beta",
        429: "Resource has been exhausted. Please try again later.",
        500: "An internal error has occurred.",
        503: "The model is overloaded. Please try again later.",
    },
    "aws-bedrock": {
        401: "The security token included in the request is invalid.",
        403: "You don't have access to the model with the specified model ID.",
        404: "Could not resolve the foundation model from the identifier.",
        429: "Too many requests, please wait before trying again.",
        500: "The system encountered an unexpected error during processing.",
        503: "Bedrock is unable to process your request.",
        529: "Model is not ready for inference.",
    },
}
_AZURE_CODES: Mapping[int, str] = {404: "DeploymentNotFound", 503: "ServiceUnavailable"}
"""The codes that are words; Azure repeats every other status as a text."""
_ANTHROPIC_TYPES: Mapping[int, str] = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    500: "api_error",
    504: "timeout_error",
    529: "overloaded_error",
}
_GOOGLE_STATUSES: Mapping[int, str] = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    409: "ABORTED",
    429: "RESOURCE_EXHAUSTED",
    500: "INTERNAL",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
    529: "UNAVAILABLE",
}
_BEDROCK_TYPES: Mapping[int, str] = {
    400: "ValidationException",
    401: "UnrecognizedClientException",
    403: "AccessDeniedException",
    404: "ResourceNotFoundException",
    408: "ModelTimeoutException",
    429: "ThrottlingException",
    500: "InternalServerException",
    503: "ServiceUnavailableException",
    529: "ModelNotReadyException",
}


_STATUSES: Mapping[ErrorKind, int] = {
    "overloaded": 529,
    "rate_limit": 429,
    "unavailable": 503,
    "server_error": 500,
    "authentication": 401,
    "permission": 403,
    "not_found": 404,
    "invalid_request": 400,
    "context_length": 400,
    "billing": 402,
}
"""The status that the same error has before a stream."""
_CONTEXT_LENGTH: Mapping[Dialect, str] = {
    "openai": "This model's maximum context length is 8192 tokens. However, your messages resulted in 9001 tokens.",
    "anthropic": "prompt is too long: 200001 tokens > 200000 maximum",
    "google-ai": "The input token count (1048577) exceeds the maximum number of tokens allowed (1048576).",
    "aws-bedrock": "Input is too long for requested model.",
}


def error_body(dialect: Dialect, status: int, model: str, wait: float | None = None) -> dict[str, Any]:
    """Return the body of an error response.

    Args:
        dialect: the protocol of the request.
        status: the HTTP status; one without a usual body gets that of 400 or 500.
        model: the model that was asked for, which some messages name.
        wait: seconds that the body asks the client to wait. Only Google's bodies have a place for it.
    """
    text = _nearest(_ERRORS, status)
    sentence = _MESSAGES.get(dialect, {}).get(status, text.message)
    message = sentence.replace("{model}", model or "unknown")
    if dialect == "azure-openai":
        return {"error": {"code": _AZURE_CODES.get(status, str(status)), "message": message}}
    if dialect == "anthropic":
        error = {"type": _nearest(_ANTHROPIC_TYPES, status), "message": message}
        return {"type": "error", "error": error, "request_id": "req_simulated"}
    if dialect == "google-ai":
        return _google_error(status, message, wait)
    if dialect == "aws-bedrock":
        return {"message": message}
    return {"error": {"message": message, "type": text.type, "param": None, "code": text.code}}


def error_event(dialect: Dialect, kind: ErrorKind | Mapping[str, Any], model: str) -> dict[str, Any]:
    """Return the event of an error inside a stream: the body of the error where a provider has no other form for it.

    Args:
        dialect: the protocol of the request.
        kind: the kind of the error, or the provider's own object in place of it.
        model: the model that was asked for, which some messages name.
    """
    body = _error_of_kind(dialect, kind, model) if isinstance(kind, str) else {"error": dict(kind)}
    if dialect == "openai-responses":
        return {"type": "error", "sequence_number": 1, **_flat(body["error"])}
    if dialect == "anthropic":
        return {"type": "error", **body}
    if dialect == "aws-bedrock":
        return {_bedrock_exception(kind): {"message": body.get("message", "")}}
    return body


def _error_of_kind(dialect: Dialect, kind: ErrorKind, model: str) -> dict[str, Any]:
    body = error_body(dialect, _STATUSES[kind], model)
    if kind != "context_length":
        return body
    message = _CONTEXT_LENGTH.get(dialect, _CONTEXT_LENGTH["openai"])
    if dialect == "aws-bedrock":
        return {"message": message}
    code = {"code": "context_length_exceeded"} if dialect.startswith(("openai", "azure")) else {}
    return {**body, "error": {**body["error"], "message": message, **code}}


def _flat(error: Mapping[str, Any]) -> dict[str, Any]:
    """Return *error* as the Responses API reports it: its code is the word that chat completions have as code or type."""
    return {"code": error.get("code") or error.get("type"), "message": error.get("message"), "param": None}


def _bedrock_exception(kind: ErrorKind | Mapping[str, Any]) -> str:
    """Return the type of an exception inside a stream. It is that of the response, and begins with a small letter."""
    name = _nearest(_BEDROCK_TYPES, _STATUSES[kind] if isinstance(kind, str) else 500)
    return name[0].lower() + name[1:]


def error_headers(dialect: Dialect, status: int) -> dict[str, str]:
    """Return the headers that name the error of *status*: Bedrock has the kind of an error there, the others have none."""
    return {"x-amzn-errortype": _nearest(_BEDROCK_TYPES, status)} if dialect == "aws-bedrock" else {}


def states_wait_in_body(dialect: Dialect) -> bool:
    """Return whether the provider states a wait in the body of its error, not in the header `Retry-After`."""
    return dialect == "google-ai"


def _google_error(status: int, message: str, wait: float | None) -> dict[str, Any]:
    error = {"code": status, "message": message, "status": _nearest(_GOOGLE_STATUSES, status)}
    if wait is None:
        return {"error": error}
    # A `google.protobuf.Duration` in JSON: seconds with the letter s.
    detail = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": f"{wait:.9g}s"}
    return {"error": {**error, "details": [detail]}}


def _nearest(table: Mapping[int, _Entry], status: int) -> _Entry:
    """Return the entry of *status*, or that of 400 or 500, which stand for their whole class."""
    known = table.get(status)
    return table[500 if status >= 500 else 400] if known is None else known  # noqa: PLR2004 - RFC 9110, 15.6
