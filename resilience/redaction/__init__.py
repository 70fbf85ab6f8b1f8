"""What must never be kept: keys, tokens, passwords and personal numbers, found in text and mappings and masked.

The laws of this room:

- A rule starts from a literal that `str.find` looks for, and its pattern is tried only there: a text without the literal
  costs one fast scan. Only numbers and IBANs, which have no literal, are looked for by pattern.
- A pattern has bounded repetitions, or ends in the one repetition that eats what it has looked at.
  Twice the text takes at most twice the time, whoever wrote the text. Patterns of users are held to the same (`vetting`).
- A text is looked at as it is and as it reads once its escapes and look-alikes are undone (`plain`).
- Rules only point at spans, and spans that overlap are masked as one: no rule can uncover what another one covered.
- A long text is cut first, and its last stretch is dropped after masking: half a key at the cut is gone, not shown.
- When in doubt a word is masked. What operators need survives: limits, waits, times, and ids such as `req_...`.
"""

from resilience.redaction.echo import ECHO, without_echo
from resilience.redaction.mapping import redact_mapping
from resilience.redaction.names import is_secret
from resilience.redaction.redactor import FAILED, REDACTED, Hook, Redactor, path_of
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
    "check_pattern",
    "cut",
    "is_secret",
    "path_of",
    "redact",
    "redact_mapping",
    "redact_secrets",
    "redact_whole",
    "without_echo",
]
