"""Every view on SQLite and PostgreSQL, with rows inserted by hand and numbers calculated by hand."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from support.history_places import Place, migrated_file, migrated_postgres, place
from support.history_table_rows import HOUR, keep, moved

from resilience.history import SyncHistory
from resilience.history.schema import migrations
from resilience.history.schema.views import VIEWS

__all__ = ["migrated_file", "migrated_postgres", "place"]

NOW = datetime.now(UTC)
LONG_AGO = NOW - timedelta(days=8)

NAMESPACE = {"namespace": "resilience"}


def seen(place: Place, query: str, **params: Any) -> list[dict[str, Any]]:
    """Return the rows of a query, with times as UTC datetimes on both databases."""
    sheet = SyncHistory(place.url).sql(query, params)
    return [
        {name: _time(name, value) for name, value in zip(sheet.columns, row, strict=True)}
        for row in sheet.rows
    ]


def _time(name: str, value: Any) -> Any:
    if isinstance(value, str) and (name.endswith("_at") or name == "hour"):
        return datetime.fromisoformat(value).replace(tzinfo=UTC)
    return value.astimezone(UTC) if isinstance(value, datetime) else value


def test_what_is_documented_is_what_there_is(place: Place) -> None:
    """Each view has exactly the described columns in that order, every column has a meaning, and every example runs."""
    history = SyncHistory(place.url)
    for view in VIEWS:
        assert history.sql(f"SELECT * FROM {view.name}").columns == tuple(view.columns)  # noqa: S608 - a name of ours
        assert all(view.columns.values())
        assert view.name in view.example
        assert history.sql(view.example).rows == ()


def test_the_database_describes_its_views_itself(place: Place) -> None:
    """In sqlite3 and psql a view shows its question, its window and the meaning of each column."""
    if place.server is None:
        definitions = "\n".join(
            text for (text,) in place.asked("SELECT sql FROM sqlite_master WHERE type = 'view'")
        )
    else:
        found = place.asked(
            "SELECT description FROM pg_description WHERE objoid::regclass::text LIKE 'v\\_%'"
        )
        definitions = "\n".join(text for (text,) in found)

    assert [] == [
        view.name for view in VIEWS if view.answers not in definitions or view.window not in definitions
    ]
    assert [] == [
        meaning for view in VIEWS for meaning in view.columns.values() if meaning not in definitions
    ]


def test_error_rate_adds_minutes_and_hours_once(place: Place) -> None:
    """Minutes, an hour added up from minutes, and several functions give one row; each call is counted once."""
    keep(
        place.url,
        "rollups",
        {
            "bucket_at": HOUR,
            "calls": 10,
            "attempts": 12,
            "errors": 3,
            "failed_calls": 4,
            "cancelled_calls": 2,
        },
        {"bucket_at": HOUR + timedelta(minutes=59), "calls": 1, "attempts": 1, "function": "G"},
        {"bucket_at": HOUR, "grain": 3600, "calls": 5, "attempts": 7, "errors": 2, "rejected_calls": 1},
        {"bucket_at": HOUR, "client": "B", "calls": 1, "rejected_calls": 1},
        {"bucket_at": HOUR - timedelta(hours=1), "calls": 2, "attempts": 2, "errors": 2, "failed_calls": 2},
        {"bucket_at": NOW - timedelta(hours=25), "calls": 99, "attempts": 99},
    )
    names = ("hour", "client", "calls", "failed_calls", "rejected_calls", "attempts", "errors", "error_rate")

    found = seen(place, "SELECT * FROM v_error_rate_hourly")
    assert [tuple(row[name] for name in names) for row in found] == [
        (HOUR, "A", 16, 4, 1, 20, 5, 0.25),
        (HOUR, "B", 1, 0, 1, 0, 0, None),
        (HOUR - timedelta(hours=1), "A", 2, 2, 0, 2, 2, 1.0),
    ]
    assert [row["failed_rate"] for row in found] == [0.2857, 0.0, 1.0]


def test_top_errors_weigh_sampled_rows_and_tell_the_last_hour(place: Place) -> None:
    """A sampled row counts ten; one kind on two clients gives two rows; yesterday is left out."""
    recent = NOW - timedelta(minutes=1)
    title, other = {"fingerprint": "f" * 32, "count": 99}, {"fingerprint": "9" * 32, "title": "slow down"}
    keep(place.url, "error_groups", title, other)
    keep(
        place.url,
        "errors",
        {"occurred_at": HOUR, "request_id": "r1", "status": 503},
        {"occurred_at": recent, "request_id": "r2", "sample_rate": 0.1},
        {"occurred_at": HOUR, "request_id": "r2"},
        {
            "client": "B",
            "category": "rate_limit",
            "fingerprint": "9" * 32,
            "message": "slow down",
            "occurred_at": recent,
        },
        {"occurred_at": NOW - timedelta(hours=25)},
    )
    names = ("client", "category", "errors", "errors_last_hour", "status", "message")

    found = seen(place, "SELECT * FROM v_top_errors_24h")
    assert [tuple(row[name] for name in names) for row in found] == [
        ("A", "timeout", 12, 10, 503, "it took too long"),
        ("B", "rate_limit", 1, 1, None, "slow down"),
    ]
    assert (found[0]["first_at"], found[0]["last_at"]) == (HOUR, recent)


def test_retry_success_is_of_the_calls_that_retried(place: Place) -> None:
    """Only calls with retries count; a client without any has no row."""
    keep(
        place.url,
        "rollups",
        {"calls": 100, "retried_calls": 8, "recovered_retry": 6, "bucket_at": HOUR - timedelta(hours=9)},
        {"calls": 100, "retried_calls": 2, "recovered_retry": 1, "grain": 3600},
        {"calls": 3, "retried_calls": 1, "function": "G"},
        {"calls": 7, "client": "B"},
        {"retried_calls": 50, "recovered_retry": 50, "bucket_at": LONG_AGO},
    )

    assert seen(place, "SELECT * FROM v_retry_success") == [
        NAMESPACE
        | {"client": "A", "function": "F", "retried_calls": 10, "recovered_calls": 7, "success_rate": 0.7},
        NAMESPACE
        | {"client": "A", "function": "G", "retried_calls": 1, "recovered_calls": 0, "success_rate": 0.0},
    ]


def test_fallback_success_leaves_out_what_is_not_known_yet(place: Place) -> None:
    """A fallback with an unknown result counts as a fallback, and not in the success rate."""
    keep(
        place.url,
        "fallbacks",
        {"succeeded": True, "duration": 1.0},
        {"succeeded": True, "duration": 2.0},
        {"succeeded": False, "duration": 6.0},
        {"succeeded": None, "duration": None},
        {"succeeded": None, "duration": None, "reason": "network"},
        {"succeeded": False, "occurred_at": LONG_AGO},
    )
    common = NAMESPACE | {"from_client": "A", "to_client": "B"}

    assert seen(place, "SELECT * FROM v_fallback_success") == [
        {
            **common,
            "reason": "timeout",
            "fallbacks": 4,
            "succeeded": 2,
            "failed": 1,
            "success_rate": 0.6667,
            "mean_seconds": 3.0,
        },
        {
            **common,
            "reason": "network",
            "fallbacks": 1,
            "succeeded": 0,
            "failed": 0,
            "success_rate": None,
            "mean_seconds": None,
        },
    ]


def outages(place: Place) -> list[tuple[Any, ...]]:
    found = seen(place, "SELECT * FROM v_breaker_outages ORDER BY scope, client, started_at")
    return [
        (
            row["scope"],
            row["client"],
            (row["started_at"] - HOUR).total_seconds() / 60,
            row["seconds"],
            row["ended_at"],
        )
        for row in found
    ]


def test_an_outage_lasts_from_closed_to_closed(place: Place) -> None:
    """Failed probes and orders during an outage belong to it; each scope has its own outages."""
    probed = [
        (0, "closed", "open"),
        (1, "open", "half_open"),
        (2, "half_open", "open"),
        (3, "open", "forced_open"),
    ]
    keep(
        place.url,
        "breaker_events",
        *moved("A", *probed, (5, "forced_open", "closed"), (10, "closed", "open"), (10.5, "open", "half_open"),
               (11, "half_open", "closed"), calls=20, failures=12),
        *moved("B", (7, "closed", "open")),
        *moved("C", (0, "closed", "forced_open"), (2, "forced_open", "disabled"), (3, "disabled", "closed")),
        *moved("A", (1, "closed", "open"), (2, "open", "closed"), scope="9" * 32),
    )  # fmt: skip

    assert outages(place) == [
        ("9" * 32, "A", 1, 60.0, HOUR + timedelta(minutes=2)),
        ("shared", "A", 0, 300.0, HOUR + timedelta(minutes=5)),
        ("shared", "A", 10, 60.0, HOUR + timedelta(minutes=11)),
        ("shared", "B", 7, None, None),
        ("shared", "C", 0, 120.0, HOUR + timedelta(minutes=2)),
    ]
    (first,) = seen(place, "SELECT * FROM v_breaker_outages WHERE client = 'A' AND seconds = 300")
    assert ("failure_rate", "timeout", 20, 12) == tuple(
        first[name] for name in ("opened_by", "reason", "calls", "failures")
    )


def test_an_outage_whose_end_was_missed_ends_at_the_next(place: Place) -> None:
    """It does not stay open: at the next opening the circuit had been closed."""
    keep(
        place.url,
        "breaker_events",
        *moved("A", (0, "closed", "open"), (4, "closed", "open"), (5, "open", "closed")),
    )

    assert outages(place) == [
        ("shared", "A", 0, 240.0, HOUR + timedelta(minutes=4)),
        ("shared", "A", 4, 60.0, HOUR + timedelta(minutes=5)),
    ]


def test_mean_time_to_recovery_is_of_outages_that_are_over(place: Place) -> None:
    """The present outage is counted and shown, but is not in the mean."""
    keep(
        place.url,
        "breaker_events",
        *moved("A", (0, "closed", "open"), (1, "open", "closed"), (2, "closed", "open"), (5, "open", "closed"),
               (9, "closed", "open")),
        *moved("B", (3, "closed", "open")),
    )  # fmt: skip
    common = {"namespace": "n", "scope": "shared"}

    assert seen(place, "SELECT * FROM v_mttr") == [
        {
            **common,
            "client": "A",
            "outages": 3,
            "ended": 2,
            "mttr_seconds": 120.0,
            "longest_seconds": 180.0,
            "total_seconds": 240.0,
            "last_started_at": HOUR + timedelta(minutes=9),
            "open_since_at": HOUR + timedelta(minutes=9),
        },
        {
            **common,
            "client": "B",
            "outages": 1,
            "ended": 0,
            "mttr_seconds": None,
            "longest_seconds": None,
            "total_seconds": 0.0,
            "last_started_at": HOUR + timedelta(minutes=3),
            "open_since_at": HOUR + timedelta(minutes=3),
        },
    ]


def test_recovery_is_of_calls_that_met_a_failure(place: Place) -> None:
    """Calls without a failure and cancelled calls are left out; a sampled call counts ten."""
    keep(
        place.url,
        "calls",
        {"outcome": "recovered_retry", "recovery": 1.0},
        {"outcome": "recovered_fallback", "recovery": 4.0, "sample_rate": 0.1},
        {"outcome": "failed"},
        {"outcome": "rejected"},
        {"outcome": "cancelled"},
        {"outcome": "ok"},
        {"outcome": "failed", "started_at": LONG_AGO},
    )

    assert seen(place, "SELECT * FROM v_recovery") == [
        {
            **NAMESPACE,
            "client": "A",
            "affected_calls": 13,
            "recovered_retry": 1,
            "recovered_fallback": 10,
            "failed": 1,
            "rejected": 1,
            "recovered_rate": 0.8462,
            "mean_seconds": 2.5,
            "longest_seconds": 4.0,
        }
    ]


def test_a_timeline_is_in_order_to_the_microsecond(place: Place) -> None:
    """Start, failure, fallback and end are in that order, even within one millisecond and across a full second."""
    began = HOUR + timedelta(microseconds=999_400)
    keep(
        place.url,
        "calls",
        {"started_at": began, "duration": 0.0008, "outcome": "recovered_fallback", "client_final": "B"},
    )
    keep(
        place.url,
        "errors",
        {"occurred_at": began + timedelta(microseconds=500), "backoff": 0.25},
        {"request_id": "other"},
    )
    keep(place.url, "fallbacks", {"occurred_at": began + timedelta(microseconds=500)})
    names = ("step", "client", "what", "detail", "action", "wait")

    found = seen(place, "SELECT * FROM v_request_timeline WHERE request_id = :id", id="request-1")
    assert [tuple(row[name] for name in names) for row in found] == [
        ("call", "A", None, None, None, None),
        ("error", "A", "timeout", "it took too long", "retry", 0.25),
        ("fallback", "A", "timeout", "B", None, None),
        ("end", "B", "recovered_fallback", None, None, None),
    ]
    assert [row["happened_at"] - began for row in found] == [
        timedelta(microseconds=us) for us in (0, 500, 500, 800)
    ]


def test_a_call_may_last_longer_than_a_day(place: Place) -> None:
    """The end of a call is its start plus its duration, also across midnight."""
    keep(place.url, "calls", {"started_at": HOUR, "duration": 100_000.25})
    end = seen(place, "SELECT happened_at FROM v_request_timeline WHERE step = 'end'")

    assert [{"happened_at": HOUR + timedelta(seconds=100_000.25)}] == end


def test_one_request_is_found_by_indexes_alone(place: Place) -> None:
    """The condition on request_id reaches every table of the timeline: no table is scanned."""
    query = "SELECT * FROM v_request_timeline WHERE request_id = 'x'"
    if place.server is None:
        plan = [text for *_, text in place.asked(f"EXPLAIN QUERY PLAN {query}")]
        used = [text for text in plan if "request_id=?" in text]
        assert [] == [text for text in plan if text.startswith("SCAN") and text != "SCAN steps"]
    else:
        plan = [str(row[0]) for row in SyncHistory(place.url).sql(f"EXPLAIN {query}").rows]
        used = [text for text in plan if "Index Scan using" in text and "request_id" in text]
        assert "Seq Scan" not in "".join(plan)
    assert len(used) == 4


# --- their own life -----------------------------------------------------------------------------------------------


def test_a_view_that_was_dropped_or_changed_is_made_again(place: Place) -> None:
    """The next upgrade creates it again, at the same revision."""
    before = definitions(place)
    place.asked("DROP VIEW v_mttr")
    place.asked("DROP VIEW v_recovery")
    place.asked("CREATE VIEW v_recovery AS SELECT 1 AS x")
    if place.server is None:  # PostgreSQL has no view here that is known as ours: its name is taken
        place.asked("DROP VIEW v_recovery")
    else:
        place.asked("COMMENT ON VIEW v_recovery IS 'a view of the resilience history, of another version'")
    migrations.upgrade(place.url)

    assert before == definitions(place)


def test_views_of_another_version_go(place: Place) -> None:
    """A view that this version no longer has is dropped; the operator's own view is left alone."""
    mark = "a view of the resilience history"
    place.asked(f"CREATE VIEW v_old AS SELECT 1 AS x -- {mark}")
    place.asked("CREATE VIEW v_mine AS SELECT COUNT(*) AS n FROM errors")
    if place.server is not None:
        place.asked(f"COMMENT ON VIEW v_old IS '{mark}'")
    migrations.upgrade(place.url)

    assert {*(view.name for view in VIEWS), "v_mine"} == set(definitions(place))


def test_views_come_and_go_with_the_tables(place: Place) -> None:
    """After a downgrade there are no views; after another upgrade they are the same."""
    before = definitions(place)
    migrations.downgrade(place.url, "0001")
    assert definitions(place) == {}
    migrations.upgrade(place.url)

    assert before == definitions(place)


def definitions(place: Place) -> Mapping[str, str]:
    if place.server is None:
        return dict(place.asked("SELECT name, sql FROM sqlite_master WHERE type = 'view'"))
    return dict(place.asked("SELECT viewname, definition FROM pg_views WHERE schemaname = 'resilience'"))
