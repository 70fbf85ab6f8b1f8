"""The error bodies providers of the OpenAI protocol send, by HTTP status."""

from __future__ import annotations

from typing import Any, NamedTuple


class _Said(NamedTuple):
    message: str
    type: str
    code: str | None = None


_SAID: dict[int, _Said] = {
    400: _Said("We could not parse the JSON body of your request.", "invalid_request_error"),
    401: _Said(
        "Incorrect API key provided. You can find your API key in your account settings.",
        "invalid_request_error",
        "invalid_api_key",
    ),
    402: _Said("Insufficient balance", "insufficient_balance", "insufficient_balance"),
    403: _Said("You do not have access to this resource.", "permission_error", "permission_denied"),
    404: _Said(
        "The model `{model}` does not exist or you do not have access to it.",
        "invalid_request_error",
        "model_not_found",
    ),
    408: _Said("The request took too long to arrive.", "timeout"),
    409: _Said("The resource was changed by another request.", "conflict_error"),
    413: _Said("The request body is too large.", "invalid_request_error", "request_too_large"),
    422: _Said("The request was well-formed but could not be processed.", "invalid_request_error"),
    429: _Said(
        "Rate limit reached for `{model}` on requests per min (RPM): Limit 500, Used 500, Requested 1.",
        "requests",
        "rate_limit_exceeded",
    ),
    500: _Said("The server had an error while processing your request.", "server_error"),
    502: _Said("Bad gateway.", "server_error"),
    503: _Said("The engine is currently overloaded, please try again later.", "service_unavailable"),
    504: _Said("The upstream did not answer in time.", "timeout"),
    529: _Said("Overloaded", "overloaded_error"),
}


def error_body(status: int, model: str) -> dict[str, Any]:
    """The body that goes with *status*; statuses without a usual one get one of their class."""
    said = _SAID.get(status) or _SAID[500 if status >= 500 else 400]  # noqa: PLR2004 - HTTP's own border
    message = said.message.replace("{model}", model or "unknown")
    return {"error": {"message": message, "type": said.type, "param": None, "code": said.code}}
