"""The error bodies that providers of the OpenAI protocol send, by HTTP status."""

from __future__ import annotations

from typing import Any, NamedTuple


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
    504: _ErrorText("The upstream did not answer in time.", "timeout"),
    529: _ErrorText("Overloaded", "overloaded_error"),
}


def error_body(status: int, model: str) -> dict[str, Any]:
    """Return the body of an error response.

    Args:
        status: the HTTP status; one without a usual body gets that of 400 or 500.
        model: the model that was asked for, which some messages name.
    """
    text = _ERRORS.get(status) or _ERRORS[500 if status >= 500 else 400]  # noqa: PLR2004 - RFC 9110, 15.6
    message = text.message.replace("{model}", model or "unknown")
    return {"error": {"message": message, "type": text.type, "param": None, "code": text.code}}
