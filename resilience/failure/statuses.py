"""What an HTTP status means where nothing better was told."""

from __future__ import annotations

from collections.abc import Mapping

from resilience.failure.taxonomy import ErrorCategory as Kind

_STATUSES: Mapping[int, Kind] = {
    401: Kind.AUTHENTICATION,
    402: Kind.QUOTA_EXHAUSTED,
    403: Kind.PERMISSION,
    404: Kind.NOT_FOUND,
    407: Kind.AUTHENTICATION,
    408: Kind.TIMEOUT,
    409: Kind.RATE_LIMIT,  # without a cool-down, as 425: the SDKs of OpenAI and Anthropic try again
    410: Kind.NOT_FOUND,
    413: Kind.CONTEXT_LENGTH,
    424: Kind.SERVER_ERROR,  # Bedrock's ModelErrorException
    425: Kind.RATE_LIMIT,
    429: Kind.RATE_LIMIT,
    451: Kind.PERMISSION,
    498: Kind.OVERLOADED,  # Groq's flex tier
    499: Kind.SERVICE_UNAVAILABLE,  # Google's backend gave up; when the caller gives up nobody answers a status
    500: Kind.SERVER_ERROR,
    501: Kind.INVALID_REQUEST,
    502: Kind.SERVER_ERROR,
    503: Kind.SERVICE_UNAVAILABLE,
    504: Kind.SERVICE_UNAVAILABLE,
    524: Kind.TIMEOUT,  # Cloudflare: the origin took the request and was silent
    529: Kind.OVERLOADED,  # Anthropic
    598: Kind.TIMEOUT,
    599: Kind.TIMEOUT,
}
_EDGE = range(520, 531)
"""Cloudflare's own, for an origin it could not use."""


def of_status(status: int) -> Kind:
    """The category of *status*; DESIGN section 6."""
    if status in _STATUSES:
        return _STATUSES[status]
    if status in _EDGE:
        return Kind.SERVICE_UNAVAILABLE
    if status >= 500:  # noqa: PLR2004 - RFC 9110, 15.6
        return Kind.SERVER_ERROR
    return Kind.INVALID_REQUEST if status >= 300 else Kind.UNKNOWN  # noqa: PLR2004 - a redirect means a wrong address
