"""Probes beside calls, as tasks of the caller's event loop."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Any, Final

from resilience.execution.async_driver import run_async
from resilience.execution.context import CallContext
from resilience.execution.probe import Probe

_END_SECONDS: Final = 1.0
"""Seconds to wait for probes that were cancelled. BAML lets go of a request within some milliseconds."""

_log = logging.getLogger("resilience")


class Probes:
    """The probes that run beside the calls of one handler.

    A probe ends with its event loop or with its handler, whichever comes first. Its task is cancelled then, and its lease returned,
    so that another process can probe at once.
    """

    def __init__(self) -> None:
        # The loop itself holds its tasks weakly: without this a probe could be collected while it waits.
        self._tasks: dict[asyncio.Task[Any], str] = {}

    def start(
        self, caller: CallContext, client: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> None:
        """Start a probe of *client* with the arguments of the caller's call, unless enough of them run.

        Args:
            caller: the call that found the probe due.
            client: the client to probe.
            args: positional arguments of the function.
            kwargs: keyword arguments of the function.
        """
        running = [other for task, other in list(self._tasks.items()) if not self._is_lost(task)]
        if caller.bind_probe is None or running.count(client) >= caller.policies.breaker.half_open_probes:
            return
        probe = Probe(caller, client, caller.bind_probe(client))
        task = asyncio.get_running_loop().create_task(run_async(probe, args, kwargs), name="resilience-probe")
        # A loop that is closed without a last round would report the task as destroyed while pending. Nothing is lost with it: the
        # engine returns the lease when its coroutine is closed. The attribute is the one that asyncio.gather uses itself.
        task._log_destroy_pending = False  # type: ignore[attr-defined]  # noqa: SLF001
        self._tasks[task] = client
        task.add_done_callback(self._on_end)

    def _on_end(self, task: asyncio.Task[Any]) -> None:
        self._tasks.pop(task, None)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.warning("a probe ended with an error of this package (%s)", type(error).__name__)

    def _is_lost(self, task: asyncio.Task[Any]) -> bool:
        """Return whether the loop of *task* was closed before it ended. Such a task never runs again and is forgotten."""
        if not task.get_loop().is_closed():
            return False
        self._tasks.pop(task, None)
        return True

    async def aclose(self) -> None:
        """Cancel all probes, and wait until those of the running loop have returned their leases."""
        loop = asyncio.get_running_loop()
        own = [task for task in list(self._tasks) if task.get_loop() is loop]
        for task in own:
            task.cancel()
        self.close()
        if own:
            await asyncio.wait(own, timeout=_END_SECONDS)

    def close(self) -> None:
        """Cancel all probes, each on its own loop, without waiting for them."""
        for task in list(self._tasks):
            if not self._is_lost(task):
                task.get_loop().call_soon_threadsafe(task.cancel)
