"""What a process has cost so far: CPU by thread, bytes written, memory. Linux only."""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

_TASKS: Final = Path("/proc/self/task")
_THREADS: Final = {
    "MainThread": "caller",
    "resilience-history": "writer",
    "resilience-sync": "sync",
    "floor": "writer",
}
"""Names of our threads in the report. Those of the pool for blocking calls are `calls`, all others BAML's. `floors.py` has the last."""
OWN: Final = ("caller", "writer", "sync", "calls", "baml")


@dataclass(slots=True)
class Costs:
    """Costs since the start of the process, or between two moments.

    Attributes:
        cpu: microseconds of CPU by thread.
        written: bytes that were handed to files.
    """

    cpu: dict[str, float] = field(default_factory=dict)
    written: int = 0

    def __sub__(self, before: Costs) -> Costs:
        spent = {name: self.cpu.get(name, 0.0) - before.cpu.get(name, 0.0) for name in OWN}
        return Costs(spent, self.written - before.written)

    def __add__(self, other: Costs) -> Costs:
        total = {name: self.cpu.get(name, 0.0) + other.cpu.get(name, 0.0) for name in OWN}
        return Costs(total, self.written + other.written)

    @property
    def total(self) -> float:
        """Microseconds of CPU of all threads."""
        return sum(self.cpu.values())


def costs() -> Costs:
    """Return the costs so far. The time of threads that have ended is not in them."""
    names = {thread.native_id: thread.name for thread in threading.enumerate()}
    cpu = dict.fromkeys(OWN, 0.0)
    for task in os.listdir(_TASKS):  # noqa: PTH208 - a Path for each thread would cost what is measured
        name = names.get(int(task), "")
        kind = "calls" if name == "resilience-call" else _THREADS.get(name, "baml")
        try:
            ran = (_TASKS / task / "schedstat").read_text().split()[0]
        except OSError:
            continue  # it has ended
        cpu[kind] += int(ran) / 1000
    return Costs(cpu, _written())


def _written() -> int:
    for line in Path("/proc/self/io").read_text().splitlines():
        name, _, value = line.partition(": ")
        if name == "wchar":
            return int(value)
    return 0


def resident() -> float:
    """Return the resident memory of this process in MB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6
