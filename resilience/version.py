"""The version of this package, as it is installed."""

from __future__ import annotations

from functools import cache
from importlib import metadata


@cache
def package_version() -> str:
    """Return the installed version of `baml-resilience`; `0` in a checkout that was never installed."""
    try:
        return metadata.version("baml-resilience")
    except metadata.PackageNotFoundError:
        return "0"
