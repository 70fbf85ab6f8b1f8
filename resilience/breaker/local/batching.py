"""Results that were not told yet: equal ones in a row, and the batches they are told in."""

from __future__ import annotations

from dataclasses import dataclass, replace

from resilience.breaker.messages import Batch, Outcome
from resilience.breaker.view import Permit


@dataclass(slots=True)
class ResultRun:
    """Equal results of one permit, in a row."""

    permit: Permit
    outcome: Outcome
    count: int = 0
    reason: str = ""


def join(batches: list[Batch], run: ResultRun) -> None:
    """Add *run* to the last batch where both are of one epoch and of no probe, else as a batch of its own."""
    last = batches[-1] if batches else None
    if last is not None and last.epoch == run.permit.epoch and not last.token and not run.permit.token:
        batches[-1] = replace(
            last, runs=(*last.runs, (run.outcome, run.count)), reason=run.reason or last.reason
        )
    else:
        batches.append(Batch(run.permit.epoch, ((run.outcome, run.count),), run.permit.token, run.reason))
