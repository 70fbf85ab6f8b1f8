"""The queries of the history, on SQLite and PostgreSQL: filters, pages, rates, groups, and errors with a remedy."""

from __future__ import annotations

import asyncio
import dataclasses
import errno
import inspect
import shutil
import threading
from collections.abc import AsyncIterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from support.history_places import Place, migrated_file, migrated_postgres, place
from support.history_table_rows import HOUR, keep, moved

from resilience.errors import ConfigurationError, HistoryError
from resilience.history import CallOutcome, History, SyncHistory
from resilience.history.reader import aggregates, connections, results
from resilience.history.schema import migrations, urls
from resilience.history.schema.sqlite_driver import module as sqlite3
from resilience.history.schema.views import VIEWS

__all__ = ["migrated_file", "migrated_postgres", "place"]

NOW = datetime.now(UTC)
HOSTILE = "' OR 1=1; DROP TABLE errors; --\x00\ud800%_"


@pytest.fixture
async def history(place: Place) -> AsyncIterator[History]:
    history = History(place.url)
    yield history
    await history.aclose()


def methods() -> list[str]:
    public = {
        name for name, _ in inspect.getmembers(SyncHistory, inspect.isfunction) if not name.startswith("_")
    }
    return sorted(public)


def test_both_histories_have_the_same_methods() -> None:
    """`SyncHistory` has the names, parameters and documentation of `History`."""
    for name in methods():
        awaited, blocking = getattr(History, name), getattr(SyncHistory, name)
        assert inspect.signature(awaited).parameters == inspect.signature(blocking).parameters
        assert inspect.iscoroutinefunction(awaited)
        assert blocking.__doc__
    assert "errors" in methods()
    assert len(methods()) == 16


async def test_both_histories_return_the_same(place: Place, history: History) -> None:
    """Every method without arguments returns the same, awaited and blocking."""
    keep(place.url, "errors", {}, {"client": "B"})
    keep(place.url, "calls", {"outcome": "failed"})
    keep(place.url, "fallbacks", {"succeeded": True})
    keep(place.url, "rollups", {"calls": 2, "retried_calls": 1, "attempts": 3, "errors": 1})
    keep(place.url, "breaker_events", *moved("A", (0, "closed", "open")))
    keep(place.url, "latencies", {"count": 1})
    keep(place.url, "tenant_rollups", {"calls": 1})
    without_arguments = [name for name in methods() if name not in {"sql", "error", "timeline"}]

    for name in without_arguments:
        found = await getattr(history, name)()
        assert found
        assert found == getattr(history.sync, name)()


FILTERS: list[tuple[dict[str, Any], str]] = [
    ({}, "dcba"),
    ({"client": "B"}, "b"),
    ({"function": "G"}, "c"),
    ({"category": "network"}, "d"),
    ({"status": 503}, "b"),
    ({"fingerprint": "9" * 32}, "c"),
    ({"request_id": "other"}, "d"),
    ({"since": HOUR + timedelta(minutes=2)}, "dc"),
    ({"until": HOUR + timedelta(minutes=2)}, "ba"),
    ({"since": HOUR + timedelta(minutes=1), "until": HOUR + timedelta(minutes=3)}, "cb"),
    ({"client": "A", "function": "G", "category": "timeout"}, "c"),
    ({"client": "nobody"}, ""),
    ({"limit": 2}, "dc"),
    ({"limit": 0}, ""),
]


async def test_errors_match_every_filter(place: Place, history: History) -> None:
    """Errors match each filter alone and several together, newest first."""
    variants: list[dict[str, Any]] = [
        {},
        {"client": "B", "status": 503},
        {"function": "G", "fingerprint": "9" * 32},
        {"category": "network", "request_id": "other"},
    ]
    keep(
        place.url,
        "errors",
        *(
            {"event_id": letter * 32, "occurred_at": HOUR + timedelta(minutes=minute), **row}
            for minute, (letter, row) in enumerate(zip("abcd", variants, strict=True))
        ),
    )

    for filters, expected in FILTERS:
        found = await history.errors(**filters)
        assert (filters, expected) == (filters, "".join(record.event_id[0] for record in found))


async def test_calls_match_outcome_and_not_ok(place: Place, history: History) -> None:
    """Calls match their outcome; `not_ok` leaves out calls that were answered at once."""
    for minute, outcome in enumerate(("ok", "failed", "recovered_retry")):
        keep(place.url, "calls", {"outcome": outcome, "started_at": HOUR + timedelta(minutes=minute)})
    failed, recovered = CallOutcome.FAILED, CallOutcome.RECOVERED_RETRY

    assert [recovered, failed] == [call.outcome for call in await history.calls(not_ok=True)]
    assert [failed] == [call.outcome for call in await history.calls(outcome="failed")]
    assert [failed, CallOutcome.OK] == [
        call.outcome for call in await history.calls(until=HOUR + timedelta(minutes=2))
    ]


async def test_pages_work_also_for_equal_times(place: Place, history: History) -> None:
    """Twelve errors of the same microsecond make four pages, each error on one."""
    keep(place.url, "errors", *({"event_id": f"{number:032d}"} for number in range(12)))
    found = page = await history.errors(limit=3)
    while page := await history.errors(limit=3, before=page[-1]):
        found += page

    assert [f"{number:032d}" for number in reversed(range(12))] == [record.event_id for record in found]


async def test_an_error_is_read_by_its_id(place: Place, history: History) -> None:
    """`error` returns the record with this id, and None for an unknown one."""
    keep(place.url, "errors", {"event_id": "e" * 32, "detail": {"tier": "gold"}})
    found = await history.error("e" * 32)

    assert found is not None
    assert (found.event_id, found.detail) == ("e" * 32, {"tier": "gold"})
    assert await history.error("0" * 32) is None
    assert await history.error(HOSTILE) is None


async def test_hostile_filters_are_plain_values(place: Place, history: History) -> None:
    """SQL, wildcards, NUL and lone surrogates in a filter match nothing and change nothing."""
    keep(place.url, "errors", {})
    for name in ("client", "function", "fingerprint", "request_id"):
        assert await history.errors(**{name: HOSTILE}) == []  # type: ignore[arg-type]  # one of several names
    assert await history.timeline(HOSTILE) == []
    assert await history.outages(client=HOSTILE) == []
    assert await history.rates(client=HOSTILE) == []
    assert await history.mttr(client=HOSTILE) == []
    assert await history.recovery(client=HOSTILE) == []

    assert len(await history.errors()) == 1


@pytest.mark.parametrize(
    ("method", "arguments", "message"),
    [
        ("errors", {"limit": -1}, "limit=-1: give a whole number from 0 to 100000"),
        ("errors", {"limit": 10**30}, "limit=1000000"),
        ("errors", {"category": "bad luck"}, "category='bad luck': give one of timeout, rate_limit"),
        ("errors", {"since": datetime(2025, 1, 1)}, "since=.*has no timezone"),  # noqa: DTZ001 - this is what is refused
        ("errors", {"until": -1}, "until=-1"),
        ("calls", {"outcome": "meh"}, "outcome='meh': give one of ok, recovered_retry"),
        ("fallbacks", {"reason": "meh"}, "reason='meh'"),
        ("rates", {"by": "moon"}, "by='moon': give one or several of hour, client, function"),
        ("rates", {"by": ()}, r"by=\(\)"),
        ("rates", {"by": ("client", "client")}, "each once"),
        ("groups", {"limit": True}, "limit=True"),
        ("groups", {"category": "meh"}, "category='meh'"),
    ],
)
def test_wrong_arguments_are_refused_before_reading(
    method: str, arguments: dict[str, Any], message: str
) -> None:
    """The error names argument, value and what is allowed, and comes without a database."""
    with pytest.raises(ValueError, match=message):
        getattr(SyncHistory(None), method)(**arguments)


async def test_rates_add_up_by_each_key(place: Place, history: History) -> None:
    """Rates add up by client, function, hour or several; most errors first, hours in order."""
    row = {
        "calls": 4,
        "attempts": 5,
        "errors": 1,
        "failed_calls": 1,
        "answered_calls": 4,
        "duration_sum": 2.0,
        "duration_max": 1.5,
    }
    later = HOUR + timedelta(hours=1)
    keep(
        place.url,
        "rollups",
        row,
        row | {"bucket_at": HOUR + timedelta(minutes=1), "function": "G", "errors": 0, "duration_max": 0.5},
        row | {"bucket_at": later, "client": "B", "errors": 5, "failed_calls": 4, "input_tokens": 7},
    )
    a, b = sorted(await history.rates(), key=lambda rate: rate.client or "")

    assert ["B", "A"] == [rate.client for rate in await history.rates()]
    assert (8, 10, 1, 2, 0.1, 0.25, 0.5, 1.5) == (
        a.calls, a.attempts, a.errors, a.failed_calls, a.error_rate, a.failed_rate, a.mean_seconds, a.longest_seconds
    )  # fmt: skip
    assert (b.error_rate, b.input_tokens, b.function, b.hour) == (1.0, 7, None, None)
    assert [(HOUR, "A"), (later, "B")] == [
        (rate.hour, rate.client) for rate in await history.rates(by=("client", "hour"))
    ]
    assert ["F"] == [rate.function for rate in await history.rates("function", client="B")]
    assert [(HOUR, 4)] == [
        (rate.hour, rate.calls) for rate in await history.rates("hour", function="F", until=later)
    ]
    assert await history.rates(since=60.0) == []


async def test_a_rate_of_nothing_is_none(place: Place, history: History) -> None:
    """A client without attempts has no error rate; one with only cancelled calls has no failure rate."""
    keep(place.url, "rollups", {"calls": 2, "cancelled_calls": 2})
    (rate,) = await history.rates()

    assert (rate.error_rate, rate.failed_rate, rate.mean_seconds) == (None, None, None)


def test_groups_of_a_window_use_the_index_on_time(migrated_file: Path, tmp_path: Path) -> None:
    """SQLite reads only the rows of the window, and does not search each group of all time."""
    shutil.copy(migrated_file, tmp_path / "x.db")
    url = f"sqlite:///{tmp_path}/x.db"
    keep(url, "errors", *({"fingerprint": str(number % 5) * 32} for number in range(500)))
    with connections.open_blocking(urls.parse(url)).connect() as connection:
        connection.exec_driver_sql("PRAGMA query_only=OFF")
        connection.exec_driver_sql("ANALYZE")
        (statement,) = aggregates.groups().build("sqlite")
        sql = statement.compile(connection, compile_kwargs={"literal_binds": True})
        plan = [text for *_, text in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {sql}")]

    assert [text for text in plan if "ix_errors_occurred_at (occurred_at>?)" in text]


async def test_groups_count_the_window_and_all_time(place: Place, history: History) -> None:
    """Counts of the window come from rows weighted by sample rate; the rest comes from the group, if it has a row."""
    keep(
        place.url,
        "errors",
        {"sample_rate": 0.5, "client": "B"},
        {"occurred_at": HOUR + timedelta(minutes=1)},
        {"fingerprint": "9" * 32, "category": "network", "message": "refused", "occurred_at": HOUR},
        {"fingerprint": "7" * 32, "occurred_at": NOW - timedelta(days=3)},
    )
    first = NOW - timedelta(days=20)
    known = {
        "fingerprint": "f" * 32,
        "count": 500,
        "first_seen_at": first,
        "status": "muted",
        "note": "known",
    }
    keep(place.url, "error_groups", known, {"fingerprint": "7" * 32, "count": 3, "last_seen_at": HOUR})
    group, unknown = await history.groups()

    assert (group.errors, group.clients, group.total, group.status, group.note) == (
        3,
        2,
        500,
        "muted",
        "known",
    )
    assert (group.first_seen_at, group.last_seen_at) == (first, HOUR + timedelta(minutes=1))
    assert (unknown.errors, unknown.total, unknown.title, unknown.category) == (1, 1, "refused", "network")
    assert (unknown.status, unknown.first_seen_at) == ("open", HOUR)
    assert [500, 3] == [item.errors for item in await history.groups(since=None)]
    assert ["f" * 32] == [item.fingerprint for item in await history.groups(since=None, limit=1)]
    assert [2] == [item.errors for item in await history.groups(client="B")]
    assert ["9" * 32] == [item.fingerprint for item in await history.groups(category="network")]
    assert await history.groups(since=None, category="network") == []
    assert [("9" * 32, 1)] == [
        (item.fingerprint, item.errors)
        for item in await history.groups(since=None, until=HOUR + timedelta(1), category="network")
    ]


async def test_groups_that_were_misread(place: Place, history: History) -> None:
    """Unknown errors, and those whose category behaviour corrected, are found together; other details do not count."""
    corrected = {"corrected": "by behaviour: the client refuses every request"}
    keep(
        place.url,
        "errors",
        {"fingerprint": "1" * 32, "category": "unknown"},
        {"fingerprint": "2" * 32, "category": "invalid_request", "detail": corrected},
        {"fingerprint": "3" * 32, "category": "invalid_request", "detail": {"other": 1}},
        {"fingerprint": "4" * 32},
    )

    for since in (timedelta(days=1), None):
        found = {item.fingerprint[0] for item in await history.groups(misread=True, since=since)}
        assert {"1", "2"} == found - {"f"}


async def test_outages_match_every_filter(place: Place, history: History) -> None:
    """Outages match client, scope, time and whether they are running."""
    own = "9" * 32
    keep(
        place.url,
        "breaker_events",
        *moved("A", (0, "closed", "open"), (1, "open", "closed"), (5, "closed", "open")),
        *moved("B", (3, "closed", "open"), scope=own),
    )
    a, b, old = await history.outages()

    assert ("A", None, None) == (a.client, a.ended_at, a.seconds)
    assert (b.client, b.scope) == ("B", own)
    assert (old.started_at, old.ended_at, old.seconds) == (HOUR, HOUR + timedelta(minutes=1), 60.0)
    assert [a, b] == await history.outages(running=True)
    assert [b] == await history.outages(scope=own)
    assert [a, old] == await history.outages(client="A", namespace="n")
    assert [b] == await history.outages(since=HOUR + timedelta(minutes=2), until=HOUR + timedelta(minutes=4))
    assert [a] == await history.outages(limit=1)
    (mttr,) = await history.mttr(client="A")
    assert (mttr.mttr_seconds, mttr.open_since_at) == (60.0, HOUR + timedelta(minutes=5))


async def test_other_windows_than_the_views(place: Place, history: History) -> None:
    """Where a view covers one day, the method covers any window, by the same SQL."""
    recent, old = (
        {"started_at": HOUR, "outcome": "failed"},
        {"started_at": NOW - timedelta(days=9), "outcome": "failed"},
    )
    keep(place.url, "calls", recent, old)
    keep(
        place.url, "rollups", {"retried_calls": 4, "recovered_retry": 1, "bucket_at": NOW - timedelta(days=9)}
    )
    keep(place.url, "fallbacks", {"succeeded": True, "occurred_at": HOUR}, {"from_client": "C"})

    assert [1] == [item.affected_calls for item in await history.recovery()]
    assert [2] == [item.affected_calls for item in await history.recovery(since=None)]
    assert await history.recovery(since=60.0) == []
    assert await history.retry_success() == []
    assert [(4, 0.25)] == [
        (item.retried_calls, item.success_rate) for item in await history.retry_success(since=None)
    ]
    assert [("A", 1)] == [
        (item.from_client, item.succeeded) for item in await history.fallback_success(from_client="A")
    ]


def test_values_have_the_columns_of_their_views() -> None:
    """The fields of a result are the columns of its view, in order."""
    columns = {view.name: list(view.columns) for view in VIEWS}
    kinds = {
        "v_retry_success": results.RetrySuccess,
        "v_fallback_success": results.FallbackSuccess,
        "v_breaker_outages": results.Outage,
        "v_mttr": results.MttrStats,
        "v_recovery": results.Recovery,
    }

    for name, kind in kinds.items():
        assert columns[name] == [field.name for field in dataclasses.fields(kind)]


# --- databases that cannot be read ---------------------------------------------------------------------------------------


async def test_an_old_schema_is_an_error_with_the_command(place: Place, history: History) -> None:
    """A missing table is reported with the revision and the command, awaited, blocking and in SQL."""
    migrations.downgrade(place.url, "0001")

    message = f"has revision 0001 .*{migrations.head()}.*`resilience db upgrade`"
    with pytest.raises(HistoryError, match=message):
        await history.errors()
    with pytest.raises(HistoryError, match=message):
        history.sync.rates()
    with pytest.raises(HistoryError, match=r"(?s)v_mttr.*`resilience db upgrade`"):
        history.sync.sql("SELECT * FROM v_mttr")


async def test_a_newer_database_asks_for_a_newer_package(place: Place, history: History) -> None:
    """With a newer schema the error asks to upgrade the package."""
    place.asked("ALTER TABLE errors RENAME TO failures")
    place.asked("UPDATE resilience_version SET version_num = '9999'")

    with pytest.raises(migrations.NewerHistoryError, match=r"9999.*upgrade the baml-resilience package"):
        await history.errors()


async def test_a_server_without_tables_is_an_error(postgres_url: str) -> None:
    """PostgreSQL is never upgraded automatically, so an empty one is an error with the command."""
    history = History(postgres_url)
    with pytest.raises(HistoryError, match="has no tables yet: run `resilience db upgrade`"):
        await history.errors()
    await history.aclose()


async def test_a_missing_driver_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without psycopg the error names the extra."""

    def missing(*_: object, **__: object) -> None:
        raise ModuleNotFoundError

    monkeypatch.setattr("resilience.history.reader.connections.sa.create_engine", missing)
    monkeypatch.setattr("sqlalchemy.ext.asyncio.create_async_engine", missing)
    history = History("postgresql+psycopg://host/x")

    message = r"pip install 'baml-resilience\[postgres\]'"
    with pytest.raises(ConfigurationError, match=message):
        await history.errors()
    with pytest.raises(ConfigurationError, match=message):
        history.sync.errors()


async def test_cancelling_a_read_returns_immediately(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cancelling does not wait for a statement on a locked file, and the history can be used afterwards."""
    url = f"sqlite:///{tmp_path}/resilience.db"
    migrations.upgrade(url)
    history = History(url)
    await history.errors()
    holder = sqlite3.connect(tmp_path / "resilience.db", isolation_level=None)
    holder.execute("PRAGMA locking_mode=EXCLUSIVE")
    monkeypatch.setattr(connections, "_BUSY", 30.0)
    await history.aclose()
    holder.execute("BEGIN EXCLUSIVE")
    task = asyncio.ensure_future(history.errors())
    done, _ = await asyncio.wait({task}, timeout=0.2)
    assert not done
    task.cancel()
    done, _ = await asyncio.wait({task}, timeout=5.0)

    assert {task} == done
    assert task.cancelled()
    holder.close()
    await history.aclose()
    assert await history.errors() == []
    await history.aclose()


async def test_a_cancelled_query_ends_in_the_database(place: Place, history: History) -> None:
    """A cancelled query does not continue on the server or in a thread."""
    if place.server is None:
        slow = "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c) SELECT COUNT(*) FROM c"
    else:
        slow = "SELECT pg_sleep(60)"
    before = threading.active_count()
    task = asyncio.ensure_future(history.sql(slow, timeout=60))
    await asyncio.wait({task}, timeout=0.3)
    task.cancel()
    done, _ = await asyncio.wait({task}, timeout=5.0)

    assert {task} == done
    assert task.cancelled()
    if place.server is not None:
        running = "SELECT COUNT(*) FROM pg_stat_activity WHERE application_name = 'resilience sql' AND state = 'active'"
        for _ in range(200):
            if place.asked(running) == [(0,)]:
                break
            await asyncio.sleep(0.02)
        assert [(0,)] == place.asked(running)
    assert (await history.sql("SELECT 1 AS x")).rows == ((1,),)
    assert threading.active_count() <= before + 2


async def test_a_reader_leaves_no_transaction_open(place: Place, history: History) -> None:
    """After a read no transaction is open: SQLite can restart its WAL, PostgreSQL can vacuum."""
    keep(place.url, "errors", {})
    await history.errors()
    await history.summary()
    history.sync.rates()

    if place.server is None:
        with closing(sqlite3.connect(place.url.removeprefix("sqlite:///"), isolation_level=None)) as writer:
            writer.execute("UPDATE errors SET message = 'x'")
            assert (0,) == writer.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[:1]
    else:
        held = "SELECT COUNT(*) FROM pg_stat_activity WHERE application_name LIKE 'resilience%' AND xact_start IS NOT NULL"
        assert [(0,)] == place.asked(held)


async def test_a_reader_blocks_no_writer(place: Place, history: History) -> None:
    """Rows are written while a slow query runs."""
    if place.server is None:
        slow = "WITH RECURSIVE c(n) AS (SELECT COUNT(*) FROM errors UNION ALL SELECT n + 1 FROM c) SELECT COUNT(*) FROM c"
    else:
        slow = "SELECT COUNT(*), pg_sleep(60) FROM errors"
    task = asyncio.ensure_future(history.sql(slow, timeout=60))
    await asyncio.wait({task}, timeout=0.3)
    await asyncio.to_thread(keep, place.url, "errors", {})

    assert not task.done()
    assert len(await history.errors()) == 1
    task.cancel()
    await asyncio.wait({task}, timeout=5.0)


async def test_a_folder_that_may_not_be_looked_into_is_no_empty_history(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows, SQL and the revision of a file in another user's folder: one error that names the file, not no rows and no bare OSError."""

    def denied(_: Path) -> bool:
        """Refuse as the system does in a folder without the right to search it."""
        raise PermissionError(errno.EACCES, "Permission denied")

    (tmp_path / "history.db").mkdir()  # for root, who may look everywhere: the open fails all the same
    monkeypatch.setattr(Path, "exists", denied)
    url = f"sqlite:///{tmp_path}/history.db"

    with pytest.raises(HistoryError, match=r"history\.db cannot be read"):
        await History(url).errors()
    with pytest.raises(HistoryError, match=r"history\.db"):
        await History(url).sql("SELECT 1")
    with pytest.raises(HistoryError, match=r"history\.db"):
        migrations.current(url)
