"""The words of the code: names are the field's terms, and prose follows the rules of CONTRIBUTING.md."""

from __future__ import annotations

import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

from support.sources import source

ROOT = Path(__file__).parents[2]
PACKAGE = sorted((ROOT / "resilience").rglob("*.py"))
EARLIER_MIGRATIONS = {"0001_first_tables.py", "0002_events_groups_rollups.py"}
"""Migrations never change, not even their words."""
CODE = sorted(
    path
    for folder in ("resilience", "migrations", "benchmarks", "tests", "examples")
    for path in (ROOT / folder).rglob("*.py")
    if path != Path(__file__) and path.name not in EARLIER_MIGRATIONS
)
PAGES = sorted(
    path
    for pattern in ("*.md", "docs/**/*.md", "examples/**/*.md", "resilience/**/*.lua", "pyproject.toml")
    for path in ROOT.glob(pattern)
)
PROVIDER_SENTENCES = {"words_english.py", "provider_errors.py", "test_failure_unseen.py"}
"""Modules whose strings are the words of providers, not ours."""

RENAMED = frozenset(
    [
        "House",
        "Way",
        "Turn",
        "Ledger",
        "Desk",
        "Errand",
        "Exchange",
        "Purse",
        "Pace",
        "Standby",
        "Sighting",
        "Document",
        "Chronicle",
        "Rooms",
        "Outlets",
        "Survey",
        "Carried",
        "Unmade",
        "Bell",
        "Losses",
        "Gauge",
        "Backlog",
        "Standing",
        "Trouble",
        "Unkept",
        "Sheet",
        "Repair",
        "Housekeeping",
        "Archive",
        "Segments",
        "Sealed",
        "Hop",
        "LiveTrace",
        "Told",
        "Written",
        "Effective",
        "Patience",
        "Traits",
        "TRAITS",
        "Situation",
        "Denial",
        "Again",
        "NextClient",
        "house",
        "rooms",
        "corridor",
        "ledger",
        "desk",
        "errand",
        "exchange",
        "purse",
        "pace",
        "standby",
        "sighting",
        "chronicle",
        "outlets",
        "unmade",
        "losses",
        "told",
        "untold",
        "hop",
        "hopped",
        "endless",
        "unkept",
        "tallied",
        "unclean",
        "spoiled",
        "attend",
        "moment_of",
        "vet",
        "vetting",
        "hurts",
        "falls_over",
        "fell_over",
        "patience",
        "patience_for",
        "traits",
        "rouse",
        "nap",
        "hire",
        "hush",
        "cools_client",
    ]
)
"""Identifiers of the first edition that have the field's name now; compared as whole tokens."""

PHRASES = (
    r"\bwhoever\b",
    r"\bnobody\b",
    r"\bsomebody\b",
    r"\banew\b",
    r"\bby and by\b",
    r"\bso many\b",
    r"\bof one's own\b",
    r"\bat the most\b",
    r"\b(is|are|was|were|be|been|being|gets|get) told\b",
    r"\bhurts\b",
    r"\bpurse\b",
    r"\berrand\b",
    r"\bchronicle\b",
    r"\bcorridor\b",
    r"\b(this|the|which|one|pure|own) rooms?\b",
)
"""Phrases that make a reader stop; see "How we write" in CONTRIBUTING.md."""

_WORDS = re.compile("|".join(PHRASES), re.IGNORECASE)
_FIRST_WORDS = re.compile(r"(Gives|Tells|Hears|Says|Lets|Sees)\b")
_NAMES = re.compile(rf"\b_*({'|'.join(RENAMED)})\b")


def tokens(path: Path) -> Iterator[tokenize.TokenInfo]:
    return tokenize.generate_tokens(io.StringIO(path.read_text()).readline)


def prose(path: Path) -> Iterator[tuple[int, str]]:
    """Comments, docstrings and, in the package itself, every other string."""
    yield from source(path).docstrings
    ours = path in PACKAGE and path.name not in PROVIDER_SENTENCES
    for token in tokens(path):
        if token.type == tokenize.COMMENT or (ours and token.type == tokenize.STRING):
            yield token.start[0], token.string


def old_names(path: Path) -> Iterator[str]:
    """Identifiers of the first edition in a module. Only a module whose text has such a word is taken apart."""
    if not _NAMES.search(path.read_text()):
        return
    for token in tokens(path):
        if token.type == tokenize.NAME and token.string.lstrip("_") in RENAMED:
            yield f"{path.relative_to(ROOT)}:{token.start[0]}: {token.string}"


def unclear_prose(path: Path) -> Iterator[str]:
    """Phrases of the list in a module, and docstrings that begin with a verb of the list or are a question."""
    place, text = path.relative_to(ROOT), path.read_text()
    if _WORDS.search(text):
        for line, said in prose(path):
            yield from (f"{place}:{line}: {match[0]}" for match in _WORDS.finditer(said))
    if re.search(rf'"""{_FIRST_WORDS.pattern}|\?("""|$)', text, re.MULTILINE):
        for line, said in source(path).docstrings:
            if said and (_FIRST_WORDS.match(said) or said.splitlines()[0].endswith("?")):
                yield f"{place}:{line}: {said.splitlines()[0]}"


def test_names_are_the_fields_terms() -> None:
    """No identifier is a private word of the first edition."""
    assert [] == [found for path in CODE for found in old_names(path)]


def test_prose_of_code_is_plain() -> None:
    """No comment, docstring or message uses a phrase of the list, and no docstring begins as a riddle."""
    assert [] == [found for path in CODE for found in unclear_prose(path)]


def test_prose_of_pages_is_plain() -> None:
    """No page uses a phrase of the list."""
    found = [
        f"{path.relative_to(ROOT)}:{number}: {match[0]}"
        for path in PAGES
        for number, line in enumerate(path.read_text().splitlines(), 1)
        for match in _WORDS.finditer(line)
    ]

    assert [] == found


def test_hard_code_is_explained() -> None:
    """At least 3 % of the package's lines are comments, and 25 % are comments or docstrings."""
    total = comments = documented = 0
    for path in PACKAGE:
        total += len(path.read_text().splitlines())
        comments += len({token.start[0] for token in tokens(path) if token.type == tokenize.COMMENT})
        documented += sum(len(text.splitlines()) for _, text in source(path).docstrings)

    assert comments / total >= 0.03
    assert (comments + documented) / total >= 0.25


def test_the_circuit_breaker_can_be_found() -> None:
    """A search for "circuit breaker" finds the package that is one."""
    naming = [path for path in PACKAGE if "circuit breaker" in path.read_text().lower()]

    assert ROOT / "resilience" / "breaker" / "breaker.py" in naming
