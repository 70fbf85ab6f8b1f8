"""What a store holds although no version of this package wrote it: counted, and warned of once a kind."""

from __future__ import annotations

import logging
from typing import Final

from resilience import notices
from resilience.damage_counts import counts
from resilience.redaction import redact
from resilience.terminal import escape

_REMEDY: Final = "find out what else writes to this store; `resilience circuit list` shows the circuits"
_LONGEST_NAME: Final = 80

_log = logging.getLogger("resilience")


def note(kind: str, client: str, number: int = 1) -> None:
    """Count damage, and warn at the first of its kind in this process.

    Args:
        kind: what is damaged: `circuit` or `transition`, see `resilience.damage_counts`.
        client: the client whose circuit it belongs to; empty if it is not known.
        number: how many values.
    """
    if number < 1:
        return
    first = not counts[kind]
    counts[kind] += number
    if first:
        of = f" of {escape(redact(client))[:_LONGEST_NAME]}" if client else ""
        message = f"the store of circuits has a {kind}{of} that this package did not write; it is not used: {_REMEDY}"
        notices.warn(_log, f"damaged {kind}", message)
