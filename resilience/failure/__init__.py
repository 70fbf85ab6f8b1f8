"""From evidence to a Failure: what an exception means, decided without asking the network or the clock."""

from resilience.failure.classify import classify, classify_evidence
from resilience.failure.evidence import evidence_of
from resilience.failure.identifiers import safe_class_name
from resilience.failure.own_rules import OwnRule, OwnRules
from resilience.failure.sent_content import sent_arguments, sent_text
from resilience.failure.taxonomy import (
    CATEGORY_RULES,
    BackoffMode,
    CategoryRules,
    ErrorCategory,
    Evidence,
    Failure,
    RetryMode,
)

__all__ = [
    "CATEGORY_RULES",
    "BackoffMode",
    "CategoryRules",
    "ErrorCategory",
    "Evidence",
    "Failure",
    "OwnRule",
    "OwnRules",
    "RetryMode",
    "classify",
    "classify_evidence",
    "evidence_of",
    "safe_class_name",
    "sent_arguments",
    "sent_text",
]
