"""What results of attempts do to a circuit: the window, the probes, and the row of refused requests. Pure."""

from __future__ import annotations

from resilience.breaker import rejections
from resilience.breaker.messages import FAILURES, Batch, Outcome, TransitionRule
from resilience.breaker.state import CircuitState
from resilience.breaker.window import add_to_buckets
from resilience.breaker.working_copy import WorkingCopy


def apply_batch(copy: WorkingCopy, batch: Batch) -> int:
    """Count a batch of results. Return how many were too late to count.

    The epoch is compared for every run, not once: a run may trip the circuit, and the runs after it are then late.
    """
    late = 0
    for outcome, count in batch.runs:
        if batch.epoch != copy.draft.epoch:
            late += count
        elif batch.token:
            late += count - _on_probe_result(copy, batch.token, outcome, batch.reason)
        elif copy.draft.state is CircuitState.CLOSED and outcome is not Outcome.IGNORED:
            late += _on_result(copy, outcome, count, batch.reason)
    return late


def count_results(copy: WorkingCopy, outcome: Outcome, count: int, reason: str) -> None:
    """Add a run of equal results to the window, or to the row of refused requests."""
    draft = copy.draft
    if outcome is Outcome.REJECTED:
        draft.rejected += count
        return
    if outcome is Outcome.IGNORED:
        return
    draft.buckets = add_to_buckets(draft.buckets, copy.now, outcome, count, copy.policy)
    if outcome in FAILURES:
        draft.reason = reason or draft.reason
    else:
        draft.cooldown_count = 0
        rejections.end_row(draft)


def _on_result(copy: WorkingCopy, outcome: Outcome, count: int, reason: str) -> int:
    """Count a run of equal results in closed, and open the circuit if a rule is violated.

    Returns:
        How many results of the run came after the circuit opened.
    """
    if outcome is Outcome.REJECTED:
        count_results(copy, outcome, count, reason)
        return 0
    violation = copy.window().first_violation(outcome, count, copy.policy)
    count_results(copy, outcome, violation or count, reason)
    rule = copy.window().violated_rule(copy.policy) if violation else None
    if rule is None:
        return 0
    copy.trip(rule)
    return count - violation


def _on_probe_result(copy: WorkingCopy, token: str, outcome: Outcome, reason: str) -> int:
    """Apply the result of a probe. Return how many results counted: 1, or 0 if the token is unknown."""
    draft = copy.draft
    others = tuple(lease for lease in draft.leases if lease.token != token)
    if len(others) == len(draft.leases):
        return 0
    draft.leases = others
    if outcome in FAILURES:
        draft.reason = reason or draft.reason
        copy.trip(TransitionRule.PROBE)
    elif outcome is Outcome.SLOW_SUCCESS and copy.policy.slow_call_duration is not None:
        copy.trip(TransitionRule.SLOW_RATE)
    elif outcome is Outcome.REJECTED:
        draft.rejected += 1
    elif outcome is not Outcome.IGNORED:
        draft.cooldown_count = 0
        rejections.end_row(draft)
        draft.successes += 1
        if draft.successes >= copy.policy.successes_to_close:
            copy.recover()
    return 1
