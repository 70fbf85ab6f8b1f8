"""What commands print: one module writes, and a terminal gets colours but no orders from the text."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path

import pytest
from rich.console import Console

from resilience.cli import output

COMMANDS = sorted(Path(output.__file__).parent.glob("*.py"))
WRITING = re.compile(r"(?<!\.)\bprint\(|typer\.echo|sys\.std(?:out|err)\.write|click\.echo")
ALLOWED = {"output.py", "csv_text.py"}
"""Modules that write to standard output."""


@pytest.mark.parametrize("path", COMMANDS, ids=lambda path: path.name)
def test_commands_print_through_one_module(path: Path) -> None:
    """No command writes by itself: it could forget to escape what a provider or another operator wrote."""
    assert path.name in ALLOWED or [] == WRITING.findall(path.read_text())


def test_a_styled_cell_has_its_colour_only_on_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    """A terminal shows the colour; a pipe gets the text."""
    rows = [(output.Styled("open\x07", "red"),)]
    screen = io.StringIO()
    output.print_rows(
        ("state",), rows, console=Console(file=screen, force_terminal=True, color_system="standard")
    )
    output.print_rows(("state",), rows)

    assert "\x1b[31mopen\\x07" in screen.getvalue()
    assert "state\nopen\\x07\n" == capsys.readouterr().out


def test_json_is_exact_and_safe(capsys: pytest.CaptureFixture[str]) -> None:
    """JSON escapes what a terminal obeys by its own syntax, so that a program reads the exact value."""
    value = {"text": "\x1b[31m\x7f\u202e\n"}
    output.print_json(value)
    text = capsys.readouterr().out

    assert value == json.loads(text)
    assert not set(text) & set("\x1b\x7f\u202e")


def test_a_note_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    """Source and message of a note are escaped, line feeds too."""
    output.note("two\nlines\x1b", source="file\x07:2")

    assert "file\\x07:2: two\\nlines\\x1b\n" == capsys.readouterr().err


FORMULAS = [
    "=1+1",
    "+1",
    "-1+cmd|x",
    "@SUM(A1)",
    "\t=1",
    "\r=1",
    " =1",
    "\uff1dA1",
    '=HYPERLINK("http://evil","x")',
]


@pytest.mark.parametrize("text", FORMULAS)
def test_csv_has_no_formulas_unless_raw(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A text that a spreadsheet would run gets an apostrophe; with --raw it is exact. Both are read back as one cell."""
    output.print_rows(("a", "b"), [(text, -1.5)], as_csv=True)
    safe = list(csv.reader(io.StringIO(capsys.readouterr().out, newline="")))
    output.print_rows(("a", "b"), [(text, -1.5)], as_csv=True, raw=True)
    raw = list(csv.reader(io.StringIO(capsys.readouterr().out, newline="")))

    assert [["a", "b"], [f"'{text}", "-1.5"]] == safe
    assert [["a", "b"], [text, "-1.5"]] == raw


@pytest.mark.parametrize("text", ["a\rb", 'say "x"', "a,b", "a\nb", "a\r\nb"])
def test_a_cell_of_csv_is_one_cell_whatever_it_holds(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Line breaks of any kind, commas and quotes stay within their cell."""
    output.print_rows(("a",), [(text,), ("next",)], as_csv=True)

    assert [["a"], [text], ["next"]] == list(csv.reader(io.StringIO(capsys.readouterr().out, newline="")))


def test_names_of_columns_are_escaped_too(capsys: pytest.CaptureFixture[str]) -> None:
    """A query names its columns as it likes."""
    output.print_rows(("\x1b[31mred",), [("a",)])

    assert "\\x1b[31mred\na\n" == capsys.readouterr().out


def test_one_long_cell_does_not_widen_all_rows(capsys: pytest.CaptureFixture[str]) -> None:
    """In a pipe a long cell is printed whole, and the other rows of its column stay short."""
    output.print_rows(("a", "b"), [("x" * 100_000, "1"), *[("y", "z")] * 100])
    printed = capsys.readouterr().out

    assert "x" * 100_000 in printed
    assert len(printed) < 200_000
