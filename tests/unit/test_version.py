"""The version that `instances` and telemetry report."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

import pytest

from resilience.version import package_version


def test_the_version_is_that_of_the_distribution() -> None:
    """The package is installed as `baml-resilience`."""
    assert version("baml-resilience") == package_version()


def test_a_checkout_that_was_never_installed_has_version_0(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a distribution the version is `0`, and nothing raises."""

    def missing(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr("importlib.metadata.version", missing)
    assert package_version.__wrapped__() == "0"
