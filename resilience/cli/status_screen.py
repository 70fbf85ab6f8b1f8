"""The screen of `resilience status`: sentences first, tables after, one screen of 80 columns. Pure.

Every part is a list of whole lines, each with one colour. So a line is never folded by the terminal, a test can read the screen
as text, and the screen says the same without colours: states and tones are words. Names and messages come from rows and stores,
which may be hostile, and are escaped where they enter a line: an escape sequence would change the width of a column.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from resilience.breaker import CircuitState
from resilience.cli.columns import lines, shorten, wrap
from resilience.cli.output import Styled
from resilience.ops.circuits import Circuit
from resilience.ops.fleet import ClientOutage, Fleet, by_client
from resilience.ops.next_steps import NextStep, next_steps
from resilience.ops.phrases import age, clock, count, latency, share, sparkline
from resilience.ops.verdict import OWN_REGISTRY, is_refusing, sentences
from resilience.ops.window import ClientUse, Window
from resilience.terminal import escape

_TONES: Final = {"bad": "bold red", "good": "green", "plain": ""}
_HEAD: Final = "bold"
_LEAST_NAMESPACE: Final = 12
"""Characters of the namespace that the title has at least."""
_MOST_FAILURES: Final = 5
_MOST_OUTAGES: Final = 3
"""Outages of one client that a line names."""
_CLIENTS: Final = (
    "CLIENT",
    "STATE",
    "SINCE",
    "WHY",
    "NEXT",
    "ASKED",
    "FAIL",
    "REFUSED",
    "ANSWERS",
    "P50",
    "P95",
    "RETRIES",
    "WHEN",
)
# What goes first where the terminal is narrow: the sparkline, the median, the retry budget, the refusals. State, why and
# next stay. A long name is cut first.
_KEEP: Final = (0, 9, 8, 9, 9, 6, 7, 4, 5, 2, 6, 3, 1)
_NUMBERS: Final = frozenset({5, 6, 7, 8, 9, 10, 11})


@dataclass(frozen=True, slots=True, kw_only=True)
class ScreenLayout:
    """How a screen is drawn.

    Attributes:
        width: characters of a line.
        unicode: whether bars and ellipses can be printed.
        command: the words that begin each command to paste, such as `resilience --at FOLDER`.
    """

    width: int = 80
    unicode: bool = True
    command: str = "resilience"


def screen(fleet: Fleet, form: ScreenLayout) -> list[Styled]:
    """Return the lines of the screen.

    Args:
        fleet: the snapshot.
        form: width, characters and the begin of commands.
    """
    parts = [*_title(fleet, form), *_headline(fleet, form), *_clients(fleet, form)]
    parts += [*_failures(fleet, form), *_outages(fleet, form), *_health(fleet, form), *_next(fleet, form)]
    return parts if form.unicode else [Styled(_plain(line.text), line.style) for line in parts]


def _plain(text: str) -> str:
    # The length of a name may change here. A terminal without Unicode cannot show the name otherwise.
    return text.replace("…", "~").encode("ascii", "backslashreplace").decode()


def _title(fleet: Fleet, form: ScreenLayout) -> Iterator[Styled]:
    seconds = (fleet.window.until - fleet.window.since).total_seconds() if fleet.window else None
    words = [
        count(len(fleet.processes), "process", "processes"),
        f"{fleet.at:%H:%M:%S}Z",
        *([f"window {age(seconds)}"] if seconds is not None else []),
    ]
    # The namespace is shortened, since it may be long, and what follows it changes from screen to screen.
    left = form.width - len("   ".join(["resilience status", "", *words]))
    namespace = shorten(escape(fleet.namespace), max(left, _LEAST_NAMESPACE), middle=True)
    yield Styled(shorten("   ".join(["resilience status", namespace, *words]), max(form.width, 1)), _HEAD)
    yield Styled("", "")


def _headline(fleet: Fleet, form: ScreenLayout) -> Iterator[Styled]:
    for sentence in sentences(fleet):
        for line in _wrapped(sentence.text, "  ", "    ", form):
            yield Styled(line, _TONES[sentence.tone])


def _wrapped(text: str, first: str, later: str, form: ScreenLayout) -> list[str]:
    return wrap(escape(text), form.width, first, later)


# --- tables -------------------------------------------------------------------------------------------------------------


def _clients(fleet: Fleet, form: ScreenLayout) -> Iterator[Styled]:
    circuits = {circuit.client: circuit for circuit in fleet.circuits}
    uses = {use.client: use for use in fleet.window.clients} if fleet.window else {}
    names = sorted({*circuits, *uses, *fleet.clients})
    if not names:
        return
    rows = [_client_row(fleet, name, circuits.get(name), uses.get(name), form) for name in names]
    drawn = lines(_CLIENTS, rows, _KEEP, form.width, right=_NUMBERS, middle=frozenset({0}))
    yield Styled("", "")
    yield Styled(drawn[0], _HEAD)
    for name, line in zip(names, drawn[1:], strict=True):
        yield Styled(line, _style(circuits.get(name)))


def _style(circuit: Circuit | None) -> str:
    if circuit is None or not is_refusing(circuit):
        return ""
    return "yellow" if circuit.state in {CircuitState.HALF_OPEN, CircuitState.CLOSED} else "red"


def _client_row(
    fleet: Fleet, name: str, circuit: Circuit | None, use: ClientUse | None, form: ScreenLayout
) -> list[str]:
    used = use or ClientUse(client=name)
    return [
        escape(name),
        *_state(fleet, circuit, used),
        f"{used.asked:,}" if used.asked else "-",
        share(used.failed, used.asked),
        f"{used.refused:,}" if used.refused else "-",
        f"{used.answers:,}" if used.answers else "-",
        latency(used.p50),
        latency(used.p95),
        "-" if circuit is None or circuit.retry_tokens is None else str(int(circuit.retry_tokens)),
        sparkline(used.slots) if form.unicode else "",
    ]


def _state(fleet: Fleet, circuit: Circuit | None, used: ClientUse) -> tuple[str, str, str, str]:
    """Return the state of a circuit, since when, why, and when that may change."""
    if circuit is None and used.client == OWN_REGISTRY:
        return ("none", "-", "-", "-")
    if circuit is None or (circuit.since is None and not is_refusing(circuit)):
        return ("closed" if used.asked or used.refused else "unused", "-", "-", "-")
    since = age((fleet.at - circuit.since).total_seconds()) if circuit.since else "-"
    if circuit.state is CircuitState.CLOSED and circuit.cooldown_until is None:
        return ("closed", since, "-", "-")
    if circuit.state is CircuitState.CLOSED and circuit.cooldown_until is not None:
        left = age((circuit.cooldown_until - fleet.at).total_seconds())
        return ("cooling", since, escape(circuit.cooldown_reason), left)
    until = "by order" if circuit.indefinite else "next call"
    if circuit.until is not None:
        until = age((circuit.until - fleet.at).total_seconds())
    return (circuit.state.value, since, escape(circuit.reason)[:20], until)


def _failures(fleet: Fleet, form: ScreenLayout) -> Iterator[Styled]:
    window = _with_failures(fleet)
    if window is None:
        return
    span = f"{clock(window.since, fleet.at)} to {clock(window.until, fleet.at)}"
    titles = ("", f"WHAT FAILED, {span}", "TIMES", "LAST", "CLIENT", "GROUP")
    rows = [
        [
            str(group.status or ""),
            escape(f"{group.category}: {group.title}"),
            f"{group.times:,}",
            age((fleet.at - group.last_at).total_seconds()),
            escape(group.client),
            group.fingerprint[-8:],
        ]
        for group in window.failures[:_MOST_FAILURES]
    ]
    yield from _table(titles, rows, (8, 0, 9, 9, 0, 7), form, right=frozenset({2, 3}), name=4)
    if len(window.failures) > _MOST_FAILURES:
        yield Styled(f"  and {count(len(window.failures) - _MOST_FAILURES, 'other kind')}", "")


def _with_failures(fleet: Fleet) -> Window | None:
    """Return the window whose failures are shown: the present one, else that of the last outages.

    None if neither has any: a table without rows would look like an answer.
    """
    return next((window for window in (fleet.window, fleet.episode) if window and window.failures), None)


def _outages(fleet: Fleet, form: ScreenLayout) -> Iterator[Styled]:
    rows = [
        [
            escape(client),
            str(len(found)),
            age(max(outage.seconds(fleet.at) for outage in found)),
            _last(fleet, found),
        ]
        for client, found in by_client(fleet.outages).items()
    ]
    if rows:
        titles = ("OUTAGES, 24 h", "TIMES", "LONGEST", "NEWEST FIRST")
        yield from _table(titles, rows, (0, 9, 8, 0), form, right=frozenset({1, 2}), name=0)


def _last(fleet: Fleet, outages: Sequence[ClientOutage]) -> str:
    return ", ".join(
        f"{clock(outage.started_at, fleet.at)} {age(outage.seconds(fleet.at))} {escape(outage.reason or outage.opened_by)}"
        for outage in outages[:_MOST_OUTAGES]
    )


def _table(
    titles: Sequence[str],
    rows: Sequence[Sequence[str]],
    keep: Sequence[int],
    form: ScreenLayout,
    *,
    right: frozenset[int],
    name: int,
) -> Iterator[Styled]:
    drawn = lines(titles, rows, keep, form.width, right=right, middle=frozenset({name}))
    yield Styled("", "")
    yield Styled(drawn[0], _HEAD)
    for line in drawn[1:]:
        yield Styled(line, "")


# --- the foot -----------------------------------------------------------------------------------------------------------


def _health(fleet: Fleet, form: ScreenLayout) -> Iterator[Styled]:
    store = "away" if fleet.store_error else "missing" if fleet.store_missing else "ok"
    if fleet.store_seconds is not None:
        store += f" {fleet.store_seconds * 1000:.0f} ms"
    history = "away" if fleet.history_error else "missing" if fleet.history_missing else "ok"
    waiting = sum(process.queue_depth for process in fleet.processes)
    dropped = sum(process.dropped for process in fleet.processes)
    text = f"HEALTH  store {store}   history {history}, {waiting} waiting, {dropped} dropped"
    if fleet.degraded_processes:
        text += f"   {fleet.degraded_processes} without the store"
    yield Styled("", "")
    # Two spaces between the parts are for the eye: only a line that is too long is wrapped.
    fits = len(text) <= form.width
    for line in [text] if fits else _wrapped(text, "", " " * len("HEALTH  "), form):
        yield Styled(line, "")


def _next(fleet: Fleet, form: ScreenLayout) -> Iterator[Styled]:
    head = "NEXT    "
    for step in next_steps(fleet):
        yield from _step(step, head, form)
        head = " " * len(head)


def _step(step: NextStep, head: str, form: ScreenLayout) -> Iterator[Styled]:
    indent = " " * len(head)
    text = f"{step.text}:" if step.command else f"{step.text}"
    for line in _wrapped(text, head, indent, form):
        yield Styled(line, "")
    if step.command:
        # Never folded: it is to be pasted.
        yield Styled(f"{indent}  {form.command} {escape(shlex.join(step.command))}", _HEAD)
