"""The list of circuits as people read it: one line for each, cut at the width of the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

from resilience.admin import CircuitsReport
from resilience.breaker import CircuitState
from resilience.cli.output import Styled, note, print_fitted, print_line
from resilience.ops.circuits import Circuit
from resilience.ops.fleet import ClientOutage, by_client
from resilience.ops.verdict import why

_COLOURS: Final = {CircuitState.CLOSED: "green", CircuitState.HALF_OPEN: "yellow"}
_COLUMNS: Final = (
    "client",
    "state",
    "since",
    "until",
    "reason",
    "by",
    "cool-down until",
    "opened",
    "failed",
    "retries left",
)
# What goes first where the terminal is narrow. State, until and reason stay; a long reason is cut.
_KEEP: Final = (0, 9, 6, 8, 0, 5, 7, 3, 4, 2)


def print_circuits(report: CircuitsReport) -> None:
    """Print the circuits; without any, where they were looked for."""
    if report.circuits:
        print_fitted(_COLUMNS, [_row(report, circuit) for circuit in report.circuits], _KEEP, names=(0,))
    elif not report.store_error:
        print_line(f"no circuit has been used yet in namespace {report.namespace!r} at {report.store}")
        if report.other_namespaces:
            note(
                f"the store has circuits in other namespaces: {', '.join(report.other_namespaces)}; see --namespace"
            )


def _row(report: CircuitsReport, circuit: Circuit) -> tuple[object, ...]:
    state = f"{circuit.state} (forgotten by the store)" if circuit.from_history else f"{circuit.state}"
    outages = by_client(report.outages).get(circuit.client, [])
    closed = circuit.state is CircuitState.CLOSED
    return (
        circuit.client,
        Styled(state, _COLOURS.get(circuit.state, "red")),
        clock(circuit.since),
        "another order" if circuit.indefinite else clock(circuit.until),
        _reason(circuit, outages),
        circuit.actor,
        f"{clock(circuit.cooldown_until)} {circuit.cooldown_reason}" if circuit.cooldown_until else "",
        f"{len(outages)}x in 24 h" if outages else "",
        # The window is cleared when a circuit opens: "0 of 0" would look like a circuit without failures.
        f"{circuit.failures} of {circuit.calls}" if circuit.calls or closed else "",
        None if circuit.retry_tokens is None else int(circuit.retry_tokens),
    )


def _reason(circuit: Circuit, outages: Sequence[ClientOutage]) -> str:
    # Why a circuit opened says nothing about a closed one. An operator's reason for closing it does.
    if circuit.actor or circuit.state is CircuitState.CLOSED:
        return circuit.reason if circuit.actor else ""
    return why(circuit, next((outage for outage in outages if outage.ended_at is None), None))


def clock(at: datetime | None) -> str:
    """Return the time of day, with its date unless it is today. In UTC, as in the history."""
    if at is None:
        return ""
    today = at.date() == datetime.now(UTC).date()
    return at.strftime("%H:%M:%SZ" if today else "%Y-%m-%d %H:%M:%SZ")
