"""`resilience sql`: read-only SQL on the history."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.history_table_rows import keep
from typer.testing import CliRunner, Result

from resilience.cli import app, sql_prompt
from resilience.history.schema import migrations
from resilience.history.schema.views import VIEWS


@pytest.fixture(autouse=True)
def _history(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = f"sqlite:///{tmp_path}/resilience.db"
    migrations.upgrade(url)
    monkeypatch.setenv("RESILIENCE_DATABASE_URL", url)
    keep(url, "errors", {}, {"client": "B=C", "attempt": 3}, {"client": "B=C"})


def run(*arguments: str, stdin: str | None = None) -> Result:
    return CliRunner().invoke(app, ["sql", *arguments], input=stdin)


COUNT = "SELECT client, COUNT(*) AS n FROM errors GROUP BY 1 ORDER BY 1"


def test_an_answer_is_printed_in_each_form() -> None:
    """Columns, JSON, lines of JSON and CSV; the query is an argument or standard input."""
    assert ["client  n", "A       1", "B=C     2"] == run(COUNT).stdout.splitlines()
    assert [{"client": "A", "n": 1}, {"client": "B=C", "n": 2}] == json.loads(run(COUNT, "--json").stdout)
    assert "client,n\nA,1\nB=C,2\n" == run("-", "--csv", stdin=COUNT).stdout == run(COUNT, "-o", "csv").stdout
    assert [{"client": "A", "n": 1}, {"client": "B=C", "n": 2}] == [
        json.loads(line) for line in run(COUNT, "-o", "jsonl").stdout.splitlines()
    ]


def test_a_pipe_needs_no_dash() -> None:
    """A query that is piped in is run without an argument, too."""
    assert "client,n\nA,1\nB=C,2\n" == run("--csv", stdin=COUNT).stdout


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("SELECT * FROM eror", "no such table: eror; did you mean errors? there are "),
        ("SELECT * FROM x_y_z", "no such table: x_y_z; there are "),
        ("SELEC 1", "'SELEC' begins no query: did you mean SELECT?"),
    ],
)
def test_a_slip_is_answered_with_what_exists(query: str, expected: str) -> None:
    """An unknown table lists tables and views, with the nearest; a verb with a slip names the right one."""
    assert expected in run(query).stderr


def test_views_lists_the_tables_too() -> None:
    """The first line of --views names every table."""
    assert "errors, " in run("--views").stdout.splitlines()[0]


def test_parameters_are_named() -> None:
    """The first equals sign separates name and value; digits compare as numbers."""
    done = run(
        "SELECT attempt FROM errors WHERE client = :c AND attempt > :n",
        "--param",
        "c=B=C",
        "--param",
        ":n=1",
        "--json",
    )

    assert json.loads(done.stdout) == [{"attempt": 3}]


@pytest.mark.parametrize("pair", ["x", "=1", ""])
def test_a_wrong_parameter_is_refused(pair: str) -> None:
    """The exit code is 2, and the message shows the syntax."""
    done = run("SELECT 1", "--param", pair)

    assert done.exit_code == 2
    assert "NAME=VALUE" in done.stderr


def test_a_truncated_result_is_announced() -> None:
    """The message goes to standard error, so that a pipe gets only rows."""
    done = run("SELECT client FROM errors", "--limit", "2")

    assert len(done.stdout.splitlines()) == 3
    assert done.stderr == "resilience: there are more rows: these are the first 2; see --limit\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["DELETE FROM errors"], "the history is only read here"),
        (["SELECT nonsense"], "no such column: nonsense"),
        (["WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n FROM c) SELECT COUNT(*) FROM c", "--timeout", "0.05"], "stopped after 0.05 s"),
    ],
    ids=["write", "wrong", "slow"],
)  # fmt: skip
def test_what_is_refused_is_one_line_and_exit_two(arguments: list[str], message: str) -> None:
    """Writing, wrong SQL and slow queries are refused without a traceback."""
    done = run(*arguments)

    assert (2, 1) == (done.exit_code, len(done.stderr.splitlines()))
    assert message in done.stderr


def test_without_a_query_an_example_is_shown() -> None:
    """The exit code is 2, and the message names --views."""
    done = run()

    assert done.exit_code == 2
    assert "--views" in done.stderr


def test_a_terminal_gets_a_prompt(monkeypatch: pytest.MonkeyPatch) -> None:
    """Queries are answered one by one, also one of several lines; a wrong one ends nothing."""
    monkeypatch.setattr(sql_prompt, "is_wanted", lambda: True)
    done = run(
        stdin="SELEC 1;\n\nSELECT client, COUNT(*) AS n\nFROM errors GROUP BY 1;\nviews\nquit\nSELECT 'unasked';\n"
    )

    assert done.exit_code == 0
    assert "client  n\nA       1\nB=C     2\n" in done.stdout
    assert "v_mttr: " in done.stdout
    assert "did you mean SELECT?" in done.stderr
    assert "unasked" not in done.stdout


@pytest.mark.parametrize("end", [EOFError, "quit", "exit;", "\\q"])
def test_the_prompt_ends(end: type[EOFError] | str) -> None:
    """Ctrl-D and the usual words end it. Ctrl-C forgets the lines of a query, and an empty line ends one."""
    typed: list[type[BaseException] | str] = [
        "SELECT",
        "1",
        "",
        "SELECT 2",
        KeyboardInterrupt,
        "SELECT 3;",
        end,
    ]
    prompts = []

    def read(prompt: str) -> str:
        prompts.append(prompt)
        line = typed.pop(0)
        if not isinstance(line, str):
            raise line
        return line

    assert list(sql_prompt.queries(read)) == ["SELECT\n1", "SELECT 3;"]
    assert prompts == ["sql> ", "...> ", "...> ", "sql> ", "...> ", "sql> ", "sql> "]


def test_the_views_are_explained() -> None:
    """Every view is printed with its question, columns and an example; programs get one row for each column."""
    shown = run("--views").stdout
    columns = json.loads(run("--views", "--json").stdout)

    assert [] == [
        view.name
        for view in VIEWS
        if f"{view.name}: {view.answers}" not in shown or view.example not in shown
    ]
    assert sum(len(view.columns) for view in VIEWS) == len(columns)
    assert columns[0].keys() == {"view", "column", "meaning", "answers", "window", "example"}
    assert run("--views", "--csv").stdout.startswith("view,column,meaning,")
