"""doctor warns of connections to other hosts that anyone on the way can read."""

from __future__ import annotations

from typing import Any

import pytest

from resilience import Settings
from resilience.doctor import transport
from resilience.redaction import redact_url

WEAK = [
    ({"redis_url": "redis://:pw@cache.internal:6379/0"}, "not encrypted"),
    ({"redis_url": "rediss://:pw@cache.internal?ssl_cert_reqs=none"}, "certificate"),
    ({"redis_url": "rediss://:pw@cache.internal"}, None),
    ({"redis_url": "redis://localhost"}, None),
    ({"redis_url": "redis://127.0.0.1:6379"}, None),
    ({"database_url": "postgresql://u:pw@db.internal/x"}, "may not be encrypted"),
    ({"database_url": "postgresql://u:pw@db.internal/x?sslmode=prefer"}, "may not be encrypted"),
    ({"database_url": "postgresql+psycopg://u:pw@db.internal/x?sslmode=verify-full"}, None),
    ({"database_url": "postgresql://u:pw@localhost/x"}, None),
    ({"database_url": "sqlite:////x/history.db", "store_url": "memory://"}, None),
]


@pytest.mark.parametrize(("values", "expected"), WEAK)
def test_connections_that_can_be_read_are_found(values: dict[str, Any], expected: str | None) -> None:
    """A server on another host needs TLS with a checked certificate; one on this host, and files, do not."""
    found = [finding.message for finding in transport.examine(Settings(**values))]

    assert len(found) == (expected is not None)
    assert all(expected in message and "pw" not in message for message in found if expected)


ODD = ['p"w<x', "a'b", "a b", "p@@w", "a\\b", "p?w#x", "p/w", "p:w", "p>w"]


@pytest.mark.parametrize("password", ODD)
@pytest.mark.parametrize("url", ["redis://:{}@h:6379/0", "postgresql://u:{}@h/db"])
def test_no_part_of_a_password_is_shown_whatever_it_has(url: str, password: str) -> None:
    """Everything before the last @ is masked."""
    shown = redact_url(url.format(password))

    assert shown.startswith(f"{url.partition('://')[0]}://[credentials]@h")


def test_values_of_unknown_parameters_are_masked() -> None:
    """A driver takes passwords in parameters, and `options` sets anything; what helps an operator is shown."""
    url = "postgresql://u:pw@h/db?options=-c%20x%3Dsecret1&password=hunter2&sslmode=require&passfile=/x"

    assert (
        "postgresql://[credentials]@h/db?options=[secret]&password=[secret]&sslmode=require&passfile=[secret]"
        == redact_url(url)
    )
    assert "postgresql://h/db?options=-csearch_path%3Dapp" == redact_url(
        "postgresql://h/db?options=-csearch_path%3Dapp"
    )
    assert "sqlite:////home/me@work/x.db" == redact_url("sqlite:////home/me@work/x.db")
