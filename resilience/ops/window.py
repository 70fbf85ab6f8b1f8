"""The calls of one window: how they ended for their callers, what was asked of each client, and what failed. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

from resilience.failure import ErrorCategory

SLOTS: Final = 12
"""Parts of the window in which the answers of a client are counted."""
_ANSWERED: Final = frozenset({"ok", "recovered_retry", "recovered_fallback"})


@dataclass(frozen=True, slots=True, kw_only=True)
class CallTotals:
    """How the calls of a window ended, for their callers.

    Attributes:
        calls: calls that ended, without those that their callers cancelled.
        answered: those that had an answer.
        recovered: those of them that first met a failure or a refusal.
        answered_by: how many each client answered, the most first.
        p50: median duration of an answered call; None without any.
        p95: 95th percentile of it.
        p99: 99th percentile of it.
    """

    calls: int = 0
    answered: int = 0
    recovered: int = 0
    answered_by: tuple[tuple[str, int], ...] = ()
    p50: float | None = None
    p95: float | None = None
    p99: float | None = None

    @property
    def unanswered(self) -> int:
        """Calls whose callers got an error."""
        return self.calls - self.answered


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientUse:
    """What the fleet asked of one client in a window.

    Attributes:
        client: the client.
        asked: attempts made.
        failed: those of them that failed.
        refused: attempts that the circuit refused.
        answers: calls that it answered.
        p50: median duration of those calls; None without any.
        p95: 95th percentile of it.
        slots: its answers by twelfths of the window, oldest first.
    """

    client: str
    asked: int = 0
    failed: int = 0
    refused: int = 0
    answers: int = 0
    p50: float | None = None
    p95: float | None = None
    slots: tuple[int, ...] = (0,) * SLOTS


@dataclass(frozen=True, slots=True, kw_only=True)
class FailureGroup:
    """Failures of one kind at one client in a window.

    Attributes:
        client: the client.
        category: the failure category.
        status: the HTTP status of the newest; None without one.
        title: the redacted message.
        times: how many.
        last_at: when the newest happened.
        fingerprint: the group, for `errors list --fingerprint`.
        request_id: the request of the newest, for `errors timeline`.
    """

    client: str
    category: str
    status: int | None
    title: str
    times: int
    last_at: datetime
    fingerprint: str
    request_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """What happened to the calls that started in a window.

    Attributes:
        since: its start.
        until: its end.
        totals: how calls ended.
        clients: what was asked of each client, in the order of their names.
        failures: what failed, most frequent first.
    """

    since: datetime
    until: datetime
    totals: CallTotals = field(default_factory=CallTotals)
    clients: tuple[ClientUse, ...] = ()
    failures: tuple[FailureGroup, ...] = ()


def summarize(
    since: datetime,
    until: datetime,
    *,
    calls: Iterable[Mapping[str, Any]],
    answers: Sequence[Mapping[str, Any]],
    errors: Iterable[Mapping[str, Any]],
    refusals: Iterable[Mapping[str, Any]],
) -> Window:
    """Make a window of the rows of `history.reader.snapshot.WindowRows`.

    Args:
        since: start of the window.
        until: its end.
        calls: number of calls by client, client that answered, outcome and probe.
        answers: single answers with their durations.
        errors: number of errors by client, category and group, the most frequent first.
        refusals: number of refused attempts by client that led to another client.
    """
    groups = list(errors)
    counted = list(calls)
    return Window(
        since=since,
        until=until,
        totals=_totals(counted, answers),
        clients=tuple(_uses(since, until, calls=counted, answers=answers, errors=groups, refusals=refusals)),
        failures=tuple(_failures(groups)),
    )


def _totals(calls: Sequence[Mapping[str, Any]], answers: Sequence[Mapping[str, Any]]) -> CallTotals:
    by_outcome, by_client = Counter[str](), Counter[str]()
    for row in calls:
        if not row["probe"]:
            count = round(row["count"] or 0)
            by_outcome[row["outcome"]] += count
            if row["outcome"] in _ANSWERED:
                by_client[_answerer(row)] += count
    answered = sum(by_outcome[outcome] for outcome in _ANSWERED)
    p50, p95, p99 = _percentiles(answers, 0.5, 0.95, 0.99)
    return CallTotals(
        calls=sum(by_outcome.values()) - by_outcome["cancelled"],
        answered=answered,
        recovered=answered - by_outcome["ok"],
        answered_by=tuple(by_client.most_common()),
        p50=p50,
        p95=p95,
        p99=p99,
    )


def _answerer(row: Mapping[str, Any]) -> str:
    """Return the client that answered. A row of another program may lack it: then the client that was asked first."""
    return str(row["client_final"] or row["client"])


def _uses(
    since: datetime,
    until: datetime,
    *,
    calls: Sequence[Mapping[str, Any]],
    answers: Sequence[Mapping[str, Any]],
    errors: Sequence[Mapping[str, Any]],
    refusals: Iterable[Mapping[str, Any]],
) -> Iterable[ClientUse]:
    asked, failed, refused, answered = (Counter[str]() for _ in range(4))
    for row in calls:
        # A call that failed has its attempts among the errors. An answer has no row of its own but the call's.
        if row["outcome"] in _ANSWERED:
            asked[_answerer(row)] += round(row["count"] or 0)
            answered[_answerer(row)] += 0 if row["probe"] else round(row["count"] or 0)
    for row in errors:
        is_refusal = row["category"] == ErrorCategory.CIRCUIT_OPEN
        (refused if is_refusal else failed)[row["client"]] += round(row["count"] or 0)
    for row in refusals:
        refused[row["client"]] += row["count"]
    for client in sorted({*asked, *failed, *refused}):
        own = [row for row in answers if row["client"] == client]
        p50, p95 = _percentiles(own, 0.5, 0.95)
        yield ClientUse(
            client=client,
            asked=asked[client] + failed[client],
            failed=failed[client],
            refused=refused[client],
            answers=answered[client],
            p50=p50,
            p95=p95,
            slots=_slots(since, until, own),
        )


def _failures(errors: Iterable[Mapping[str, Any]]) -> Iterable[FailureGroup]:
    for row in errors:
        if row["category"] != ErrorCategory.CIRCUIT_OPEN:
            yield FailureGroup(
                client=row["client"],
                category=row["category"],
                status=row["status"],
                title=row["title"],
                times=round(row["count"] or 0),
                last_at=row["last_at"],
                fingerprint=row["fingerprint"],
                request_id=row["request_id"],
            )


def _slots(since: datetime, until: datetime, answers: Iterable[Mapping[str, Any]]) -> tuple[int, ...]:
    slots, width = [0] * SLOTS, max((until - since) / SLOTS, timedelta(microseconds=1))
    for row in answers:
        slots[min(SLOTS - 1, max(0, (row["started_at"] - since) // width))] += 1
    return tuple(slots)


def _percentiles(answers: Sequence[Mapping[str, Any]], *shares: float) -> list[float | None]:
    """Return the durations that the given shares of the answers do not exceed, by nearest rank.

    A row that was kept at a sample rate of 0.1 stands for ten answers, so each row has a weight.

    Args:
        answers: the answers, in any order.
        shares: the shares, from 0 to 1.

    Returns:
        A duration in seconds for each share; None for each if there are no answers.
    """
    ordered = sorted((row["duration"], 1 / (row["sample_rate"] or 1)) for row in answers)
    whole, found = sum(weight for _, weight in ordered), list[float | None]()
    for share in shares:
        passed, value = 0.0, None
        for duration, weight in ordered:
            passed, value = passed + weight, duration
            if passed >= share * whole:
                break
        found.append(value)
    return found
