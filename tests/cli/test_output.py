"""What commands print: one module writes, and a terminal gets colours but no orders from the text."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path

import pytest
from rich.console import Console

from resilience.cli import output

COMMANDS = sorted(Path(output.__file__).parent.glob("*.py"))
WRITING = re.compile(r"(?<!\.)\bprint\(|typer\.echo|sys\.std(?:out|err)\.write|click\.echo")
ALLOWED = {"output.py", "metrics.py"}
"""Modules that write to standard output. `metrics` prints Prometheus' text, which has its own escapes."""


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
