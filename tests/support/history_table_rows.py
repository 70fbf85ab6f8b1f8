"""Rows that tests insert directly, for tests of reading."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import sqlalchemy as sa

from resilience.history import new_id
from resilience.history.schema import tables, urls
from resilience.history.schema.engine import open_engine

_NOW: Final = datetime.now(UTC)
HOUR: Final = _NOW.replace(minute=0, second=0, microsecond=0) - timedelta(hours=2)
"""The start of an hour that has passed, well within the last day."""
_CALL: Final = {"request_id": "request-1", "function": "F", "instance_id": "1" * 32, "duration": 0.5}

DEFAULTS: Final[Mapping[str, Mapping[str, Any]]] = {
    "calls": {
        **_CALL,
        "started_at": HOUR,
        "client": "A",
        "client_final": "A",
        "outcome": "ok",
        "attempts": 1,
        "retries": 0,
        "fallbacks": 0,
    },
    "errors": {
        **_CALL,
        "occurred_at": HOUR,
        "call_id": "c" * 32,
        "client": "A",
        "attempt": 1,
        "category": "timeout",
        "recoverable": True,
        "exception_type": "BamlTimeoutError",
        "message": "it took too long",
        "fingerprint": "f" * 32,
        "action": "retry",
        "late": False,
    },
    "fallbacks": {
        **_CALL,
        "occurred_at": HOUR,
        "call_id": "c" * 32,
        "from_client": "A",
        "to_client": "B",
        "reason": "timeout",
    },
    "breaker_events": {
        "namespace": "n",
        "client": "A",
        "scope": "shared",
        "occurred_at": HOUR,
        "rule": "failure_rate",
        "reason": "timeout",
        "actor": "",
        "calls": 0,
        "failures": 0,
        "indefinite": False,
        "instance_id": "1" * 32,
    },
    "rollups": {"bucket_at": HOUR, "grain": 60, "client": "A", "function": "F"},
    "latencies": {"bucket_at": HOUR, "grain": 60, "client": "A", "kind": "attempt_ok", "bucket": 0},
    "tenant_rollups": {"bucket_at": HOUR, "grain": 3600, "tenant": "T", "client": "A"},
    "error_groups": {
        "fp_version": "v1",
        "category": "timeout",
        "exception_type": "BamlTimeoutError",
        "title": "it took too long",
        "first_seen_at": HOUR,
        "last_seen_at": HOUR,
    },
}
_KEYS: Final = {"calls": "call_id", "errors": "event_id", "fallbacks": "event_id"}


def keep(url: str, table: str, *rows: Mapping[str, Any]) -> None:
    """Insert *rows*, each completed with the defaults of its table."""
    engine = open_engine(urls.parse(url), wait=10)
    with engine.begin() as connection:
        for row in rows:
            key = {_KEYS[table]: new_id()} if table in _KEYS else {}
            connection.execute(sa.insert(tables.metadata.tables[table]), [{**key, **DEFAULTS[table], **row}])
    engine.dispose()


def moved(
    client: str, *moves: tuple[float, str, str], scope: str = "shared", **more: Any
) -> list[dict[str, Any]]:
    """Return transitions of a circuit, each given as minutes after `HOUR`, the state left and the state entered."""
    return [
        {
            "client": client,
            "scope": scope,
            "epoch": number,
            "occurred_at": HOUR + timedelta(minutes=minutes),
            "from_state": before,
            "to_state": after,
            **more,
        }
        for number, (minutes, before, after) in enumerate(moves, 1)
    ]
