"""The demo on a terminal: the live table, and the summary at the end."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from resilience.demo.observer import Progress
from resilience.demo.run import DemoRun
from resilience.demo.sharing import Sharing
from resilience.terminal import escape

_EXAMPLE_QUERY: Final = "SELECT client, category, COUNT(*) FROM errors GROUP BY 1, 2"
_MOST_CATEGORIES: Final = 6
_COLOURS: Final = {
    "closed": "green",
    "half_open": "yellow",
    "open": "red",
    "forced_open": "red",
    "away": "magenta",
}


@contextmanager
def live_table(console: Console) -> Iterator[Callable[[Progress], None]]:
    """Yield a function that shows the progress: updated in place on a terminal, once for each phase elsewhere."""
    if console.is_terminal:
        with Live(console=console, auto_refresh=False) as live:
            yield lambda progress: live.update(draw(progress), refresh=True)
        return
    shown: list[str] = []

    def show_once(progress: Progress) -> None:
        phase = progress.phase
        # In the second half of a phase, when its outage shows in the numbers.
        if phase.name not in shown and progress.elapsed > (phase.start + phase.end) / 2:
            shown.append(phase.name)
            console.print(draw(progress))

    yield show_once


def draw(progress: Progress) -> RenderableType:
    """Return a table of the clients, with the phase as its title and the progress below."""
    table = Table(title=f"Primary: {progress.phase.name}", title_justify="left", expand=False)
    table.add_column("client")
    table.add_column("circuit")
    for name in ("answered", "failed", "refused", "cool-down"):
        table.add_column(name, justify="right")
    for row in progress.rows:
        table.add_row(
            row.client,
            Text(row.state, style=_COLOURS.get(row.state, "")),
            str(row.answered),
            str(row.failed),
            str(row.refused),
            f"{row.cooldown:.1f} s" if row.cooldown else "",
        )
    elapsed = min(progress.elapsed, progress.seconds)
    calls = f"{progress.succeeded} of {progress.calls} calls answered"
    return Group(table, Text(f"{elapsed:4.1f} of {progress.seconds:.0f} s   {calls}"))


def print_summary(console: Console, run: DemoRun) -> None:
    """Print what happened, in sentences and numbers."""
    total = run.summary
    console.print()
    console.print(
        f"[bold]{total.succeeded} of {run.calls} calls got an answer[/] ({_list_counts(total.answered_by)})."
    )
    console.print(
        f"{total.dead_requests} requests met the outage; {total.retries} retries and {total.fallbacks} fallbacks kept "
        f"the calls alive. Median {total.p50_ms:.0f} ms, 99th percentile {total.p99_ms:.0f} ms."
    )
    if run.stretched:
        console.print("Calls are slow on this machine, so the run took longer than --seconds.")
    _print_transitions(console, run)
    for client, category, count in run.snapshot.categories[:_MOST_CATEGORIES]:
        console.print(f"  {client}: {count} x {category}")
    if run.sharing is not None:
        _print_sharing(console, run.sharing)
    if run.errors:
        console.print(f"[red]Not answered:[/] {_list_counts(run.errors)}")
    console.print()
    # Paths are the user's: `[brackets]` in them are not Rich's markup.
    database, logs = escape(str(total.database)), escape(str(total.logs))
    # The demo's namespace is the name of its folder, see `run.py`.
    folder = Path(total.database).parent
    look = f"resilience --at {shlex.quote(str(folder))} --namespace {folder.name} status"
    console.print(f"Look:    {escape(look)}", soft_wrap=True, markup=False, highlight=False)
    console.print(f"History: {database}", soft_wrap=True, markup=False)
    console.print(f"Logs:    {logs}", soft_wrap=True, markup=False)
    console.print(
        f'Ask it:  sqlite3 {database} "{_EXAMPLE_QUERY}"', soft_wrap=True, markup=False, highlight=False
    )


def _print_transitions(console: Console, run: DemoRun) -> None:
    if run.summary.transitions:
        console.print("Transitions of the circuits that the processes share:")
    for transition in run.summary.transitions:
        rule, opened = transition["rule"], transition["to"] == "open"
        cause = f"{rule}, {transition['reason']}" if opened else rule
        states = f"{transition['from']} -> {transition['to']}"
        line = f"  {transition['at'][11:23]}  {transition['client']}: {states} ({cause})"
        console.print(escape(line), markup=False, highlight=False)


def _print_sharing(console: Console, sharing: Sharing) -> None:
    """Print which process lost requests to the outage, and what the death of Redis cost."""
    table = Table(title="Who asked Primary in the first outage", title_justify="left")
    table.add_column("process")
    for name in ("began at", "lost to it", "spared it", "all calls", "without Redis"):
        table.add_column(name, justify="right")
    for process in sharing.processes:
        table.add_row(
            str(process.process),
            f"{process.joined:.1f} s",
            str(process.lost),
            str(process.spared),
            str(process.calls),
            str(process.without_redis) if sharing.redis_killed else "",
        )
    console.print(table)
    if sharing.redis_killed:
        calls = sum(process.without_redis for process in sharing.processes)
        seconds = sharing.redis_down_seconds
        console.print(
            f"Redis was killed and came back empty {seconds} s later. {calls} calls began in that time."
        )
    if not sharing.happened:
        console.print("[red]The outages to be survived did not happen:[/] give the demo more --seconds.")


def _list_counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.items()) or "none"
