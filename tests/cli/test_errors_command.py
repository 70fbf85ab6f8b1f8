"""`resilience errors`: the list, one error, groups, and the steps of one request."""

from __future__ import annotations

import csv
import io
import json
from datetime import timedelta
from pathlib import Path

import pytest
from rich.console import Console
from support.history_table_rows import HOUR, keep
from typer.testing import CliRunner, Result

from resilience.cli import app, output
from resilience.history.schema import migrations

ESCAPE = "\x1b[31mred\nline"


@pytest.fixture
def url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    url = f"sqlite:///{tmp_path}/resilience.db"
    migrations.upgrade(url)
    monkeypatch.setenv("RESILIENCE_DATABASE_URL", url)
    keep(
        url,
        "errors",
        {"event_id": "a" * 32, "message": ESCAPE, "status": 503, "detail": {"tier": "gold"}},
        {
            "event_id": "b" * 32,
            "client": "B",
            "category": "network",
            "occurred_at": HOUR + timedelta(minutes=1),
        },
        {"event_id": "c" * 32, "client": "B", "occurred_at": HOUR - timedelta(days=3), "request_id": "old"},
    )
    return url


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


def ids(done: Result) -> str:
    return "".join(row["event_id"][0] for row in json.loads(done.stdout))


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], "bac"),
        (["list"], "bac"),
        (["--client", "B"], "bc"),
        (["list", "--client", "B", "--since", "1d"], "b"),
        (["--until", HOUR.isoformat()], "c"),
        (["--category", "network"], "b"),
        (["--request-id", "old"], "c"),
        (["--function", "G"], ""),
        (["--status", "503"], "a"),
        (["--fingerprint", "f" * 32, "--limit", "1"], "b"),
    ],
    ids=str,
)
def test_errors_are_listed_by_every_filter(url: str, arguments: list[str], expected: str) -> None:
    """`errors` without a subcommand lists. Each option narrows the list; the newest error comes first."""
    done = run("errors", *arguments, "--json")

    assert (0, expected) == (done.exit_code, ids(done))


def test_a_pipe_gets_one_whole_line_for_each_row(url: str) -> None:
    """No colours, no wrapping and no control characters: text of a provider cannot steer a terminal."""
    done = run("errors")
    head, *rows = done.stdout.splitlines()

    assert ["time", "client", "function"] == head.split()[:3]
    assert len(rows) == 3
    assert "\\x1b[31mred\\nline" in rows[1]
    assert "\x1b" not in done.stdout


def test_csv_has_every_field(url: str) -> None:
    """Line breaks stay in their cell, other control characters are escaped, and JSON stays JSON."""
    first, second, _ = csv.DictReader(io.StringIO(run("errors", "--csv").stdout))

    assert second["message"] == "\\x1b[31mred\nline"
    assert second["detail"] == '{"tier": "gold"}'
    assert (first["occurred_at"], first["status"]) == (
        (HOUR + timedelta(minutes=1)).isoformat().replace("+00:00", "Z"),
        "",
    )


def test_both_forms_at_once_are_refused(url: str) -> None:
    """--json and --csv exclude each other."""
    done = run("errors", "--csv", "--json")

    assert done.exit_code == 2
    assert "exclude each other" in done.stderr


def test_one_error_is_shown_whole(url: str) -> None:
    """People see every field that has a value. An unknown event id is exit code 1."""
    done, as_json = run("errors", "show", "a" * 32), run("errors", "show", "a" * 32, "--json")

    assert "category        timeout" in done.stdout
    assert "retry_after" not in done.stdout
    assert json.loads(as_json.stdout)["detail"] == {"tier": "gold"}
    missing = run("errors", "show", "0" * 32)
    assert (1, "resilience: no error with event id " + "0" * 32 + "\n") == (missing.exit_code, missing.stderr)


def test_the_end_of_an_id_is_enough(url: str) -> None:
    """Lists show the last characters of ids, and commands take them. An end of several ids is refused."""
    keep(url, "errors", {"event_id": "1" * 24 + "abcd1234"}, {"event_id": "2" * 24 + "ffff1234"})
    shown, ambiguous = run("errors", "show", "abcd1234", "--json"), run("errors", "show", "1234")

    assert "abcd1234" in run("errors").stdout
    assert "1" * 24 + "abcd1234" == json.loads(shown.stdout)["event_id"]
    assert (2, True) == (ambiguous.exit_code, "is the end of several ids" in ambiguous.stderr)


def test_a_category_is_taken_as_people_type_it(url: str) -> None:
    """Hyphens and capitals are accepted, and a slip gets the nearest category."""
    slip = run("errors", "--category", "ratelimit")

    assert 0 == run("errors", "--category", "Rate-Limit").exit_code
    assert (2, True) == (
        slip.exit_code,
        "did you mean rate_limit?" in " ".join(slip.stderr.replace("│", " ").split()),
    )


def test_a_list_fits_the_terminal() -> None:
    """Each record is one line, no wider than the terminal. Columns that matter less go first, and the message is cut."""
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=60, highlight=False, color_system=None)
    output.print_fitted(
        ("time", "less", "message", "id"),
        [("12:00:00", "x" * 20, "word " * 30, "abcd1234")] * 2,
        (9, 1, 0, 8),
        console,
    )
    lines = screen.getvalue().splitlines()

    assert max(map(len, lines)) <= 60
    assert 2 == sum(line.startswith("12:00:00") and line.rstrip().endswith("abcd1234") for line in lines)
    assert "less" not in screen.getvalue()


def test_top_shows_the_last_day_by_default(url: str) -> None:
    """Groups have their counts, the most frequent first; --since changes the window."""
    (day,), (week,) = (
        json.loads(run("errors", "top", *options, "--json").stdout) for options in ([], ["--since", "1w"])
    )

    assert (day["errors"], day["clients"], week["errors"]) == (2, 2, 3)
    assert run("errors", "top").stdout.splitlines()[0].split()[-1] == "group"


def test_a_timeline_has_the_steps_in_order(url: str) -> None:
    """The steps go from the start of a request to its end. An unknown request is exit code 1."""
    keep(
        url,
        "calls",
        {"request_id": "old", "started_at": HOUR - timedelta(days=3, seconds=1), "duration": 2.0},
    )
    steps = [row["step"] for row in json.loads(run("errors", "timeline", "old", "--json").stdout)]

    assert steps == ["call", "error", "end"]
    missing = run("errors", "timeline", "never")
    assert (1, "resilience: no steps of request never\n") == (missing.exit_code, missing.stderr)


def test_no_match_is_no_failure(url: str) -> None:
    """The exit code is 0: JSON is an empty array, and people get a line on standard error that says what there is."""
    done = run("errors", "--client", "none")

    assert (0, "") == (done.exit_code, done.stdout)
    assert "no matching rows; the history at " in done.stderr
    assert " has 3 errors, the newest at " in done.stderr
    assert run("errors", "--client", "none", "--json").stdout == "[]\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--since", "yesterday"], "is not a time"),
        (["--since", "2025-06-01T12:00"], "no timezone"),
        (["--category", "bad"], "bad"),
        (["--limit", "0"], "--limit"),
        (["--limit", "9" * 30], "--limit"),
        (["nonsense"], "nonsense"),
    ],
    ids=str,
)
def test_wrong_options_are_refused(url: str, arguments: list[str], message: str) -> None:
    """The exit code is 2, and the message names the option or the value."""
    done = run("errors", *arguments)

    assert done.exit_code == 2
    assert message in done.stderr


def test_without_a_history_the_message_names_its_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One line without a traceback, exit code 2, and no file is created by reading."""
    monkeypatch.setenv("RESILIENCE_DATABASE_URL", f"sqlite:///{tmp_path}/none.db")
    for command in (
        ["errors"],
        ["errors", "top"],
        ["errors", "timeline", "x"],
        ["calls"],
        ["sql", "SELECT 1"],
        ["explore"],
    ):
        done = run(*command)

        assert done.exit_code == 2
        assert done.stderr.startswith(
            f"resilience: there is no history at {tmp_path}/none.db: nothing was recorded"
        )
    assert not (tmp_path / "none.db").exists()


def test_without_a_history_the_last_demo_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What follows the demo of a newcomer is a command for the project: its message has the options that lead to the demo."""
    for name in ("demo-20260101-120000-1", "demo-20260102-120000-1"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "resilience.db").touch()
    monkeypatch.setenv("RESILIENCE_DATABASE_URL", f"sqlite:///{tmp_path}/resilience.db")
    demo = f"--at {tmp_path}/demo-20260102-120000-1 --namespace demo-20260102-120000-1"

    assert demo in run("errors").stderr
    assert demo in CliRunner().invoke(app, ["status"]).stderr


def test_a_terminal_gets_a_table() -> None:
    """The table fits the terminal, and neither escape sequences nor markup of a message have an effect."""
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=60, highlight=False)
    output.print_rows(("n", "message"), [(1, ESCAPE), (22, "[bold]x[/bold] " * 9)], console=console)
    shown = screen.getvalue()

    assert "\\x1b[31mred\\nline" in shown
    assert "[bold]x[/bold]" in shown
    assert "\x1b[31m" not in shown


def test_values_are_printed_as_people_read_them(capsys: pytest.CaptureFixture[str]) -> None:
    """Times have milliseconds and are in UTC, fractions have four digits, and None is empty."""
    output.print_rows(("at", "x", "y"), [(HOUR, 0.123456789, None), (None, 1e7, True)])

    assert capsys.readouterr().out.splitlines()[1:] == [
        f"{HOUR:%Y-%m-%d %H}:00:00.000Z    0.1235",
        "                          10000000  True",
    ]
