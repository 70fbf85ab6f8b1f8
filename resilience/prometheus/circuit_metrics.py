"""Metric families of the fleet snapshot: circuits, what is left of their retry budgets, and the processes. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from typing import Final

from resilience import damage_counts
from resilience.breaker import CircuitState
from resilience.ops.circuits import Circuit
from resilience.ops.fleet import Fleet, Process
from resilience.prometheus.families import Family, Sample
from resilience.telemetry import labels, names

_INSTANCE = "service_instance_id"
_NEWBORN: Final = timedelta(minutes=1)


def circuit_families(fleet: Fleet, clients: Iterable[str]) -> list[Family]:
    """Return the metrics of the circuits.

    Args:
        fleet: the snapshot.
        clients: known clients. One without a circuit is closed: an alert on a state needs its series before the state.
    """
    circuits = {circuit.client: circuit for circuit in fleet.circuits}
    return [
        Family(names.BREAKER_STATE, tuple(_states(sorted({*circuits, *clients}), circuits))),
        Family(names.BREAKER_FAILURE_RATE, tuple(_failure_rates(fleet.circuits))),
        Family(names.BREAKER_COOLDOWN, tuple(_cooldowns(fleet))),
        Family(names.RETRY_TOKENS, tuple(_retry_tokens(fleet.circuits))),
    ]


def process_families(processes: Sequence[Process], now: datetime) -> list[Family]:
    """Return the metrics of the processes, one series for each; of damage one for each kind.

    The counters of a new process are 0 at first: its first scrape must be the zero that the next one is an increase of.
    """
    values = (
        (names.QUEUE_DEPTH, [process.queue_depth for process in processes]),
        (names.DROPPED, [0 if _is_new(process, now) else process.dropped for process in processes]),
        (names.DEGRADED, [int(process.degraded) for process in processes]),
    )
    return [
        Family(
            metric,
            tuple(
                Sample({_INSTANCE: process.instance_id}, number)
                for process, number in zip(processes, numbers, strict=True)
            ),
        )
        for metric, numbers in values
    ] + [Family(names.DAMAGED, tuple(_damage(processes, now)))]


def _is_new(process: Process, now: datetime) -> bool:
    return now - process.started_at < _NEWBORN


def _damage(processes: Iterable[Process], now: datetime) -> Iterator[Sample]:
    for process in processes:
        # A process looks at the store before its first call.
        known = {} if _is_new(process, now) else process.damage
        for kind in damage_counts.KINDS:
            yield Sample({_INSTANCE: process.instance_id, "kind": kind}, known.get(kind, 0))


def _states(clients: Iterable[str], circuits: dict[str, Circuit]) -> Iterator[Sample]:
    for client in clients:
        circuit = circuits.get(client)
        present = CircuitState.CLOSED if circuit is None else circuit.state
        # One series for each state, as OpenMetrics does with a state set: a query can then select one state.
        for state in CircuitState:
            yield Sample({"client": client, "state": state.value}, int(present is state))


def _failure_rates(circuits: Iterable[Circuit]) -> Iterator[Sample]:
    for circuit in circuits:
        rate = labels.failure_rate(circuit.calls - circuit.failures, circuit.failures)
        if rate is not None:
            yield Sample({"client": circuit.client}, rate)


def _cooldowns(fleet: Fleet) -> Iterator[Sample]:
    for circuit in fleet.circuits:
        until = circuit.cooldown_until
        left = 0.0 if until is None else max(0.0, (until - fleet.at).total_seconds())
        yield Sample({"client": circuit.client}, left)


def _retry_tokens(circuits: Iterable[Circuit]) -> Iterator[Sample]:
    for circuit in circuits:
        # None where the policy sets no budget; that is no measurement.
        if circuit.retry_tokens is not None:
            yield Sample({"client": circuit.client}, circuit.retry_tokens)
