"""From evidence to a Failure: what an exception means, decided without asking the network or the clock."""

from resilience.failure.taxonomy import TRAITS, ErrorCategory, Evidence, Failure, Patience, Traits, Wait

__all__ = ["TRAITS", "ErrorCategory", "Evidence", "Failure", "Patience", "Traits", "Wait"]
