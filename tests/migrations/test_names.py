"""Migration 0003 renames columns of a filled first-edition database, up and down, on SQLite and on PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.config import Config
from support.history_places import Place
from support.postgres import Postgres, fresh

from resilience.history.schema import migrations

FIRST_EDITION = "0002"
ID, OTHER = "a" * 32, "b" * 32
ROWS = """
INSERT INTO fallbacks (event_id, occurred_at, request_id, call_id, function, from_client, to_client, reason, instance_id, hop)
  VALUES ('aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa', '2025-06-01 12:00:00', 'r', 'c', 'F', 'A', 'B', 'timeout', 'i', 1),
         ('bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb', '2025-06-01 12:00:00', 'r', 'c', 'F', 'B', 'C', 'timeout', 'i', 2);
INSERT INTO breaker_events (namespace, client, scope, epoch, occurred_at, from_state, to_state, rule, reason, actor,
  calls, failures, endless, instance_id)
  VALUES ('n', 'A', 'shared', 1, '2025-06-01 12:00:00', 'closed', 'forced_open', 'operator', '', 'me', 0, 0, true, 'i'),
         ('n', 'B', 'shared', 1, '2025-06-01 12:00:00', 'closed', 'open', 'failure_rate', '', '', 9, 5, false, 'i');
INSERT INTO instances (instance_id, service, host, pid, version, started_at, heartbeat_at, dropped_events, tallied)
  VALUES ('i', '', 'h', 1, '0', '2025-06-01 12:00:00', '2025-06-01 12:00:00', 9, 7);
INSERT INTO calls (call_id, request_id, started_at, duration, function, client, outcome, attempts, retries, fallbacks,
  instance_id) VALUES ('c', 'r', '2025-06-01 12:00:00', 0.5, 'F', 'A', 'failed', 3, 0, 2, 'i')
"""
"""What the first edition had written, in its names."""
VALUES = (
    ("SELECT event_id, {position} FROM fallbacks ORDER BY event_id", [(ID, 1), (OTHER, 2)]),
    ("SELECT client, {indefinite} FROM breaker_events ORDER BY client", [("A", True), ("B", False)]),
    ("SELECT dropped_events, {counted_through} FROM instances", [(9, 7)]),
    ("SELECT count(*) FROM calls WHERE outcome != 'ok'", [(1,)]),
)
OLD_NAMES = {"position": "hop", "indefinite": "endless", "counted_through": "tallied"}
NEW_NAMES = {name: name for name in OLD_NAMES}


@pytest.fixture(params=["sqlite", "postgres"])
def first_edition(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    """A database of each kind at revision 0002, with rows, and with a view of that edition over a renamed column."""
    if request.param == "sqlite":
        place = Place(f"sqlite:///{tmp_path}/resilience.db")
        fill(place)
        yield place
        return
    server: Postgres = request.getfixturevalue("postgres")
    with fresh(server) as url:
        place = Place(url, server)
        fill(place)
        yield place


def fill(place: Place) -> None:
    """Migrate an empty database to the first edition's revision and write its rows."""
    config = Config()
    config.set_main_option("script_location", str(migrations.script_location()))
    config.set_main_option("sqlalchemy.url", place.url)
    command.upgrade(config, FIRST_EDITION)
    for statement in (*ROWS.split(";"), *view(place)):
        place.asked(statement)


def view(place: Place) -> Iterator[str]:
    mark = "a view of the resilience history"
    if place.server is None:
        yield f"CREATE VIEW v_hops AS -- ({mark})\nSELECT hop FROM fallbacks"
    else:
        yield "CREATE VIEW v_hops AS SELECT hop FROM fallbacks"
        yield f"COMMENT ON VIEW v_hops IS '{mark}'"


def values(place: Place, names: dict[str, str]) -> list[list[tuple[Any, ...]]]:
    return [place.asked(query.format(**names)) for query, _ in VALUES]


EXPECTED = [rows for _, rows in VALUES]


def test_a_filled_first_edition_database_keeps_its_rows(first_edition: Place) -> None:
    """Every value stands in the renamed column after the upgrade, and the first edition's view is gone."""
    assert migrations.current(first_edition.url) == FIRST_EDITION
    migrations.upgrade(first_edition.url)

    assert migrations.current(first_edition.url) == migrations.head()
    assert values(first_edition, NEW_NAMES) == EXPECTED
    views = (
        "SELECT name FROM sqlite_master WHERE type = 'view'"
        if first_edition.server is None
        else "SELECT viewname FROM pg_views WHERE schemaname = 'resilience'"
    )
    names = {name for (name,) in first_edition.asked(views)}
    assert "v_error_rate_hourly" in names
    assert "v_hops" not in names


def test_going_down_and_up_again_loses_nothing(first_edition: Place) -> None:
    """After a downgrade the old names hold the same values, and a second upgrade brings the new ones back."""
    migrations.upgrade(first_edition.url)
    migrations.downgrade(first_edition.url, FIRST_EDITION)
    assert values(first_edition, OLD_NAMES) == EXPECTED
    migrations.upgrade(first_edition.url)

    assert values(first_edition, NEW_NAMES) == EXPECTED


def test_the_partial_index_is_used_under_its_new_name(tmp_path: Path) -> None:
    """SQLite answers a query for calls that were not ok from `ix_calls_not_ok`; there is no index of the old name."""
    place = Place(f"sqlite:///{tmp_path}/resilience.db")
    fill(place)
    migrations.upgrade(place.url)

    plan = place.asked("EXPLAIN QUERY PLAN SELECT * FROM calls WHERE outcome != 'ok' ORDER BY started_at")
    assert "ix_calls_not_ok" in str(plan)
    assert place.asked("SELECT count(*) FROM sqlite_master WHERE name = 'ix_calls_unclean'") == [(0,)]
