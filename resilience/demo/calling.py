"""The four ways in which a project calls a generated client: async or sync, whole answers or streams."""

from __future__ import annotations

import asyncio
import importlib
from dataclasses import dataclass
from typing import Any

from resilience import BAMLErrorHandler, protect


@dataclass(frozen=True, slots=True, kw_only=True)
class CallStyle:
    """How the agents of the demo call.

    Attributes:
        sync: through the sync client, in threads.
        stream: through streams, read to their end.
    """

    sync: bool = False
    stream: bool = False


class StyledClient:
    """A guarded client whose functions are coroutine functions, whatever the style of the call behind them.

    Args:
        baml: the generated async client.
        handler: the handler of all calls.
        style: how to call.
    """

    def __init__(self, baml: Any, handler: BAMLErrorHandler, style: CallStyle) -> None:
        # Imported here only: a process that calls asynchronously does not need the sync client.
        client = importlib.import_module("baml_client.sync_client").b if style.sync else baml
        self._guarded: Any = protect(client, handler)
        self._style = style

    def __getattr__(self, name: str) -> Any:
        """Return the function *name* of the client."""
        function = getattr(self._guarded.stream if self._style.stream else self._guarded, name)

        async def call(*args: Any, **kwargs: Any) -> Any:
            if self._style.sync:
                return await asyncio.to_thread(self._blocking, function, args, kwargs)
            if not self._style.stream:
                return await function(*args, **kwargs)
            stream = function(*args, **kwargs)
            async for _ in stream:
                pass  # a user would show the partial answer
            return await stream.get_final_response()

        return call

    def _blocking(self, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        result = function(*args, **kwargs)
        if not self._style.stream:
            return result
        for _ in result:
            pass
        return result.get_final_response()
