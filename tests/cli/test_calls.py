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
            {
                "outcome": outcome,
                "started_at": HOUR + timedelta(minutes=minute),
                "request_id": outcome,
                "client_final": "AAB"[minute],
            },
        )


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], ["recovered_retry", "failed", "ok"]),
        (["--not-ok"], ["recovered_retry", "failed"]),
        (["--outcome", "failed"], ["failed"]),
        (["--request-id", "ok"], ["ok"]),
        (["--client", "C"], []),
        (["--client", "A", "--limit", "2"], ["recovered_retry", "failed"]),
        (["--client", "B"], ["recovered_retry"]),
        (["--client", "A", "--answered-by", "A"], ["ok"]),
        (["--answered-by", "B"], ["recovered_retry"]),
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
    """People see few columns with the end of the request id; CSV and the wide form have every field."""
    table, lines, wide = (
        CliRunner().invoke(app, ["calls", *options]).stdout.splitlines()
        for options in ([], ["--csv"], ["-o", "wide"])
    )

    assert ["time", "client", "answered", "by", "function", "outcome"] == table[0].split()[:6]
    assert table[1].endswith("ed_retry")
    assert lines[0].startswith("call_id,request_id,started_at,")
    assert wide[0].split()[:3] == ["call_id", "request_id", "started_at"]
    assert (len(table), len(lines), len(wide)) == (4, 4, 4)


def test_a_program_gets_one_object_a_line() -> None:
    """The form jsonl has one JSON object for each call."""
    lines = CliRunner().invoke(app, ["calls", "-o", "jsonl"]).stdout.splitlines()

    assert ["recovered_retry", "failed", "ok"] == [json.loads(line)["outcome"] for line in lines]


def test_a_list_that_may_be_cut_says_so() -> None:
    """A list as long as its limit is followed by a line on standard error."""
    done = CliRunner().invoke(app, ["calls", "--limit", "2"])

    assert "these are the first 2; there may be more, see --limit" in done.stderr
    one = CliRunner().invoke(app, ["calls", "--limit", "1"])
    assert "this is the first; there may be more, see --limit" in one.stderr


def test_an_empty_list_says_why() -> None:
    """A window without rows, and one that ends before it begins, have different messages."""
    later = CliRunner().invoke(app, ["calls", "--since", "2099-01-01T00:00Z"])
    backwards = CliRunner().invoke(app, ["calls", "--since", "1h", "--until", "2h"])

    assert 0 == later.exit_code
    assert "no matching rows; the history at " in later.stderr
    assert "has 3 calls, the newest at " in later.stderr
    assert 2 == backwards.exit_code
    assert "nothing can be between" in " ".join(backwards.stderr.replace("│", " ").split())


def test_an_outcome_that_does_not_exist_is_refused() -> None:
    """The exit code is 2, and the message lists the outcomes."""
    done = CliRunner().invoke(app, ["calls", "--outcome", "meh"])

    assert done.exit_code == 2
    assert "recovered_retry" in done.stderr
