"""Draw the captured output of a command as an SVG: `resilience demo > run.txt; python docs/draw_terminal.py run.txt`.

The picture shows one table of the run (that of the phase given with `--phase`) and the outcome of the run, as they were printed.
"""

from __future__ import annotations

import argparse
import io
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.text import Text

PICTURE: Final = Path(__file__).parent / "images" / "demo.svg"
COLOURS: Final = {"closed": "green", "half_open": "yellow", "open": "red"}


def excerpt(lines: Sequence[str], phase: str) -> list[str]:
    """Return the last table of *phase*, the first two lines of the summary, and the transitions of the circuits."""
    start = max(number for number, line in enumerate(lines) if line.startswith(phase))
    table = lines[
        start : next(number for number in range(start, len(lines)) if " calls answered" in lines[number]) + 1
    ]
    summary = next(number for number, line in enumerate(lines) if "calls got an answer" in line)
    moves = next(number for number in range(summary, len(lines)) if lines[number].startswith("Transitions"))
    end = next(number for number in range(moves + 1, len(lines)) if "->" not in lines[number])
    return [
        "$ uv run resilience demo",
        *table,
        "...",
        *lines[summary : summary + 2],
        "...",
        *lines[moves:end],
    ]


def draw(lines: Sequence[str]) -> str:
    """Return *lines* as an SVG of a terminal, with the states of circuits in colour."""
    console = Console(record=True, width=88, file=io.StringIO())
    for line in lines:
        text = Text(line.rstrip())
        text.highlight_words(["half_open"], style=COLOURS["half_open"])
        text.highlight_regex(r"(?<=│ )open(?= )|-> open", style=COLOURS["open"])
        text.highlight_regex(r"(?<=│ )closed(?= )|-> closed", style=COLOURS["closed"])
        console.print(text)
    picture = console.export_svg(title="resilience demo")
    # Rich's web fonts would be fetched from another server by each reader; the fallback is the system's monospace font.
    return re.sub(r"@font-face \{.*?\}", "", picture, flags=re.DOTALL)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Draw the captured output of `resilience demo`.")
    parser.add_argument("capture", type=Path)
    parser.add_argument(
        "--phase", default="Primary: 503", help="the first words above the table that is shown"
    )
    given = parser.parse_args()
    PICTURE.write_text(
        draw(excerpt(given.capture.read_text("utf-8").splitlines(), given.phase)), encoding="utf-8"
    )
