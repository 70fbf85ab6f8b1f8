"""`resilience calls`: calls and their outcomes."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path

import pytest
from support.history_table_rows import HOUR, keep
from typer.testing import CliRunner

from resilience.cli import app
from resilience.history.schema import migrations


@pytest.fixture(autouse=True)
def _history(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = f"sqlite:///{tmp_path}/resilience.db"
    migrations.upgrade(url)
    monkeypatch.setenv("RESILIENCE_DATABASE_URL", url)
    for minute, outcome in enumerate(("ok", "failed", "recovered_retry")):
        keep(
            url,
            "calls",
            {"outcome": outcome, "started_at": HOUR + timedelta(minutes=minute), "request_id": outcome},
        )


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], ["recovered_retry", "failed", "ok"]),
        (["--not-ok"], ["recovered_retry", "failed"]),
        (["--outcome", "failed"], ["failed"]),
        (["--request-id", "ok"], ["ok"]),
        (["--client", "B"], []),
        (["--function", "F", "--limit", "1"], ["recovered_retry"]),
        (["--since", (HOUR + timedelta(minutes=2)).isoformat()], ["recovered_retry"]),
        (["--until", (HOUR + timedelta(minutes=1)).isoformat()], ["ok"]),
    ],
    ids=str,
)
def test_calls_are_listed_by_every_filter(arguments: list[str], expected: list[str]) -> None:
    """Each option narrows the list; the newest call comes first."""
    done = CliRunner().invoke(app, ["calls", *arguments, "--json"])

    assert (0, expected) == (done.exit_code, [call["outcome"] for call in json.loads(done.stdout)])


def test_people_get_columns_and_programs_csv() -> None:
    """People see the columns that fit a terminal; CSV has every field."""
    table, lines = (
        CliRunner().invoke(app, ["calls", *options]).stdout.splitlines() for options in ([], ["--csv"])
    )

    assert ["started_at", "client", "function", "outcome", "client_final"] == table[0].split()[:5]
    assert lines[0].startswith("call_id,request_id,started_at,")
    assert (len(table), len(lines)) == (4, 4)


def test_an_outcome_that_does_not_exist_is_refused() -> None:
    """The exit code is 2, and the message lists the outcomes."""
    done = CliRunner().invoke(app, ["calls", "--outcome", "meh"])

    assert done.exit_code == 2
    assert "recovered_retry" in done.stderr
