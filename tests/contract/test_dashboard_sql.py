"""The Grafana dashboard over PostgreSQL: each query runs on a migrated history, and returns what its panel needs."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
from support.history_records import call, error

from resilience.history import Recorder, TransitionRecord
from resilience.history.schema import migrations

DASHBOARD = Path(__file__).parents[2] / "dashboards" / "resilience-postgres.json"
NOW = datetime.now(UTC)


def loaded() -> dict[str, Any]:
    dashboard: dict[str, Any] = json.loads(DASHBOARD.read_text())
    return dashboard


def expanded(sql: str) -> str:
    """Return a query as Grafana sends it: with its variables and macros replaced."""
    for name, value in {
        "${schema}": "resilience",
        "${namespace}": "resilience",
        "$__timeFrom()": f"'{NOW - timedelta(hours=1):%Y-%m-%dT%H:%M:%SZ}'",
        "$__timeTo()": f"'{NOW + timedelta(hours=1):%Y-%m-%dT%H:%M:%SZ}'",
    }.items():
        sql = sql.replace(name, value)
    return re.sub(r"\$__timeGroup\((\w+), '5m'\)", r"floor(extract(epoch from \1)/300)*300", sql)


def opened() -> TransitionRecord:
    return TransitionRecord(
        namespace="resilience",
        client="Primary",
        scope="shared",
        epoch=1,
        occurred_at=NOW,
        from_state="closed",
        to_state="open",
        rule="consecutive_failures",
        reason="timeout",
    )


def test_every_query_runs_and_finds_rows(postgres_url: str) -> None:
    """With a call, an error, an opening and a live process, each panel, variable and annotation has at least one row."""
    migrations.upgrade(postgres_url)
    recorder = Recorder(postgres_url)
    for record in (call(started_at=NOW), error(occurred_at=NOW), opened()):
        recorder.record(record)
    assert recorder.flush(60.0)
    dashboard = loaded()
    queries = {panel["title"]: panel["targets"][0]["rawSql"] for panel in dashboard["panels"]}
    queries |= {variable["name"]: variable["query"] for variable in dashboard["templating"]["list"][2:]}
    queries |= {note["name"]: note["rawQuery"] for note in dashboard["annotations"]["list"]}
    with psycopg.connect(postgres_url.replace("+psycopg", "")) as connection:
        found = {
            title: connection.execute(expanded(sql).encode()).fetchall() for title, sql in queries.items()
        }
    recorder.close()

    assert [] == [title for title, rows in found.items() if not rows]
    assert [("resilience",)] == found["namespace"]
    assert 1.0 == found["Answered"][0][0]


def test_panels_fit_the_grid() -> None:
    """Ids and places are unique, and every panel says what it shows."""
    panels = loaded()["panels"]
    cells = [
        (x, y)
        for place in (panel["gridPos"] for panel in panels)
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]

    assert len(cells) == len(set(cells))
    assert len(panels) == len({panel["id"] for panel in panels})
    assert all(panel["description"] for panel in panels)
