"""`resilience sql`: a query of one's own."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.history_table_rows import keep
from typer.testing import CliRunner, Result

from resilience.cli import app
from resilience.history.schema import migrations
from resilience.history.schema.views import VIEWS


@pytest.fixture(autouse=True)
def _history(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = f"sqlite:///{tmp_path}/resilience.db"
    migrations.upgrade(url)
    monkeypatch.setenv("RESILIENCE_DATABASE_URL", url)
    keep(url, "errors", {}, {"client": "B=C", "attempt": 3}, {"client": "B=C"})


def run(*arguments: str, typed: str | None = None) -> Result:
    return CliRunner().invoke(app, ["sql", *arguments], input=typed)


COUNT = "SELECT client, COUNT(*) AS n FROM errors GROUP BY 1 ORDER BY 1"


def test_an_answer_is_printed_in_each_form() -> None:
    """Columns, JSON, CSV; from the command line or typed."""
    assert ["client  n", "A       1", "B=C     2"] == run(COUNT).stdout.splitlines()
    assert [{"client": "A", "n": 1}, {"client": "B=C", "n": 2}] == json.loads(run(COUNT, "--json").stdout)
    assert "client,n\nA,1\nB=C,2\n" == run("-", "--csv", typed=COUNT).stdout


def test_parameters_are_named() -> None:
    """The first equals sign divides; numbers compare as numbers."""
    found = run(
        "SELECT attempt FROM errors WHERE client = :c AND attempt > :n",
        "--param",
        "c=B=C",
        "--param",
        ":n=1",
        "--json",
    )

    assert json.loads(found.stdout) == [{"attempt": 3}]


@pytest.mark.parametrize("pair", ["x", "=1", ""])
def test_a_wrong_parameter_is_told(pair: str) -> None:
    """Exit 2 with what to write."""
    done = run("SELECT 1", "--param", pair)

    assert done.exit_code == 2
    assert "NAME=VALUE" in done.stderr


def test_a_cut_answer_is_said() -> None:
    """On stderr, so that a pipe gets rows alone."""
    done = run("SELECT client FROM errors", "--limit", "2")

    assert len(done.stdout.splitlines()) == 3
    assert done.stderr == "resilience: there are more rows: these are the first 2; see --limit\n"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["DELETE FROM errors"], "the history is only read here"),
        (["SELECT nonsense"], "no such column: nonsense"),
        (["WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n FROM c) SELECT COUNT(*) FROM c", "--timeout", "0.05"], "stopped after 0.05 s"),
    ],
    ids=["write", "wrong", "slow"],
)  # fmt: skip
def test_what_is_refused_is_one_line_and_exit_two(arguments: list[str], told: str) -> None:
    """No traceback."""
    done = run(*arguments)

    assert (2, 1) == (done.exit_code, len(done.stderr.splitlines()))
    assert told in done.stderr


def test_without_a_query_it_says_what_to_write() -> None:
    """Exit 2 with an example and the way to more."""
    done = run()

    assert done.exit_code == 2
    assert "--views" in done.stderr


def test_the_views_are_explained() -> None:
    """Every view with what it answers, its columns and an example; for programs a row for each column."""
    told = run("--views").stdout
    columns = json.loads(run("--views", "--json").stdout)

    assert [] == [
        view.name for view in VIEWS if f"{view.name}: {view.answers}" not in told or view.example not in told
    ]
    assert sum(len(view.columns) for view in VIEWS) == len(columns)
    assert columns[0].keys() == {"view", "column", "meaning", "answers", "window", "example"}
    assert run("--views", "--csv").stdout.startswith("view,column,meaning,")
