"""The rules of this codebase that no other tool checks."""

from __future__ import annotations

from pathlib import Path

from support.sources import source

ROOT = Path(__file__).parents[2]
TESTS = sorted((ROOT / "tests").rglob("test_*.py"))
PACKAGE = sorted((ROOT / "resilience").rglob("*.py"))
LONGEST_FUNCTION = 40
LONGEST_MODULE = 400


def test_every_test_states_its_claim() -> None:
    """Each test function has a docstring."""
    silent = [
        f"{path.relative_to(ROOT)}:{function.line}: {function.name}"
        for path in TESTS
        for function in source(path).functions
        if function.name.startswith("test_") and not function.documented
    ]

    assert [] == silent


def test_functions_stay_short() -> None:
    """No function of the package is over 40 lines, and nine of ten are at most 20."""
    sizes = {
        f"{path.relative_to(ROOT)}:{function.line} {function.name}": function.lines
        for path in PACKAGE
        for function in source(path).functions
    }
    ordered = sorted(sizes.values())

    assert {} == {name: size for name, size in sizes.items() if size > LONGEST_FUNCTION}
    assert ordered[int(0.9 * len(ordered))] <= 20


def test_modules_stay_one_concept() -> None:
    """No module is over 400 lines, none is a drawer for odds and ends."""
    sizes = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in PACKAGE}

    assert {} == {name: size for name, size in sizes.items() if size > LONGEST_MODULE}
    assert not [path for path in PACKAGE if path.stem in {"utils", "helpers", "common", "misc"}]


def test_nothing_is_left_for_later() -> None:
    """No placeholder stands in the package."""
    marks = ("NotImplementedError", "TO" + "DO", "FIX" + "ME", "pragma: no cover")
    found = [f"{path.name}: {mark}" for path in PACKAGE for mark in marks if mark in path.read_text()]

    assert not found
