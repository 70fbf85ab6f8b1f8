"""Unsent results: runs of equal results, and the batches in which they are sent."""

from __future__ import annotations

from dataclasses import dataclass, replace

from resilience.breaker.messages import Batch, Outcome
from resilience.breaker.view import Permit


@dataclass(slots=True)
class ResultRun:
    """Equal, consecutive results of one permit.

    Attributes:
        permit: the permit of these attempts; all attempts of one epoch and policy share it.
        outcome: how they ended.
        count: how many there are.
        reason: category of the last failure, empty for successes.
    """

    permit: Permit
    outcome: Outcome
    count: int = 0
    reason: str = ""


def add_run(batches: list[Batch], run: ResultRun) -> None:
    """Add *run* to the last batch if both belong to one epoch and neither to a probe, else append a batch for it.

    The result of a probe needs a batch of its own, because it is sent with the token of its lease.
    """
    last = batches[-1] if batches else None
    if last is not None and last.epoch == run.permit.epoch and not last.token and not run.permit.token:
        batches[-1] = replace(
            last, runs=(*last.runs, (run.outcome, run.count)), reason=run.reason or last.reason
        )
    else:
        batches.append(Batch(run.permit.epoch, ((run.outcome, run.count),), run.permit.token, run.reason))
