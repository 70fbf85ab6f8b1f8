"""Keywords of the texts of exceptions: what libraries and operating systems write where no server responded.

They are the weakest evidence, used only where no status is known. What providers write is read by `meaning.py`.
"""

from __future__ import annotations

import re
from typing import Final

from resilience.failure.body import clip
from resilience.failure.remembered import by_text
from resilience.failure.taxonomy import ErrorCategory as Category

_HEAD, _TAIL = 12_000, 4_000
"""Characters at the start and the end of a text that are searched."""

_SPACE = re.compile(r"\s+")

_KEYWORDS = (
    (Category.CANCELLED, "request was aborted | aborted by the user | operation was aborted"),
    (
        Category.OUTPUT_TRUNCATED,
        "length limit was reached | max_tokens limit was reached | incomplete due to a max",
    ),
    (
        Category.OUTPUT_INVALID,
        """quick accessor only works | empty response | no content in response | returned no content
        | no choices | failed to parse llm response | generatecontentresponse( | modelresponse( | chatcompletion(""",
    ),
    (
        Category.SERVER_ERROR,
        """has crashed | unexpectedly stopped | process has terminated | had an error while processing | experienced an error while
        | error occurred while processing your request | internal error | internal server error
        | unexpected error during processing""",
    ),
    (Category.INVALID_REQUEST, "the model returned the following errors"),
    (Category.TIMEOUT, "timed out | timeout | timedout | deadline exceeded | time-out | 超时"),
    (
        Category.NETWORK,
        """connection reset | connection refused | connection aborted | connection error | connection closed
        | connection lost | peer closed | forcibly closed | actively refused | econnre | enotfound | eai_again | getaddrinfo
        | network error | network failure | could not connect | couldn't connect | unable to reach | could not reach | ": eof | name resolution | name or service not known | no such host | dns error | socket hang up | broken pipe | network is unreachable
        | no route to host | cannot connect to | unable to connect to | failed to connect to | connect call failed
        | fetch failed | failed to fetch
        | server disconnected | premature close | eof occurred | unexpected eof | incomplete chunked | incompleteread
        | certificate | ssl: | [ssl | ssl_ | handshake | dial tcp | reqwest::error | error sending request
        | typeerror: terminated | protocol error | expecting value | transport error | stream ended | could not read response
        | stream disconnected | stream closed | remote end closed | closed the connection | error decoding response | payload is not completed | prematurely closed | unexpected end of
        | invalid json response""",
    ),
)
"""Category and alternatives, separated by bars; the first that matches decides."""

_LITERALS: Final = tuple(
    (category, tuple(literal.strip() for literal in listed.split("|"))) for category, listed in _KEYWORDS
)
_CERTIFICATE_FAULTS = (
    "certificate_verify_failed",
    "certificate verify failed",
    "failed to verify certificate",
    "unable to verify the first certificate",
    "unable to get local issuer",
    "self-signed certificate",
    "self signed certificate",
    "certificate has expired",
    "hostname mismatch",
    "x509:",
)


def normalize(text: str) -> str:
    """Return what keywords are searched in: *text* bounded, in lower case, with single spaces and straight apostrophes."""
    return _SPACE.sub(" ", clip(text, _HEAD, _TAIL)).lower().replace("\u2019", "'")


@by_text
def category_of_keywords(text: str) -> Category | None:
    """Return the category that keywords of the normalised *text* suggest; None without any."""
    matching = (category for category, literals in _LITERALS if any(map(text.__contains__, literals)))
    return next(matching, None)


def is_permanent(text: str) -> bool:
    """Return whether a network failure lies in a certificate, which no retry changes."""
    return any(literal in text for literal in _CERTIFICATE_FAULTS)
