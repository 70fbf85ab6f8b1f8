"""The process that `resilience explore` starts: Datasette on one file, with limits for every connection.

    python -m resilience.cli.explore_server FILE METADATA HOST PORT

Datasette's own command waits for ever for the rest of a request, and a connection costs an open file. So the server is made here, with a
protocol that ends a connection whose client is too slow, and refuses connections beyond a number.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

SETTINGS: Final = {"sql_time_limit_ms": 1000, "allow_download": False, "suggest_facets": False}
"""Settings of Datasette.

Queries are stopped, and facets are not counted unasked, because the agents write to the same file. A download would be a copy
without the write-ahead log, that is without the latest rows.
"""
_TIMEOUT: Final = 10.0
"""Seconds that a client may take for a whole request, and to read on while an answer waits for it."""
_LOOKS: Final = 10
"""How often in that time each connection is looked at."""
_MAX_CONNECTIONS: Final = 64

# Optional dependencies; Datasette has no types.
_h11: Any = importlib.import_module("h11")
_uvicorn: Any = importlib.import_module("uvicorn")
_UvicornProtocol: Any = importlib.import_module("uvicorn.protocols.http.h11_impl").H11Protocol


class LimitedProtocol(_UvicornProtocol):  # type: ignore[misc]  # as above
    """One connection of uvicorn, ended when its client keeps it waiting."""

    def connection_made(self, transport: asyncio.Transport) -> None:
        """Begin to look at the connection, or end it if there are too many."""
        super().connection_made(transport)
        self._waits_since = self.loop.time()
        if len(self.connections) > _MAX_CONNECTIONS:
            transport.abort()
            return
        self._look()

    def on_response_complete(self) -> None:
        """Give the next request of the connection its own time."""
        self._waits_since = self.loop.time()
        super().on_response_complete()

    def _look(self) -> None:
        if self.transport.is_closing():
            return
        now = self.loop.time()
        if not self._waits_for_client():
            self._waits_since = now
        elif now - self._waits_since >= _TIMEOUT:
            self.transport.abort()  # not close: that would wait for a client that does not read
            return
        self.loop.call_later(_TIMEOUT / _LOOKS, self._look)

    def _waits_for_client(self) -> bool:
        # IDLE: its head is not whole. SEND_BODY: its body is not whole.
        incomplete = self.conn.their_state in {_h11.IDLE, _h11.SEND_BODY}
        return incomplete or bool(self.flow.write_paused)


def serve(application: Any, host: str, port: int) -> None:
    """Serve an ASGI application until SIGINT or SIGTERM.

    Args:
        application: the application.
        host: the address to listen on.
        port: its port.
    """
    _uvicorn.run(application, host=host, port=port, lifespan="on", http=LimitedProtocol, ws="none")


def main(arguments: Sequence[str]) -> None:
    """Serve the file of the arguments: FILE METADATA HOST PORT."""
    file, metadata, host, port = arguments
    datasette = importlib.import_module("datasette.app").Datasette(
        # Not as an immutable file: agents write to it, and SQLite would not see their changes.
        [file],
        metadata=json.loads(Path(metadata).read_text()),
        settings=SETTINGS,
    )
    asyncio.run(_start(datasette))
    serve(datasette.app(), host, int(port))


async def _start(datasette: Any) -> None:
    """Start the plugins, and end with a message if the file is no database."""
    await datasette.invoke_startup()
    await importlib.import_module("datasette.cli").check_databases(datasette)


if __name__ == "__main__":
    main(sys.argv[1:])
