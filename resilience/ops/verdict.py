"""How the fleet is, as one word and as sentences. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from resilience.breaker import CircuitState
from resilience.ops.circuits import Circuit
from resilience.ops.fleet import ClientOutage, Fleet
from resilience.ops.phrases import age, clock, count, latency, ordinal, share
from resilience.ops.window import CallTotals, Window


class FleetVerdict(StrEnum):
    """How a fleet is. Calls that failed do not change it: they are in the sentences.

    Members:
        WELL: every circuit admits calls, and the store and the history can be used.
        TROUBLED: a circuit is open or its client cools down, or the store or the history is away.
        UNREADABLE: neither the store nor the history could be read, or neither exists: nothing is known.
    """

    WELL = "well"
    TROUBLED = "troubled"
    UNREADABLE = "unreadable"


@dataclass(frozen=True, slots=True)
class HeadlineSentence:
    """One sentence of the headline.

    Attributes:
        text: the sentence.
        tone: `bad`, `good` or `plain`, for its colour.
    """

    text: str
    tone: str = "plain"


OWN_REGISTRY: Final = "client_registry"
"""The name in the history of the client of a call that brings a registry of its own; that of `baml/routing.py`."""
_OWN_REGISTRY: Final = "A call with a client_registry of its own has no circuit. With the option `client` in its place it has that of the client it names."
_CLOSING: Final = frozenset({CircuitState.CLOSED, CircuitState.DISABLED})


def verdict(fleet: Fleet) -> FleetVerdict:
    """Return how the fleet is.

    A probe acts on it, so it depends only on what lasts: circuits, and whether store and history can be used. A single call
    that failed because of its own request must not restart a pod.

    Args:
        fleet: the snapshot.
    """
    no_store = bool(fleet.store_error) or fleet.store_missing
    if no_store and (fleet.history_error or fleet.history_missing):
        return FleetVerdict.UNREADABLE
    away = fleet.store_error or fleet.history_error or fleet.degraded_processes
    refusing = any(is_refusing(circuit) for circuit in fleet.circuits)
    return FleetVerdict.TROUBLED if away or refusing else FleetVerdict.WELL


def is_refusing(circuit: Circuit) -> bool:
    """Return whether calls to the client are refused now, all or most of them."""
    return circuit.state not in _CLOSING or circuit.cooldown_until is not None


def sentences(fleet: Fleet) -> list[HeadlineSentence]:
    """Return what is wrong and since when, and whether callers notice.

    The order is that of the questions in an incident: can these numbers be trusted, which client is down, do callers get their
    answers, and does anything run at all.

    Args:
        fleet: the snapshot.
    """
    return [*_sources(fleet), *_circuits(fleet), *_callers(fleet), *_processes(fleet)]


def _sources(fleet: Fleet) -> Iterator[HeadlineSentence]:
    if fleet.store_error:
        yield HeadlineSentence(
            f"The store of circuits at {fleet.store} is away: {fleet.store_error}. Agents use their local circuits; what "
            "follows is from the history.",
            "bad",
        )
    elif fleet.degraded_processes:
        yield HeadlineSentence(
            f"{fleet.degraded_processes} of {count(len(fleet.processes), 'process', 'processes')} cannot reach the store and "
            "use their local circuits.",
            "bad",
        )
    if fleet.history_error:
        yield HeadlineSentence(f"The history cannot be read: {fleet.history_error}.", "bad")
    elif fleet.history_missing:
        place = f"There is no history at {fleet.history}" if fleet.history else "No history is kept"
        yield HeadlineSentence(
            f"{place}: nothing is known about calls.", "bad" if fleet.store_missing else "plain"
        )


# --- circuits -----------------------------------------------------------------------------------------------------------


def _circuits(fleet: Fleet) -> Iterator[HeadlineSentence]:
    if not fleet.circuits:
        if not fleet.store_error:  # it has a sentence of its own
            yield _no_circuits(fleet)
        return
    refusing = [circuit for circuit in fleet.circuits if is_refusing(circuit)]
    for circuit in refusing:
        yield HeadlineSentence(_refusing(fleet, circuit), "bad")
    for circuit in fleet.circuits:
        if circuit.state is CircuitState.DISABLED:
            by = f" by {circuit.actor}" if circuit.actor else ""
            yield HeadlineSentence(
                f"The circuit of {circuit.client} is disabled{by}: failures are not counted."
            )
    if not refusing:
        yield HeadlineSentence(f"{_all_closed(fleet)} {_earlier(fleet)}".rstrip(), "good")


def _no_circuits(fleet: Fleet) -> HeadlineSentence:
    if fleet.store.startswith("memory:"):
        return HeadlineSentence(
            "Circuits at memory:// belong to each process alone and cannot be shown: set RESILIENCE_STORE_URL."
        )
    registry = f" {_OWN_REGISTRY}" if OWN_REGISTRY in fleet.clients else ""
    if fleet.store_missing:
        return _no_store(fleet, registry)
    text = f"No circuit has been used yet in namespace {fleet.namespace!r} at {fleet.store}."
    if fleet.other_namespaces:
        text += f" The store has other namespaces: {', '.join(fleet.other_namespaces)}; see --namespace."
    return HeadlineSentence(text + registry)


def _no_store(fleet: Fleet, registry: str) -> HeadlineSentence:
    if set(fleet.clients) == {OWN_REGISTRY}:
        return HeadlineSentence(f"No circuit has been used yet at {fleet.store}.{registry}")
    missing = f"There is no store of circuits at {fleet.store}"
    if not fleet.clients:
        return HeadlineSentence(f"{missing}: no agent has run with these settings.", "bad")
    return HeadlineSentence(
        f"{missing}, although the history has calls: the agents use another store, or it was removed.{registry}",
        "bad",
    )


def _all_closed(fleet: Fleet) -> str:
    number = len(fleet.circuits)
    if number == 1:
        return f"The circuit of {fleet.circuits[0].client} is closed."
    return "Both circuits are closed." if number == 2 else f"All {number} circuits are closed."  # noqa: PLR2004 - "both" is two


def _refusing(fleet: Fleet, circuit: Circuit) -> str:
    if circuit.state is CircuitState.FORCED_OPEN:
        until = "another order" if circuit.until is None else clock(circuit.until, fleet.at)
        why = f": {circuit.reason}" if circuit.reason else ""
        return f"{circuit.client} is held OPEN by {circuit.actor or 'an operator'} until {until}{why}."
    if circuit.state in _CLOSING:
        assert circuit.cooldown_until is not None  # noqa: S101 - is_refusing
        left = age((circuit.cooldown_until - fleet.at).total_seconds())
        return f"{circuit.client} is not asked for another {left}: it cools down after {circuit.cooldown_reason}."
    return " ".join((_open(fleet, circuit), _next(fleet, circuit), _openings(fleet, circuit.client)))


def _open(fleet: Fleet, circuit: Circuit) -> str:
    running = next((o for o in fleet.outages if o.client == circuit.client and o.ended_at is None), None)
    since = running.started_at if running else circuit.since
    when = f" since {clock(since, fleet.at)} ({age((fleet.at - since).total_seconds())})" if since else ""
    state = "OPEN" if circuit.state is CircuitState.OPEN else "half open"
    return f"{circuit.client} is {state}{when}: {why(circuit, running)}."


def why(circuit: Circuit, outage: ClientOutage | None) -> str:
    """Return why a circuit is not closed: the category, and the rule with its number of failures.

    Args:
        circuit: the circuit. Its window was cleared when it opened, so it does not know the number itself.
        outage: its present outage, which does; None if the history has none.
    """
    reason = circuit.reason or (outage.reason if outage else "") or "unknown"
    if outage is None or not outage.failures:
        return reason
    if outage.opened_by == "consecutive_failures":
        return f"{outage.failures} failures in a row, {reason}"
    return f"{reason} ({outage.opened_by.replace('_', ' ')}, {count(outage.failures, 'failure')})"


def _next(fleet: Fleet, circuit: Circuit) -> str:
    if circuit.state is CircuitState.HALF_OPEN:
        return "A few calls try it now."
    if circuit.until is None:
        return "The next call tries it."
    return f"Next try in {age((circuit.until - fleet.at).total_seconds())}."


def _openings(fleet: Fleet, client: str) -> str:
    number = sum(outage.client == client for outage in fleet.outages)
    return f"{ordinal(number)} opening within 24 h." if number > 1 else ""


def _earlier(fleet: Fleet) -> str:
    """Return the outages of the last 24 hours, where all circuits are closed again.

    At most three clients are named, those with the most outages first. The table below has them all.
    """
    parts = []
    for client, number in Counter(outage.client for outage in fleet.outages).most_common(3):
        last = next(outage for outage in fleet.outages if outage.client == client)
        end = clock(last.ended_at, fleet.at) if last.ended_at else "now"
        span = f"from {clock(last.started_at, fleet.at)} to {end} ({age(last.seconds(fleet.at))}: {last.reason or last.opened_by})"
        times = "" if number == 1 else f" {number} times within 24 h, last"
        parts.append(f"{client} was open{times} {span}.")
    return " ".join(parts)


# --- callers ------------------------------------------------------------------------------------------------------------


def _callers(fleet: Fleet) -> Iterator[HeadlineSentence]:
    # Two windows, because the last minute does not show an outage of an hour ago. Where both have the same calls, as right
    # after an outage, one sentence is enough.
    window, episode = fleet.window, fleet.episode
    if window is None or fleet.last_call_at is None:
        if not fleet.history_error and not fleet.history_missing:
            yield HeadlineSentence("No call has been recorded yet.")
        return
    if episode is not None and episode.totals.calls and episode.totals != window.totals:
        yield _answered(episode, f"since {clock(episode.since, fleet.at)}, when the outages began,")
    last = age((window.until - window.since).total_seconds())
    if window.totals.calls:
        yield _answered(window, f"of the last {last}")
    else:
        ago = age((fleet.at - fleet.last_call_at).total_seconds())
        yield HeadlineSentence(f"No call ended within the last {last}; the newest started {ago} ago.")


def _answered(window: Window, when: str) -> HeadlineSentence:
    totals = window.totals
    by = _by_others(window)
    if not totals.unanswered:
        text = f"Callers are fine: {totals.answered:,} of {count(totals.calls, 'call')} {when} answered{by}{_p95(totals)}."
        return HeadlineSentence(text, "good")
    kinds = Counter[str]()
    for group in window.failures:
        kinds[f"{group.category} at {group.client}"] += group.times
    mostly = f", mostly {kinds.most_common(1)[0][0]}" if kinds else ""
    return HeadlineSentence(
        f"Callers notice: {totals.unanswered:,} of {count(totals.calls, 'call')} {when} got no answer{mostly}{_p95(totals)}.",
        "bad",
    )


def _by_others(window: Window) -> str:
    """Return how many calls a backup answered: `, 61 % by Secondary`.

    Nothing where every call was answered at its first try: that is what callers expect.
    """
    if not window.totals.recovered or len(window.totals.answered_by) < 2:  # noqa: PLR2004 - one alone is no share
        return f", {window.totals.recovered:,} after a retry" if window.totals.recovered else ""
    parts = [
        f"{share(number, window.totals.answered)} by {client}" for client, number in window.totals.answered_by
    ]
    return f", {' and '.join(parts[:2])}"


def _p95(totals: CallTotals) -> str:
    return (
        f"; 95 % within {latency(totals.p95)}, 99 % within {latency(totals.p99)}"
        if totals.p95 is not None
        else ""
    )


def _processes(fleet: Fleet) -> Iterator[HeadlineSentence]:
    # Without a process the circuits stand still: an open one stays open until a call tries it.
    dropped = sum(process.dropped for process in fleet.processes)
    if dropped:
        yield HeadlineSentence(
            f"{count(dropped, 'record')} could not be written to the history: see resilience doctor.", "bad"
        )
    if not fleet.history_error and fleet.last_call_at is not None and not fleet.processes:
        yield HeadlineSentence("No process runs at present.")
