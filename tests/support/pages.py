"""The Markdown pages of the repository: their fenced blocks, links and headings."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    path for pattern in ("*.md", "docs/**/*.md", "examples/**/*.md") for path in ROOT.glob(pattern)
)
UNRUN = re.compile(r"<!-- not run: (?P<reason>.{10,}) -->")
"""The mark on the line above a block that no test runs. The reason is part of it."""
_FENCE = re.compile(r"(?P<indent> *)(?P<marks>`{3,})(?P<language>\S*)\s*$")
_LINK = re.compile(r"(?<!!)\[[^\]]+\]\((?P<target>[^)\s]+)\)")
_IMAGE = re.compile(r"!\[[^\]]*\]\((?P<target>[^)\s]+)\)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """One fenced block.

    Attributes:
        page: the file.
        line: the line of its first fence.
        language: the word after the fence.
        text: the lines between the fences.
        unrun: why no test runs it; empty when one does.
    """

    page: Path
    line: int
    language: str
    text: str
    unrun: str

    @property
    def place(self) -> str:
        """Return where it is, for a message."""
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def blocks(page: Path, *languages: str) -> list[Block]:
    """Return the fenced blocks of *page* in these languages; of every language when none is given."""
    found = _blocks(page)
    return [block for block in found if not languages or block.language in languages]


def _blocks(page: Path) -> Iterator[Block]:
    lines = page.read_text("utf-8").splitlines()
    number = 0
    while number < len(lines):
        opening = _FENCE.match(lines[number])
        if opening is None:
            number += 1
            continue
        closing = opening["indent"] + opening["marks"]
        end = lines.index(closing, number + 1)
        mark = UNRUN.search(lines[number - 1]) if number else None
        text = "\n".join(line.removeprefix(opening["indent"]) for line in lines[number + 1 : end])
        yield Block(
            page=page,
            line=number + 1,
            language=opening["language"],
            text=text + "\n",
            unrun=mark["reason"] if mark else "",
        )
        number = end + 1


def prose(page: Path) -> str:
    """Return *page* without its fenced blocks."""
    return re.sub(r"^( *)(`{3,}).*?^\1\2\s*$", "", page.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)


def links(page: Path) -> list[str]:
    """Return the targets of all links and images of *page*, outside of blocks and code."""
    text = re.sub(r"`[^`\n]*`", "code", prose(page))
    return [match["target"] for pattern in (_LINK, _IMAGE) for match in pattern.finditer(text)]


def anchors(page: Path) -> set[str]:
    """Return the anchors of the headings of *page*, as GitHub makes them."""
    found = set()
    for heading in re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE):
        found.add(re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-"))
    return found
