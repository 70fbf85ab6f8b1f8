"""The version of this package, as it is installed."""

from __future__ import annotations

from functools import cache


@cache
def package_version() -> str:
    """Return the installed version of `baml-resilience`; `0` in a checkout that was never installed."""
    from importlib import metadata  # noqa: PLC0415 - it reads archives too, so it imports a dozen modules

    try:
        return metadata.version("baml-resilience")
    except metadata.PackageNotFoundError:
        return "0"
