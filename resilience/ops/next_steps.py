"""What to do about the fleet's trouble: advice, and commands to paste. Pure.

Repairs come first, the most general one at the top: while the store is away, what a circuit shows is not worth acting on. Then
come commands that only look. Each command works on the place that the snapshot was read from, so `status` puts its own options
in front of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from resilience.breaker import CircuitState
from resilience.ops.advice import advice
from resilience.ops.circuits import Circuit
from resilience.ops.fleet import Fleet
from resilience.ops.verdict import FleetVerdict, is_refusing, verdict


@dataclass(frozen=True, slots=True)
class NextStep:
    """One thing to do next.

    Attributes:
        text: what it is good for.
        command: words after `resilience`, to be pasted; empty where nothing is to be typed.
    """

    text: str
    command: tuple[str, ...] = ()


def next_steps(fleet: Fleet) -> list[NextStep]:
    """Return what to do now, the most urgent first.

    Args:
        fleet: the snapshot.

    Returns:
        At least one step; of a fleet without trouble and without failures, that there is nothing to do.
    """
    return [*_repairs(fleet), *_looks(fleet)] or [NextStep("nothing to do")]


def _repairs(fleet: Fleet) -> Iterator[NextStep]:
    if verdict(fleet) is FleetVerdict.UNREADABLE:
        yield NextStep(
            "go to the project's folder, or name it with --at FOLDER; check the settings", ("config", "show")
        )
        return
    if fleet.store_error or fleet.history_error or fleet.degraded_processes:
        yield NextStep("find out what is wrong with the store or the history", ("doctor",))
    for circuit in fleet.circuits:
        if circuit.state in {CircuitState.FORCED_OPEN, CircuitState.DISABLED}:
            yield NextStep("when the order is over", ("circuit", "close", circuit.client))
        elif is_refusing(circuit):
            yield from _for_refusing(circuit)


def _for_refusing(circuit: Circuit) -> Iterator[NextStep]:
    category = circuit.cooldown_reason if circuit.cooldown_until else circuit.reason
    if text := advice(category):
        yield NextStep(f"{circuit.client}: {text}")
    # These end by an operator's work, and not by themselves. The circuit would try again only after a long cool-down.
    if category in {"authentication", "permission", "quota_exhausted"}:
        yield NextStep("once that is done", ("circuit", "close", circuit.client))
    else:
        order = ("circuit", "open", circuit.client, "--for", "10m", "--reason", "outage")
        yield NextStep("if it comes and goes, hold it open", order)


def _looks(fleet: Fleet) -> Iterator[NextStep]:
    groups = [
        *(fleet.window.failures if fleet.window else ()),
        *(fleet.episode.failures if fleet.episode else ()),
    ]
    if not groups:
        return
    # The most frequent failure of the window; of the last outages where the window has none.
    first = groups[0]
    refusing = {circuit.client for circuit in fleet.circuits if is_refusing(circuit)}
    if fleet.window is not None and not fleet.window.totals.unanswered and not refusing:
        yield NextStep("nothing has to be done now. To see what happened")
    elif first.client not in refusing and (text := advice(first.category)):
        yield NextStep(f"{first.client} ({first.category}): {text}")
    yield NextStep("one call from begin to end", ("errors", "timeline", first.request_id[-8:]))
    yield NextStep(
        "every failure of this kind", ("errors", "--client", first.client, "--category", first.category)
    )
