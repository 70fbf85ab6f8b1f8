"""Draws the demo for people: the live table, and the summary at the end."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from resilience.demo.fleet import DemoRun
from resilience.demo.sharing import Sharing
from resilience.demo.watch import Frame

_QUESTION: Final = "SELECT client, category, COUNT(*) FROM errors GROUP BY 1, 2"
_COLOURS: Final = {
    "closed": "green",
    "half_open": "yellow",
    "open": "red",
    "forced_open": "red",
    "away": "magenta",
}


@contextmanager
def shown(console: Console) -> Iterator[Callable[[Frame], None]]:
    """Give a function that shows a frame: in place on a terminal, once a phase elsewhere."""
    if not console.is_terminal:
        seen: list[str] = []

        def once_a_phase(frame: Frame) -> None:
            if frame.phase.name not in seen and frame.at > (frame.phase.start + frame.phase.end) / 2:
                seen.append(frame.phase.name)
                console.print(draw(frame))

        yield once_a_phase
        return
    with Live(console=console, auto_refresh=False) as live:
        yield lambda frame: live.update(draw(frame), refresh=True)


def draw(frame: Frame) -> RenderableType:
    """One frame as a table with a title and the progress."""
    table = Table(title=f"Primary: {frame.phase.name}", title_justify="left", expand=False)
    table.add_column("client")
    table.add_column("circuit")
    for name in ("answered", "failed", "refused", "cool-down"):
        table.add_column(name, justify="right")
    for row in frame.rows:
        table.add_row(
            row.client,
            Text(row.state, style=_COLOURS.get(row.state, "")),
            str(row.answered),
            str(row.failed),
            str(row.refused),
            f"{row.cooldown:.1f} s" if row.cooldown else "",
        )
    at = min(frame.at, frame.seconds)
    done = Text(f"{at:4.1f} of {frame.seconds:.0f} s   {frame.succeeded} of {frame.calls} calls answered")
    return Group(table, done)


def tell(console: Console, run: DemoRun) -> None:
    """Say what happened in words and numbers a person understands."""
    total = run.summary
    console.print()
    console.print(
        f"[bold]{total.succeeded} of {run.counted} calls got an answer[/] ({_shares(total.answered_by)})."
    )
    console.print(
        f"{total.dead_requests} requests met the outage; {total.retries} retries and {total.fallbacks} fallbacks kept "
        f"the calls alive. Median {total.p50_ms:.0f} ms, 99th percentile {total.p99_ms:.0f} ms."
    )
    if total.transitions:
        console.print("The circuits the processes share moved like this:")
        for moved in total.transitions:
            why = f"{moved['rule']}, {moved['reason']}" if moved["to"] == "open" else moved["rule"]
            console.print(
                f"  {moved['at'][11:23]}  {moved['client']}: {moved['from']} -> {moved['to']} ({why})",
                highlight=False,
            )
    for client, category, count in run.snapshot.categories[:6]:
        console.print(f"  {client}: {count} x {category}")
    if run.sharing is not None:
        _tell_sharing(console, run.sharing)
    if run.errors:
        console.print(f"[red]Not answered:[/] {_shares(run.errors)}")
    console.print(f"\nHistory: {total.database}", soft_wrap=True)
    console.print(f"Logs:    {total.logs}", soft_wrap=True)
    console.print(f'Ask it:  sqlite3 {total.database} "{_QUESTION}"', soft_wrap=True, highlight=False)


def _tell_sharing(console: Console, sharing: Sharing) -> None:
    """Say who paid for the outage, and what the death of Redis cost."""
    table = Table(title="Who asked Primary in the first outage", title_justify="left")
    table.add_column("process")
    for name in ("began at", "lost to it", "spared it", "all calls", "without Redis"):
        table.add_column(name, justify="right")
    for member in sharing.members:
        table.add_row(
            str(member.process),
            f"{member.joined:.1f} s",
            str(member.lost),
            str(member.spared),
            str(member.calls),
            str(member.alone) if sharing.own else "",
        )
    console.print(table)
    if sharing.own:
        alone = sum(member.alone for member in sharing.members)
        console.print(
            f"Redis was killed and came back empty {sharing.seconds_away} s later. {alone} calls began in that time."
        )
    if not sharing.happened:
        console.print("[red]What was to be survived did not happen:[/] give the demo more --seconds.")


def _shares(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.items()) or "none"
