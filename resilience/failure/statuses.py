"""What an HTTP status means. It decides where neither a code nor a sentence of the provider does."""

from __future__ import annotations

from collections.abc import Mapping

from resilience.failure.taxonomy import ErrorCategory as Category

_STATUSES: Mapping[int, Category] = {
    401: Category.AUTHENTICATION,
    402: Category.QUOTA_EXHAUSTED,
    403: Category.PERMISSION,
    404: Category.NOT_FOUND,
    407: Category.AUTHENTICATION,
    408: Category.TIMEOUT,
    409: Category.RATE_LIMIT,  # no cool-down for 409 and 425, see classify.py: the SDKs of OpenAI and Anthropic try again
    410: Category.NOT_FOUND,
    413: Category.CONTEXT_LENGTH,
    424: Category.SERVER_ERROR,  # Bedrock's ModelErrorException
    425: Category.RATE_LIMIT,
    429: Category.RATE_LIMIT,
    451: Category.PERMISSION,
    498: Category.OVERLOADED,  # Groq's flex tier
    499: Category.SERVICE_UNAVAILABLE,  # Google's backend gave up; a caller that gives up receives no status
    500: Category.SERVER_ERROR,
    501: Category.INVALID_REQUEST,
    502: Category.SERVER_ERROR,
    503: Category.SERVICE_UNAVAILABLE,
    504: Category.SERVICE_UNAVAILABLE,
    524: Category.TIMEOUT,  # Cloudflare: the origin took the request and was silent
    529: Category.OVERLOADED,  # Anthropic
    598: Category.TIMEOUT,
    599: Category.TIMEOUT,
}
_CLOUDFLARE = range(520, 531)
"""Cloudflare's own statuses for an origin that it could not use."""


def category_of_status(status: int) -> Category:
    """Return the category of *status*; `unknown` below 300."""
    if status in _STATUSES:
        return _STATUSES[status]
    if status in _CLOUDFLARE:
        return Category.SERVICE_UNAVAILABLE
    if status >= 500:  # noqa: PLR2004 - RFC 9110, 15.6
        return Category.SERVER_ERROR
    return Category.INVALID_REQUEST if status >= 300 else Category.UNKNOWN  # noqa: PLR2004 - a redirect means a wrong address
