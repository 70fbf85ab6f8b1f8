"""Options of the soak: `python -m pytest tests/chaos --soak-seconds 60 --soak-seed 1`."""

from __future__ import annotations

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--soak-seconds", type=float, default=20.0, help="how long faults happen, in seconds")
    parser.addoption(
        "--soak-seed", type=int, action="append", default=None, help="seed of the faults; may be repeated"
    )


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "seed" in metafunc.fixturenames:
        metafunc.parametrize("seed", metafunc.config.getoption("--soak-seed") or [1])
