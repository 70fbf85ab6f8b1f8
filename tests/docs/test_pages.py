"""The pages as a whole: links, sizes, references into the code, and nothing that points outside the repository."""

from __future__ import annotations

import ast
import dataclasses
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from support.pages import PAGES, ROOT, anchors, links, prose

from resilience.breaker.stores.redis import AGENT_KEYS, LEAST_RIGHTS, OPERATOR_KEYS
from resilience.config.settings import POLICIES
from resilience.failure import CATEGORY_RULES

FOR_MAINTAINERS = [
    ROOT / "docs/architecture.md",
    ROOT / "CONTRIBUTING.md",
    *sorted((ROOT / "docs/decisions").glob("*.md")),
]
REFERENCE = re.compile(
    r"`(?P<path>[\w./-]+\.(?:py|lua|md|toml|mako|baml|json|ini)|[\w.-]+(?:/[\w.-]+)*/)(?::(?P<name>[\w.]+))?`"
)
OUTSIDE = (
    r"\bDESIGN\b",
    r"\bSTYLE\b",
    r"\bARCHITECTURE\b",
    r"\bfacts/",
    r"(?<![\w/])shared/",
    r"\bissues? #?\d",
    r"(?<![\w/&])#\d+\b(?! *;)",
)
"""Words by which a file would point at a document that is not in the repository."""
PUBLIC_DOCUMENT = re.compile(r"https?://|RFC \d+|[\w.-]+/[\w.-]+#\d+")


def test_readme_is_short() -> None:
    """The README has at most 120 lines of 120 characters, and 900 words."""
    text = (ROOT / "README.md").read_text("utf-8")

    assert len(text.splitlines()) <= 120
    assert max(map(len, text.splitlines())) <= 120
    assert len(text.split()) <= 900


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    """Each link into the repository names a file that exists, and a heading of it."""
    dead = []
    for target in links(page):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        file = (page.parent / name) if name else page
        if not file.exists() or (anchor and anchor not in anchors(file)):
            dead.append(target)

    assert [] == dead


@pytest.mark.parametrize("page", FOR_MAINTAINERS, ids=lambda page: str(page.relative_to(ROOT)))
def test_named_code_exists(page: Path) -> None:
    """Each `path` and `path:name` that a page for maintainers names exists."""
    missing = []
    for match in REFERENCE.finditer(prose(page)):
        places = [base / match["path"] for base in (ROOT, ROOT / "resilience", page.parent)]
        found = next((place for place in places if place.exists()), None)
        if found is None or (match["name"] and match["name"] not in names(found)):
            missing.append(match[0])

    assert [] == missing


def names(path: Path) -> set[str]:
    """Return the functions, classes, methods, attributes and constants of a module, methods as `Class.method`."""
    found: set[str] = set()
    tree = ast.parse(path.read_text("utf-8"))
    for node in tree.body:
        found |= own_names(node)
        if isinstance(node, ast.ClassDef):
            found |= {f"{node.name}.{name}" for child in node.body for name in own_names(child)}
    return found


def own_names(node: ast.stmt) -> set[str]:
    if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
        return {node.name}
    targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
    return {target.id for target in targets if isinstance(target, ast.Name)}


def test_nothing_points_outside_the_repository() -> None:
    """No file names a document, or a number of an issue, that a reader of the repository cannot open."""
    git = shutil.which("git")
    if git is None or not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    listed = subprocess.run([git, "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True)
    patterns = re.compile("|".join(OUTSIDE))
    found = []
    for name in listed.stdout.split():
        if not (ROOT / name).is_file() or not re.search(
            r"\.(py|md|toml|lua|ini|mako|baml|txt)$|^\.ci/", name
        ):
            continue
        if Path(name) == Path(__file__).relative_to(ROOT) or "baml_client" in name:
            continue
        text = (ROOT / name).read_text("utf-8")
        # One search of the whole text is much cheaper than one for each line, and most files have no such word.
        for number, line in enumerate(text.splitlines() if patterns.search(text) else (), 1):
            if patterns.search(line) and not PUBLIC_DOCUMENT.search(line):
                found.append(f"{name}:{number}: {line.strip()[:100]}")

    assert [] == found


def test_every_policy_field_has_advice() -> None:
    """docs/tune.md names every field of every policy."""
    text = (ROOT / "docs/tune.md").read_text("utf-8")
    missing = [
        f"{kind.__name__}.{field.name}"
        for kind in POLICIES.values()
        for field in dataclasses.fields(kind)
        if f"`{field.name}`" not in text
    ]

    assert [] == missing


def test_benchmarks_that_pages_name_exist() -> None:
    """Each `benchmarks.<module>` that a page names is a module that can be run."""
    named = {
        name for page in PAGES for name in re.findall(r"\bbenchmarks\.(?!md\b)(\w+)", page.read_text("utf-8"))
    }

    assert [] == [name for name in sorted(named) if not (ROOT / "benchmarks" / f"{name}.py").exists()]


def test_architecture_names_every_layer() -> None:
    """docs/architecture.md explains every package and module that the import contract lists as a layer."""
    text = (ROOT / "docs/architecture.md").read_text("utf-8")
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["importlinter"][
        "contracts"
    ]
    layers = " | ".join(contracts[0]["layers"]).split(" | ")
    names = [layer.removeprefix("resilience.") for layer in layers]

    assert [] == [name for name in names if f"`{name}/`" not in text and f"`{name}.py`" not in text]


def test_every_extra_is_explained() -> None:
    """docs/operate.md says what each extra of the distribution is for."""
    text = (ROOT / "docs/operate.md").read_text("utf-8")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]

    assert [] == [extra for extra in project["optional-dependencies"] if f"| `{extra}` |" not in text]


def test_documented_rights_are_the_tested_ones() -> None:
    """docs/operate.md gives the Redis user exactly the rights that tests/contract/test_redis_rights.py finds necessary."""
    text = (ROOT / "docs/operate.md").read_text("utf-8")
    assert f"ACL SETUSER agents on >secret {AGENT_KEYS} {LEAST_RIGHTS}\n" in text
    assert f"ACL SETUSER operators on >other {OPERATOR_KEYS} {LEAST_RIGHTS}\n" in text


def test_every_category_is_explained() -> None:
    """docs/concepts.md has a row for each error category, which says whether it counts as a failure."""
    text = (ROOT / "docs/concepts.md").read_text("utf-8")
    for category, rules in CATEGORY_RULES.items():
        row = next(line for line in text.splitlines() if line.startswith(f"| `{category}` |"))
        assert ("yes" if rules.counts_as_failure else "no") == row.split("|")[4].strip(), category


def test_reference_is_up_to_date() -> None:
    """The committed reference page is what the code generates."""
    done = subprocess.run(
        [sys.executable, ROOT / "docs/generate_reference.py", "--check"],
        capture_output=True,
        text=True,
        check=False,
    )

    assert 0 == done.returncode, done.stderr
