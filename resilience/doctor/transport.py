"""Checks that nothing crosses a network unencrypted: passwords of stores and databases, and the history itself."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from contextlib import suppress
from typing import Final
from urllib.parse import parse_qs, urlsplit

from resilience.config.settings import Settings
from resilience.doctor.finding import Finding, warn
from resilience.redaction import redact_url

_ENCRYPTED: Final = frozenset({"require", "verify-ca", "verify-full"})
"""Values of `sslmode` with which PostgreSQL's driver refuses a connection without TLS."""
_TLS_REMEDY: Final = (
    "use rediss:// for Redis and sslmode=verify-full for PostgreSQL, or keep the connection within one host"
)


def examine(settings: Settings) -> Iterator[Finding]:
    """Warn of connections to other hosts that are not encrypted, or whose certificates are not checked.

    Args:
        settings: complete settings.
    """
    places = (
        ("circuits", settings.redis_url or settings.store_url),
        ("history", settings.database_url if settings.keeps_history else None),
    )
    for subject, url in places:
        weakness = _weakness(url or "")
        if weakness:
            yield warn(subject, f"{redact_url(url or '')}: {weakness}", _TLS_REMEDY)


def _weakness(url: str) -> str:
    """Return what is wrong with the connection of *url*; empty if nothing is, or if it is no URL of a server."""
    with suppress(ValueError):
        parts = urlsplit(url)
        scheme, query = parts.scheme.partition("+")[0], parse_qs(parts.query)
        if not _is_remote(parts.hostname):
            return ""
        if scheme == "rediss" and query.get("ssl_cert_reqs", [""])[-1].lower() in {"none", "cert_none", "0"}:
            return "the certificate of the server is not checked"
        if scheme == "redis":
            return "the connection to another host is not encrypted"
        if scheme in {"postgresql", "postgres"} and query.get("sslmode", [""])[-1] not in _ENCRYPTED:
            return "the connection to another host may not be encrypted"
    return ""


def _is_remote(host: str | None) -> bool:
    if not host or host in {"localhost", "localhost.localdomain"}:
        return False
    with suppress(ValueError):
        return not ipaddress.ip_address(host).is_loopback
    return True
