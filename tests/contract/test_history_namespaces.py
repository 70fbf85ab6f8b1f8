"""Histories of two namespaces in one database are kept apart, and what is counted beside the rows is exact, on both databases."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from support.history_places import Place, migrated_file, migrated_postgres, place
from support.history_records import call, error, fallback
from typer.testing import CliRunner

from resilience.cli import app
from resilience.failure import ErrorCategory
from resilience.history import Action, CallOutcome, Recorder, Retention, SyncHistory, TransitionRecord
from resilience.history.log_import import import_lines
from resilience.history.retention import pruning
from resilience.history.schema import urls
from resilience.history.store.database import Database
from resilience.history.store.transitions import read_circuit_history
from resilience.logs import JsonLines
from resilience.records.records import Record

__all__ = ["migrated_file", "migrated_postgres", "place"]


@contextmanager
def recording(url: str, *records: Record, **options: Any) -> Iterator[Recorder]:
    """Yield an open recorder that wrote *records*."""
    recorder = Recorder(url, **options)
    for record in records:
        recorder.record(record)
    assert recorder.flush(60)
    yield recorder
    recorder.close(60)


def write(url: str, *records: Record, **options: Any) -> None:
    """Write *records* as a process that ends then."""
    with recording(url, *records, **options):
        pass


def moved(namespace: str, **changes: Any) -> TransitionRecord:
    given: dict[str, Any] = {
        "client": "Primary",
        "scope": "shared",
        "epoch": 1,
        "occurred_at": datetime.now(UTC),
        "from_state": "closed",
        "to_state": "open",
        "rule": "failure_rate",
        "reason": "timeout",
    }
    return TransitionRecord(namespace=namespace, **given | changes)


def of(namespace: str) -> list[Record]:
    """Return a record of each kind of one namespace, which names its clients and kinds of errors as the others do."""
    return [
        error(namespace=namespace, message=namespace),
        call(namespace=namespace, outcome=CallOutcome.RECOVERED_RETRY, retries=1, recovery=1.0, tenant="t"),
        fallback(namespace=namespace),
        moved(namespace),
    ]


def test_every_query_reads_one_namespace(place: Place) -> None:
    """Each query finds the rows of its own namespace alone, those of both where that is asked for, and an id of another one not at all."""
    for namespace, times in (("alpha", 1), ("beta", 2)):
        for _ in range(times):
            write(place.url, *of(namespace), namespace=namespace)
    alpha, every = SyncHistory(place.url, "alpha"), SyncHistory(place.url)
    queries = [
        name
        for name, method in inspect.getmembers(SyncHistory, inspect.isfunction)
        if "namespace" in inspect.signature(method).parameters
        and name not in {"__init__", "error", "timeline"}
    ]
    assert len(queries) == 13

    for name in queries:
        mine, both, other = (
            getattr(alpha, name)(),
            getattr(every, name)(),
            getattr(alpha, name)(namespace="beta"),
        )
        assert mine
        assert mine != both
        assert mine != other or name == "outages"
        if isinstance(mine, list) and name != "rates":
            assert {row.namespace for row in mine} == {"alpha"}, name
            assert {row.namespace for row in both} == {"alpha", "beta"}, name
    assert (1, 3) == (alpha.rates()[0].errors, every.rates()[0].errors)
    assert [1, 2] == [sorted(group.total for group in every.groups())[number] for number in (0, 1)]
    theirs = every.errors(namespace="beta")[0]
    assert (alpha.error(theirs.event_id), every.error(theirs.event_id)) == (None, theirs)
    assert len(alpha.timeline("request-1")) == 3
    circuits = read_circuit_history(place.url, "beta")
    assert (circuits.clients, circuits.transitions["Primary"].namespace) == (("Primary",), "beta")


def test_commands_read_the_configured_namespace(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lists have the configured namespace or that of --namespace; an empty one says which others there are."""
    write(place.url, *of("alpha"), *of("beta"))
    monkeypatch.setenv("RESILIENCE_DATABASE_URL", place.url)
    monkeypatch.setenv("RESILIENCE_NAMESPACE", "alpha")

    def output(*arguments: str) -> str:
        done = CliRunner().invoke(app, list(arguments))
        assert done.exit_code == 0, done.output
        return done.output

    assert "alpha" in output("errors", "--json")
    assert "beta" not in output("errors", "--json")
    assert "alpha" not in output("--namespace", "beta", "errors", "--json")
    assert output("calls", "--tenant", "t", "--json").count('"call_id"') == 1
    assert output("calls", "--tenant", "other", "--json").strip() == "[]"
    assert "in the namespace 'gamma': it has those of alpha, beta" in output("--namespace", "gamma", "calls")


def test_a_process_that_left_in_order_is_neither_alive_nor_degraded(place: Place) -> None:
    """While it runs it is alive, and degraded if its store is away. After its end it is neither, and the time away is kept."""
    away = [True]
    with recording(place.url, error(), degraded=lambda: away[0]):
        assert read_circuit_history(place.url, "resilience").degraded == 1
    state = place.asked(
        "SELECT degraded, degraded_since, ended_at IS NOT NULL, degraded_seconds >= 0 FROM instances"
    )
    assert state == [(False, None, True, True)]
    found = read_circuit_history(place.url, "resilience")

    assert (found.processes, found.degraded) == (0, 0)


def test_times_of_degradation_add_up(place: Place) -> None:
    """A heartbeat after the store came back adds the time; one that is repeated adds nothing twice."""
    away = [False]
    with recording(place.url, error(), degraded=lambda: away[0]) as recorder:
        for away[0] in (True, True, False, False, True):
            recorder.record(error())
            assert recorder.flush(60)
            start = "'2025-06-01 12:00:00.000000'" if place.server is None else "'2025-06-01 12:00:00+00'"
            place.asked(f"UPDATE instances SET degraded_since = {start} WHERE degraded_since IS NOT NULL")  # noqa: S608 - a constant
        ((seconds, since),) = place.asked(
            "SELECT degraded_seconds, degraded_since IS NOT NULL FROM instances"
        )
    then = datetime(2025, 6, 1, 12, tzinfo=UTC)

    assert since
    assert 0.5 < seconds / (datetime.now(UTC) - then).total_seconds() < 1.5


def test_a_process_that_goes_on_after_a_signal_has_not_left(place: Place) -> None:
    """What a signal handler wrote as the end is taken back by the next batch; a killed process has no end."""
    with recording(place.url, error()) as recorder:
        assert place.asked("SELECT ended_at FROM instances") == [(None,)]
        recorder._flush_at_signal(60.0)
        assert place.asked("SELECT ended_at IS NOT NULL FROM instances") == [(True,)]
        recorder.record(error())
        assert recorder.flush(60)

        assert place.asked("SELECT ended_at FROM instances") == [(None,)]


def test_settings_have_one_row_for_all_processes_with_them(place: Place) -> None:
    """Equal settings have one digest, whatever their order; each process names its own; unused ones are pruned with their processes."""
    for settings in ({"a": 1, "b": [2.5, None]}, {"b": (2.5, None), "a": 1}, {"a": 2}):
        write(place.url, error(), settings=lambda settings=settings: settings)
    assert place.asked("SELECT count(*) FROM policies") == [(2,)]
    assert place.asked(
        "SELECT count(*) FROM instances JOIN policies USING (policy_id) GROUP BY policy_id ORDER BY 1"
    ) == [(1,), (2,)]
    place.asked("DELETE FROM instances WHERE policy_id = (SELECT max(policy_id) FROM policies)")
    database = Database(urls.parse(place.url))
    later = datetime.now(UTC) + timedelta(days=390)
    place.asked("UPDATE policies SET first_seen_at = '2020-01-01 00:00:00.000000'")
    list(pruning.prune(database, Retention(minutes=None), later))
    database.close()

    assert place.asked("SELECT count(*) FROM policies") == [(1,)]


def test_counters_are_exact_whatever_becomes_of_the_rows(place: Place) -> None:
    """Sampled, dropped and pruned, in pieces and twice: sums over each counter are the records', and never go back."""
    old = datetime.now(UTC) - timedelta(days=500)
    first = old.replace(minute=0, second=1, microsecond=0)
    records: list[Record] = [
        *(fallback(occurred_at=first, reason=ErrorCategory.CIRCUIT_OPEN, succeeded=n > 1) for n in range(5)),
        *(moved("resilience", epoch=n, occurred_at=first) for n in range(1, 4)),
        moved("resilience", epoch=4, actor="ada", reason="a bill", occurred_at=first),
        moved("resilience", epoch=5, occurred_at=first),
        moved("resilience", epoch=-7, occurred_at=first, rule="cool_down"),
        *(error(occurred_at=first + timedelta(hours=n), duration=0.1 * n, attempt=2) for n in range(20)),
        *(error(occurred_at=first, category=ErrorCategory.CIRCUIT_OPEN) for _ in range(3)),
        *(error(occurred_at=first, denied="budget", action=Action.FALLBACK) for _ in range(4)),
        *(call(started_at=first + timedelta(hours=n), duration=1.5, tenant="t") for n in range(10)),
    ]
    write(place.url, *records, max_rows=20, batch=5)

    def sums() -> list[tuple[Any, ...]]:
        return [
            *place.asked(
                "SELECT sum(errors), sum(attempts), sum(calls), sum(answered_calls), sum(duration_sum) FROM rollups"
            ),
            *place.asked(
                "SELECT category, denied, sum(count), sum(exhausted) FROM error_rollups GROUP BY 1, 2 ORDER BY 1, 2"
            ),
            *place.asked("SELECT kind, sum(count) FROM latencies GROUP BY 1 ORDER BY 1"),
            *place.asked("SELECT tenant, sum(calls) FROM tenant_rollups GROUP BY 1"),
        ]

    before = sums()
    kept = place.asked(
        "SELECT (SELECT count(*) FROM fallbacks), (SELECT count(*) FROM breaker_events WHERE rule <> 'cool_down')"
    )[0]
    assert before == [
        (24, 34, 10, 10, 15.0),
        ("circuit_open", "", 8, 0),
        ("rate_limit", "", 20, 20),
        ("rate_limit", "budget", 4, 0),
        ("attempt_failed", 24),
        ("attempt_ok", 10),
        ("call", 10),
        ("t", 10),
    ]
    database = Database(urls.parse(place.url))
    for retention in (Retention(rollups=None), Retention(), Retention()):
        list(pruning.prune(database, retention))
        assert sums() == before
    database.close()
    totals = place.asked("SELECT kind, sum(count) FROM pruned_events GROUP BY kind ORDER BY kind")
    left = place.asked("SELECT count(*) FROM breaker_events WHERE rule <> 'cool_down'")[0][0]

    assert place.asked("SELECT count(*) FROM errors") == [(0,)]
    assert place.asked("SELECT max(grain) FROM rollups") == [(0,)]
    assert totals == [("fallback", kept[0]), ("transition", kept[1] - left)]


def test_percentiles_are_those_of_the_durations(place: Place) -> None:
    """Percentiles are the upper ends of the sizes that hold them, at the client that was asked or that answered, by kind."""
    write(
        place.url,
        *(call(duration=0.1 * n, answer_duration=0.05 * n, client_final="Secondary") for n in range(1, 101)),
        *(error(duration=4.0) for _ in range(3)),
        call(outcome=CallOutcome.FAILED, client_final=None, duration=50.0),
    )
    found = {(row.client, row.kind): row for row in SyncHistory(place.url, "resilience").latency()}

    assert sorted(found) == [
        ("Primary", "attempt_failed"),
        ("Secondary", "attempt_ok"),
        ("Secondary", "call"),
    ]
    calls, attempts, failed = (
        found[key]
        for key in (("Secondary", "call"), ("Secondary", "attempt_ok"), ("Primary", "attempt_failed"))
    )
    assert (calls.count, failed.count, failed.p50_seconds, failed.p99_seconds) == (100, 3, 4.0, 4.0)
    assert calls.mean_seconds == pytest.approx(5.05)
    for exact, row in ((5.0, calls.p50_seconds), (9.5, calls.p95_seconds), (2.5, attempts.p50_seconds)):
        assert exact <= row < exact * 1.2


def test_lines_of_an_older_writer_get_the_namespace_of_the_import(place: Place, tmp_path: Path) -> None:
    """A line without a namespace belongs to that of the import, and tokens of its failed attempts are counted once, with the call."""
    recorder = Recorder(None, sinks=[JsonLines(tmp_path)])
    for record in (error(input_tokens=2), call(input_tokens=5, failed_input_tokens=2, retries=1)):
        recorder.record(record)
    recorder.flush(60)
    recorder.close(60)
    paths = sorted(path for path in tmp_path.iterdir() if path.suffix == ".jsonl")
    for path in paths:
        text = path.read_text()
        for field in ('"namespace":"resilience"', '"failed_input_tokens":2'):
            text = text.replace(f",{field}", "").replace(f"{field},", "")
        path.write_text(text)
    for _ in range(2):
        import_lines(place.url, paths, namespace="alpha")

    assert place.asked("SELECT namespace, sum(input_tokens) FROM rollups GROUP BY namespace") == [
        ("alpha", 5)
    ]
    assert place.asked("SELECT namespace, input_tokens FROM errors") == [("alpha", 2)]
