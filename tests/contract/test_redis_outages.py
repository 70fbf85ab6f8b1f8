"""Whatever happens to Redis, callers see no error of it, wait no longer than their budget, and what was open stays open."""

from __future__ import annotations

import logging

import pytest
from support.outages import FAULTS, live_through
from support.valkey_servers import Valkey


@pytest.mark.parametrize("name", FAULTS)
async def test_callers_do_not_notice(name: str, caplog: pytest.LogCaptureFixture) -> None:
    """No error, no call let through to the client that is down, one log line an episode, and back when it is over.

    The thread may wait 2 s for Redis here: callers who waited for what the thread waits for would show it.
    """
    caplog.set_level(logging.INFO, "resilience")
    fault = FAULTS[name]
    with Valkey("--enable-debug-command", "yes") as valkey:
        lived = await live_through(valkey, fault, "?socket_timeout=2")
    away = [record for record in caplog.records if "is away" in record.getMessage()]

    assert lived.errors == []
    assert lived.let_through == 0
    assert max(lived.waits) < 1.0
    assert lived.restored
    if fault.noticed is not None:
        assert lived.degraded is fault.noticed
        assert len(away) == fault.noticed
    assert len(away) <= 1
