"""Find and mask what must never be recorded: keys, tokens, passwords and personal numbers, in texts and mappings.

The rules of this package:

- A rule has a literal, which `str.find` searches, and a pattern, which is tried only where the literal stands. A text without
  the literal costs one fast scan. Only numbers and IBANs, which have no literal, are searched by pattern.
- The repetitions of a pattern are bounded, or the last one consumes what it has looked at. So twice the text takes at most twice
  the time, whatever the text. Patterns of users are held to the same (`regex_safety`).
- Rules see a text as it is, and as it reads without its escapes and look-alikes (`unescape`).
- Rules only report spans. Overlapping spans are masked as one, so no rule can uncover what another one covers.
- A long text is cut first, and the last part is dropped after masking: half a key at the cut disappears.
- In case of doubt a word is masked. What operators need stays: limits, waits, times, and ids such as `req_...`.
"""

from resilience.redaction.echo import ECHO, SentContent, SentText, content_of_request
from resilience.redaction.known_values import remember_secrets
from resilience.redaction.mapping import redact_mapping
from resilience.redaction.names import is_secret
from resilience.redaction.project_rules import FAILED, REDACTED, Hook, Redactor, path_of
from resilience.redaction.regex_safety import Pattern, check_pattern
from resilience.redaction.text import (
    CUT,
    LIMIT,
    MASK,
    MESSAGE_LIMIT,
    OVERLAP,
    cut,
    redact,
    redact_secrets,
    redact_whole,
)
from resilience.redaction.url import redact_url

__all__ = [
    "CUT",
    "ECHO",
    "FAILED",
    "LIMIT",
    "MASK",
    "MESSAGE_LIMIT",
    "OVERLAP",
    "REDACTED",
    "Hook",
    "Pattern",
    "Redactor",
    "SentContent",
    "SentText",
    "check_pattern",
    "content_of_request",
    "cut",
    "is_secret",
    "path_of",
    "redact",
    "redact_mapping",
    "redact_secrets",
    "redact_url",
    "redact_whole",
    "remember_secrets",
]
