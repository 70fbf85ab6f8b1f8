"""`resilience circuit`: look at the fleet's circuits, and overrule them."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import os
import pwd
import re
import socket
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Annotated, Any, Final

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from resilience import admin
from resilience.admin import Circuit, CircuitsReport, OrderResult
from resilience.breaker import CircuitState, Operation
from resilience.cli.exit_codes import explained
from resilience.errors import StoreError

app = typer.Typer(help="The fleet's circuits: look, and overrule them.", no_args_is_help=True)

AWAY: Final = 1
"""The exit code when the store cannot be used."""

_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_DURATION: Final = re.compile(r"(\d+(?:\.\d+)?)([smhd])")
_LONGEST: Final = 365 * 86400
_WIDEST: Final = 200  # of a name in the history
_COLOURS: Final = {CircuitState.CLOSED: "green", CircuitState.HALF_OPEN: "yellow"}


def duration(text: str) -> float:
    """The seconds in a text such as 90s, 10m, 2h or 1h30m.

    Raises:
        typer.BadParameter: naming the text and what to write instead.
    """
    parts = _DURATION.findall(text)
    seconds = sum(float(number) * _UNITS[unit] for number, unit in parts)
    if "".join(number + unit for number, unit in parts) != text or not 0 < seconds <= _LONGEST:
        msg = f"{text!r} is no length of time: give one such as 90s, 10m, 2h or 1d, up to 365d"
        raise typer.BadParameter(msg)
    return seconds


def named(text: str) -> str:
    """A name as it is, if it can be one.

    Raises:
        typer.BadParameter: naming the text and what to write instead.
    """
    if not 0 < len(text.strip()) <= _WIDEST:
        msg = f"{text[:20]!r} is no name: give 1 to {_WIDEST} characters"
        raise typer.BadParameter(msg)
    return text


def _me() -> str:
    try:
        user = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # a container may know its users by number alone
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"


Client = Annotated[
    str, typer.Argument(metavar="CLIENT", parser=named, help="The client, as clients.baml names it.")
]
For = Annotated[
    float | None,
    typer.Option(
        "--for",
        metavar="TIME",
        parser=duration,
        help="How long: 90s, 10m, 2h; without it, until another order.",
    ),
]
Reason = Annotated[str, typer.Option(help="Why; refused calls and the history say it.")]
Actor = Annotated[
    str | None,
    typer.Option(parser=named, show_default="the user and host of this shell", help="Who orders it."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")]


@app.callback()
def circuit() -> None:
    """Acts on the store that the agents use, by the same settings. Every agent obeys within max_staleness (250 ms)."""


@app.command("list")
def show(*, as_json: AsJson = False) -> None:
    """Show every circuit, without touching any; exit 1 when the store is away, and then what the history remembers."""
    with _explained():
        found = asyncio.run(admin.survey())
    if as_json:
        _print({**_plain(found), "circuits": [_plain(each) for each in found.circuits]})
    else:
        _table(found)
    _note(
        found.away
        and f"{found.away}; agents go on with their own circuits, shown is what the history remembers"
    )
    _note(found.unread)
    _note(
        found.degraded and f"{found.degraded} process(es) cannot reach the store and use their own circuits"
    )
    raise typer.Exit(AWAY if found.away else 0)


@app.command("open")
def open_(
    client: Client,
    seconds: For = None,
    reason: Reason = "",
    actor: Actor = None,
    *,
    as_json: AsJson = False,
) -> None:
    """Refuse every call to CLIENT, everywhere, for a time or until another order."""
    _order(client, Operation.OPEN, reason, actor, seconds, as_json=as_json)


@app.command()
def disable(
    client: Client,
    seconds: For = None,
    reason: Reason = "",
    actor: Actor = None,
    *,
    as_json: AsJson = False,
) -> None:
    """Admit every call to CLIENT and count nothing, for a time or until another order."""
    _order(client, Operation.DISABLE, reason, actor, seconds, as_json=as_json)


@app.command()
def close(client: Client, reason: Reason = "", actor: Actor = None, *, as_json: AsJson = False) -> None:
    """Admit calls to CLIENT again, now: ends an opening, an override and a cool-down."""
    _order(client, Operation.CLOSE, reason, actor, as_json=as_json)


@app.command()
def reset(client: Client, reason: Reason = "", actor: Actor = None, *, as_json: AsJson = False) -> None:
    """As close, and forget how often the circuit of CLIENT opened or cooled before."""
    _order(client, Operation.RESET, reason, actor, as_json=as_json)


def _order(
    client: str,
    operation: Operation,
    reason: str,
    actor: str | None,
    seconds: float | None = None,
    *,
    as_json: bool,
) -> None:
    with _explained():
        done = asyncio.run(
            admin.order(client, operation, actor=actor or _me(), reason=reason, seconds=seconds)
        )
    if as_json:
        _print({**_plain(done.circuit), "changed": done.changed, "kept": not done.unkept})
    else:
        sys.stdout.write(_told(done))
    _note(done.others and f"no process has used {client!r} yet; the store knows {', '.join(done.others)}")
    _note(
        done.unkept and f"{done.unkept}: the order stands, but nobody will know of it if the store loses it"
    )


@contextmanager
def _explained() -> Iterator[None]:
    """As `explained`, and a store that cannot be used is one line and its own exit code."""
    try:
        with explained():
            yield
    except StoreError as exc:
        sys.stderr.write(f"resilience: {exc}; nothing was changed\n")
        raise typer.Exit(AWAY) from None


def _told(done: OrderResult) -> str:
    said = [f"{done.circuit.client}: {_state(done.circuit)}{'' if done.changed else ' as before'}"]
    if done.circuit.actor:
        said.append(f"by {done.circuit.actor}")
    if done.circuit.reason:
        said.append(done.circuit.reason)
    return ", ".join(said) + "\n"


def _state(circuit: Circuit) -> str:
    if circuit.endless:
        return f"{circuit.state} until another order"
    return f"{circuit.state} until {_clock(circuit.until)}" if circuit.until else f"{circuit.state}"


def _table(found: CircuitsReport) -> None:
    if not found.circuits:
        sys.stdout.write("no circuit has been used yet\n" if not found.away else "")
        return
    table = Table(box=None, pad_edge=False)
    for title in (
        "client",
        "state",
        "since",
        "until",
        "reason",
        "by",
        "cools until",
        "failed",
        "retries left",
    ):
        table.add_column(title, overflow="fold")
    for each in found.circuits:
        table.add_row(*_cells(each))
    wide = None if sys.stdout.isatty() else 400  # in a pipe a line is a line
    Console(width=wide).print(table)


def _cells(each: Circuit) -> list[Text]:
    state = f"{each.state} (forgotten by the store)" if each.remembered else f"{each.state}"
    cooling = f"{_clock(each.cooling_until)} {each.cooled_by}" if each.cooling_until else ""
    return [
        Text(each.client),
        Text(state, style=_COLOURS.get(each.state, "red")),
        Text(_clock(each.since)),
        Text("another order" if each.endless else _clock(each.until)),
        Text(each.reason),
        Text(each.actor),
        Text(cooling.strip()),
        Text(f"{each.failures} of {each.calls}"),
        Text("" if each.retry_tokens is None else f"{each.retry_tokens:.0f}"),
    ]


def _clock(at: datetime | None) -> str:
    """A time of today as a time, another with its date; in UTC, as the history has it."""
    if at is None:
        return ""
    today = at.date() == datetime.now(UTC).date()
    return at.strftime("%H:%M:%SZ" if today else "%Y-%m-%d %H:%M:%SZ")


def _plain(value: Any) -> dict[str, Any]:
    return {name: _json(each) for name, each in dataclasses.asdict(value).items()}


def _json(value: Any) -> Any:
    return value.isoformat().replace("+00:00", "Z") if isinstance(value, datetime) else value


def _print(value: Mapping[str, Any]) -> None:
    sys.stdout.write(json.dumps(value) + "\n")


def _note(text: object) -> None:
    if text:
        sys.stderr.write(f"resilience: {text}\n")
