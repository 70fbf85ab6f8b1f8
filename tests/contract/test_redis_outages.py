"""Whatever happens to Redis, callers see no error of it and wait no longer than their budget, and open circuits stay open."""

from __future__ import annotations

import logging

import pytest
from support.outages import FAULTS, RunningTime, live_through
from support.valkey_servers import Valkey


@pytest.mark.parametrize("name", FAULTS)
async def test_callers_do_not_notice(name: str, caplog: pytest.LogCaptureFixture) -> None:
    """No error, no call admitted to the client that is down, one log line an outage, and shared circuits after it.

    The sync thread may wait 2 s for Redis here, so that a caller that waited for the thread would show it. The clock of
    the waits stands still while the machine stalls.
    """
    caplog.set_level(logging.INFO, "resilience")
    fault = FAULTS[name]
    with Valkey("--enable-debug-command", "yes") as valkey, RunningTime() as clock:
        lived = await live_through(valkey, fault, "?socket_timeout=2", clock)
    away = [record for record in caplog.records if "is away" in record.getMessage()]

    assert lived.errors == []
    assert lived.let_through == 0
    assert max(lived.waits) < 1.0
    assert lived.restored
    if fault.noticed is not None:
        assert lived.degraded is fault.noticed
        assert len(away) == fault.noticed
    assert len(away) <= 1
