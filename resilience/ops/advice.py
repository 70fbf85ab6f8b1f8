"""What an operator does about each failure category. Pure.

One line each, for the screen of `resilience status`. It names the cause as far as the category shows it, and the first thing to
check. It does not repeat what the library does by itself, except where an operator would otherwise act too early: an overloaded
provider comes back without help, an unpaid bill does not.

The categories themselves are described in docs/concepts.md. A new one needs a line here: a test compares the two.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from resilience.failure import ErrorCategory

_PROVIDER: Final = "the provider is in trouble: see its status page. The circuit tries again by itself"

ADVICE: Final[Mapping[ErrorCategory, str]] = {
    ErrorCategory.TIMEOUT: "the provider hangs or is too slow. The circuit tries again by itself; an attempt_timeout that is "
    "shorter than good answers need looks the same",
    ErrorCategory.RATE_LIMIT: "the provider limits the rate. The fleet waits as long as the provider states; if this comes often, ask "
    "for a higher limit",
    ErrorCategory.SERVICE_UNAVAILABLE: _PROVIDER,
    ErrorCategory.OVERLOADED: _PROVIDER,
    ErrorCategory.SERVER_ERROR: _PROVIDER,
    ErrorCategory.NETWORK: "the provider cannot be reached: check DNS, proxy, firewall and certificates of the hosts",
    ErrorCategory.OUTPUT_INVALID: "answers do not parse: look at one, and at what changed in the prompt or the model",
    ErrorCategory.OUTPUT_TRUNCATED: "answers are cut: raise max_tokens, or ask for less",
    ErrorCategory.INVALID_REQUEST: "the request is wrong, by the provider or by BAML before it asks: look at the message; a deploy may have "
    "changed it",
    ErrorCategory.CONTEXT_LENGTH: "the input is too long for the model: shorten it, or set context_clients",
    ErrorCategory.CONTENT_POLICY: "the provider refuses the content: look at one request; content_clients may answer it",
    ErrorCategory.AUTHENTICATION: "the key is not accepted: renew it in every process, then close the circuit",
    ErrorCategory.PERMISSION: "the key lacks a right: check the project and the model's access",
    ErrorCategory.NOT_FOUND: "the model or deployment does not exist: check its name, and whether it was retired",
    ErrorCategory.QUOTA_EXHAUSTED: "the account has no credit or quota left: pay or raise it, then close the circuit",
    ErrorCategory.CIRCUIT_OPEN: "the circuit refused the calls: the failure before it says why",
    ErrorCategory.CANCELLED: "the callers gave up",
    ErrorCategory.UNKNOWN: "no rule knows this error: look at one, and give it a category with RESILIENCE_CLASSIFY",
}
"""What to do about a category."""


def advice(category: str) -> str:
    """Return what to do about a category.

    Args:
        category: a category as rows and circuits have it. Those of a newer version, and the words of an operator's order,
            have no advice: the text is empty.
    """
    return ADVICE.get(ErrorCategory(category), "") if category in set(ErrorCategory) else ""
