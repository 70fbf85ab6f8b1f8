"""Migration 0008 lets `latencies` count times to the first token, on SQLite and on PostgreSQL, and older writers go on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from support.history_places import Place
from support.postgres import Postgres, fresh

from resilience.history.schema import migrations, urls
from resilience.history.schema.engine import open_engine

COUNT = (
    "INSERT INTO latencies (bucket_at, grain, namespace, client, kind, bucket, count, seconds) "
    "VALUES ('2025-06-01 12:00:00.000000', 60, 'n', 'A', '{kind}', 4, 3, 6.5)"
)
PROCESS = (
    "INSERT INTO instances (instance_id, service, host, pid, version, started_at, heartbeat_at, dropped_events) VALUES "
    "('i', 's', 'h', 1, '0', '2025-06-01 12:00:00.000000', '2025-06-01 12:00:00.000000', 9)"
)


@pytest.fixture(params=["sqlite", "postgres"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    """A database of each kind at revision 0007."""
    with ExitStack() as stack:
        if request.param == "sqlite":
            found = Place(f"sqlite:///{tmp_path}/old.db")
        else:
            server: Postgres = request.getfixturevalue("postgres")
            found = Place(stack.enter_context(fresh(server)), server)
        config = Config()
        config.set_main_option("script_location", str(migrations.script_location()))
        config.set_main_option("sqlalchemy.url", found.url)
        command.upgrade(config, "0007")
        yield found


def test_counts_are_kept_and_a_writer_that_is_connected_goes_on(place: Place) -> None:
    """Rows survive both ways but for the new kind; what an older writer sends is accepted before and after."""
    engine = open_engine(urls.parse(place.url), wait=10)

    def send(*statements: str) -> None:
        with engine.begin() as connection:
            for statement in statements:
                connection.execute(sa.text(statement))

    send(COUNT.format(kind="call"), PROCESS)
    migrations.upgrade(place.url)
    send(COUNT.format(kind="attempt_ok"), COUNT.format(kind="first_token"))
    send("UPDATE instances SET dropped_events = 10")

    kinds = [(kind, 3, 6.5) for kind in ("attempt_ok", "call", "first_token")]
    assert place.asked("SELECT kind, count, seconds FROM latencies ORDER BY kind") == kinds
    damage = "SELECT dropped_events, damaged_circuits, damaged_transitions, unreadable_lines FROM instances"
    assert place.asked(damage) == [(10, 0, 0, 0)]
    with pytest.raises(sa.exc.IntegrityError):
        send(COUNT.format(kind="nonsense"))

    engine.dispose()
    migrations.downgrade(place.url, "0007")
    assert place.asked("SELECT kind, count, seconds FROM latencies ORDER BY kind") == kinds[:2]
