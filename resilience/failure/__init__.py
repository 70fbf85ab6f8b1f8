"""From evidence to a Failure: what an exception means, decided without asking the network or the clock."""

from resilience.failure.evidence import evidence_of
from resilience.failure.judge import classify, judge
from resilience.failure.taxonomy import TRAITS, ErrorCategory, Evidence, Failure, Patience, Traits, Wait

__all__ = [
    "TRAITS",
    "ErrorCategory",
    "Evidence",
    "Failure",
    "Patience",
    "Traits",
    "Wait",
    "classify",
    "evidence_of",
    "judge",
]
