"""`resilience circuit`: list the circuit breakers of the fleet, and override them.

An operator knows things that no failure rate shows: a provider announced maintenance, or a bill is unpaid. `open` and `disable`
override a circuit for a time or until another order; `close` and `reset` end that. Every order has an actor and a reason, which
refused calls and the history show, because the next operator will ask.

Exit codes: 0 success, 1 the store of circuits cannot be used, 2 wrong arguments or settings.
"""

from __future__ import annotations

import asyncio
import dataclasses
import os
import pwd
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from resilience.breaker import Operation
from resilience.cli import completion, options
from resilience.cli.exit_codes import STORE_UNAVAILABLE, exit_on_setup_error
from resilience.cli.output import note, print_in_form, print_json, print_line, record_rows
from resilience.errors import StoreError
from resilience.terminal import escape
from resilience.times import parse_duration

if TYPE_CHECKING:
    from resilience.admin import OrderResult
    from resilience.ops.circuits import Circuit

app = typer.Typer(
    help="List the fleet's circuits, and override them. The commands use the store that the settings name, "
    "as the agents do; agents obey within max_staleness (250 ms).",
    no_args_is_help=True,
)

_LONGEST_DURATION: Final = 365 * 86400.0
# Change with history/schema/tables.py. A longer name would be cut in the
# history: its circuit would have another name there than in the store.
_LONGEST_NAME: Final = 200
"""Characters that the columns `client` and `actor` of the history hold."""


def duration(text: str) -> float:
    """Return the seconds in a text such as `90s` or `1h30m`, for an option of Typer.

    Args:
        text: a duration as `resilience.times.parse_duration` reads it, more than zero and at most a year.
            For a longer time, an order without a duration holds until another order.

    Raises:
        typer.BadParameter: the text is not a duration, or is not within the limits of an order.
    """
    try:
        seconds = parse_duration(text)
    except ValueError:
        seconds = 0.0  # refused below: one message names the syntax and the limits
    if not 0 < seconds <= _LONGEST_DURATION:
        msg = f"{text!r} is not a duration: give one such as 90s, 10m, 2h, 1d or 1w, at most 365d"
        raise typer.BadParameter(msg)
    return seconds


def name(text: str) -> str:
    """Return *text* if the history can hold it as a name, for an argument or option of Typer.

    Args:
        text: the name of a client or of an operator. Whether the client exists is not checked here: an order may be given
            before the first process uses it.

    Raises:
        typer.BadParameter: the text is empty or too long.
    """
    if not 0 < len(text.strip()) <= _LONGEST_NAME:
        msg = f"{text[:20]!r} is not a name: give 1 to {_LONGEST_NAME} characters"
        raise typer.BadParameter(msg)
    return text


def _current_user() -> str:
    """Return `user@host` of this process. The password database is asked, since USER may have any value."""
    try:
        user = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # a container may have a user number without a name
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"


Client = Annotated[
    str,
    typer.Argument(
        metavar="CLIENT",
        parser=name,
        autocompletion=completion.clients,
        help="Name of the client, as in clients.baml.",
    ),
]
For = Annotated[
    float | None,
    typer.Option(
        "--for",
        metavar="DURATION",
        parser=duration,
        help="How long the order holds: 90s, 10m, 2h, 1d or 1w. Without it, until another order.",
    ),
]
NoTime = Annotated[float | None, typer.Option("--for", parser=duration, metavar="DURATION", hidden=True)]
Reason = Annotated[str, typer.Option(help="Reason, shown by refused calls and kept in the history.")]
Actor = Annotated[
    str | None,
    typer.Option(parser=name, show_default="user@host of this shell", help="Person who gives the order."),
]

New = Annotated[
    bool, typer.Option("--new", help="Accept a CLIENT that neither the store nor the history knows yet.")
]
Create = Annotated[
    bool, typer.Option("--create", help="Create the store if it is a file that does not exist yet.")
]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask before an order without an end.")]


@app.command("list")
def show(*, output: options.Output = None, as_json: options.JsonObject = False) -> None:
    """Show every circuit, and change nothing.

    If the store cannot be used, show what the history has, and exit with 1.
    """
    # The report is printed first, then what is wrong with it on standard error: a pipe gets only circuits.
    from resilience import admin  # noqa: PLC0415 - SQLAlchemy, which a completion does not need
    from resilience.cli.circuit_list import print_circuits  # noqa: PLC0415 - as above

    form = options.form(output, as_json=as_json, as_csv=False)
    with _exit_on_error():
        report = asyncio.run(admin.circuits_report())
    if form == "json":
        print_json(dataclasses.asdict(report))
    elif form == "table":
        print_circuits(report)
    elif report.circuits:
        print_in_form(*record_rows(report.circuits), form)
    if report.store_error:
        note(f"{report.store_error}; agents use their local circuits, and this list is from the history")
    if report.history_error:
        note(report.history_error)
    if report.degraded_processes:
        note(f"{report.degraded_processes} process(es) cannot reach the store and use their local circuits")
    raise typer.Exit(STORE_UNAVAILABLE if report.store_error else 0)


@app.command("open")
def open_(
    client: Client,
    seconds: For = None,
    reason: Reason = "",
    actor: Actor = None,
    *,
    new: New = False,
    create: Create = False,
    yes: Yes = False,
    as_json: options.JsonObject = False,
) -> None:
    """Refuse every call to CLIENT in the whole fleet, for a time or until another order.

    Example: resilience circuit open Primary --for 2h --reason "maintenance"
    """
    if seconds is None and not yes:
        _confirm_endless(client, "refuse every call")
    _apply(client, Operation.OPEN, reason, actor, seconds, new=new, create=create, as_json=as_json)


@app.command()
def disable(
    client: Client,
    seconds: For = None,
    reason: Reason = "",
    actor: Actor = None,
    *,
    new: New = False,
    create: Create = False,
    yes: Yes = False,
    as_json: options.JsonObject = False,
) -> None:
    """Admit every call to CLIENT and count no failures, for a time or until another order.

    Use it when the circuit breaker itself is suspected: calls are then made
    as without one.
    """
    if seconds is None and not yes:
        _confirm_endless(client, "count no failures")
    _apply(client, Operation.DISABLE, reason, actor, seconds, new=new, create=create, as_json=as_json)


@app.command()
def close(
    client: Client,
    seconds: NoTime = None,
    reason: Reason = "",
    actor: Actor = None,
    *,
    new: New = False,
    create: Create = False,
    as_json: options.JsonObject = False,
) -> None:
    """Admit calls to CLIENT again, immediately. Ends an open state, an override and a cool-down.

    If calls still fail, the circuit opens again by its own rules.
    """
    _refuse_time(seconds)
    _apply(client, Operation.CLOSE, reason, actor, new=new, create=create, as_json=as_json)


@app.command()
def reset(
    client: Client,
    seconds: NoTime = None,
    reason: Reason = "",
    actor: Actor = None,
    *,
    new: New = False,
    create: Create = False,
    as_json: options.JsonObject = False,
) -> None:
    """Close the circuit of CLIENT, and forget earlier openings and cool-downs, which lengthen the next."""
    _refuse_time(seconds)
    _apply(client, Operation.RESET, reason, actor, new=new, create=create, as_json=as_json)


@app.command()
def forget(
    client: Client, reason: Reason = "", actor: Actor = None, *, as_json: options.JsonObject = False
) -> None:
    """Delete the circuit of CLIENT from the store, such as that of a slip in a name.

    A client that is still used gets a new circuit, closed. The history keeps
    its rows.
    """
    from resilience import admin  # noqa: PLC0415 - SQLAlchemy, which a completion does not need

    with _exit_on_error():
        result = asyncio.run(admin.forget_circuit(client, actor=actor or _current_user(), reason=reason))
    if as_json:
        print_json(_as_object(result))
    else:
        print_line(f"{client}: {'forgotten' if result.changed else 'not in the store'}")
        print_line(_obedience(result))


def _refuse_time(seconds: float | None) -> None:
    """Refuse `--for` where an order has no end, with the reason: Click would suggest another option."""
    if seconds is not None:
        msg = "a circuit that is closed or reset stays so until its own rules open it: leave --for out"
        raise typer.BadParameter(msg)


def _apply(
    client: str,
    operation: Operation,
    reason: str,
    actor: str | None,
    seconds: float | None = None,
    *,
    new: bool,
    create: bool,
    as_json: bool,
) -> None:
    from resilience import admin  # noqa: PLC0415 - SQLAlchemy, which a completion does not need

    with _exit_on_error():
        result = asyncio.run(
            admin.apply_order(
                client,
                operation,
                actor=actor or _current_user(),
                reason=reason,
                seconds=seconds,
                new=new,
                create=create,
            )
        )
    if as_json:
        print_json(_as_object(result))
    else:
        print_line(_summary(result))
        print_line(_obedience(result))
    # Messages follow the result, so that a script reads the result alone.
    if result.unrecorded:
        note(f"{result.unrecorded}: the order stands, but it will not be restored if the store loses it")


def _confirm_endless(client: str, effect: str) -> None:
    """Ask a person before an order that holds until another order. A script is not asked: it has no terminal."""
    if sys.stdin.isatty() and sys.stdout.isatty():
        typer.confirm(
            f"{escape(client)}: {effect} until another order is given (--for sets an end)?",
            abort=True,
            err=True,
        )


@contextmanager
def _exit_on_error() -> Iterator[None]:
    """Do as `exit_on_setup_error`, and turn a store that cannot be used into one line and its own exit code."""
    try:
        with exit_on_setup_error():
            yield
    except StoreError as exc:
        note(f"{exc}; nothing was changed")
        raise typer.Exit(STORE_UNAVAILABLE) from None


def _as_object(result: OrderResult) -> dict[str, Any]:
    """Return the circuit after an order, flat as in `list --json`, with what became of the order."""
    circuit = dataclasses.asdict(result.circuit)
    return {
        **circuit,
        "changed": result.changed,
        "recorded": not result.unrecorded,
        "store": result.store,
        "namespace": result.namespace,
        "processes": result.processes,
    }


def _obedience(result: OrderResult) -> str:
    """Return one line that says where the order is, and which processes it reaches."""
    place = f"in namespace {result.namespace!r} at {result.store}"
    if result.processes is None:
        return f"{place}; the history does not say which processes run"
    if not result.processes:
        return f"{place}; no process runs at present, later ones obey"
    return f"{place}; {result.processes} process{'es' if result.processes > 1 else ''} will obey"


def _summary(result: OrderResult) -> str:
    """Return one line such as `Primary: forced_open until 12:30:00Z, by ann, unpaid bill`."""
    circuit = result.circuit
    parts = [f"{circuit.client}: {_state(circuit)}{'' if result.changed else ' as before'}"]
    if circuit.actor:
        parts.append(f"by {circuit.actor}")
    if circuit.reason:
        parts.append(circuit.reason)
    return ", ".join(parts)


def _state(circuit: Circuit) -> str:
    from resilience.cli.circuit_list import clock  # noqa: PLC0415 - as above

    if circuit.indefinite:
        return f"{circuit.state} until another order"
    return f"{circuit.state} until {clock(circuit.until)}" if circuit.until else f"{circuit.state}"
