"""Metric families of the circuits: their state, their failure rate and what is left of their retry budgets."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence

from resilience.breaker import BreakerPolicy, CircuitState, CircuitView, Store
from resilience.breaker.messages import StepReply, StepRequest
from resilience.prometheus.families import Family, Sample
from resilience.telemetry import labels, names


def circuit_families(store: Store, policy: BreakerPolicy) -> list[Family]:
    """Read every circuit in *store* without changing it.

    Args:
        store: where the fleet's circuits are.
        policy: thresholds the views are computed with.
    """
    views = list(_views(store, policy))
    return [
        Family(names.BREAKER_STATE, tuple(_states(views))),
        Family(names.BREAKER_FAILURE_RATE, tuple(_failure_rates(views))),
        Family(names.RETRY_TOKENS, tuple(_retry_tokens(views))),
    ]


def _views(store: Store, policy: BreakerPolicy) -> Iterator[CircuitView]:
    clients: Sequence[str] = store.names()
    # A request that reports and asks for nothing only reads.
    replies = store.step([StepRequest(client=client) for client in clients]) if clients else []
    for client, reply in zip(clients, replies, strict=True):
        if isinstance(reply, StepReply):
            # The families use no time of a view, so it needs no clock. A circuit that cannot be read is left out.
            yield CircuitView.from_reply(client, reply, policy=policy, asked=0.0, now=0.0, shared=True)


def _states(views: Iterable[CircuitView]) -> Iterator[Sample]:
    for view in views:
        # One series for each state, as OpenMetrics does with a state set: a query can then select one state.
        for state in CircuitState:
            yield Sample({"client": view.client, "state": state.value}, int(view.state is state))


def _failure_rates(views: Iterable[CircuitView]) -> Iterator[Sample]:
    for view in views:
        rate = labels.failure_rate(view.successes, view.failures)
        if rate is not None:
            yield Sample({"client": view.client}, rate)


def _retry_tokens(views: Iterable[CircuitView]) -> Iterator[Sample]:
    for view in views:
        # Infinite where the policy sets no budget; that is no measurement.
        if math.isfinite(view.retry_tokens):
            yield Sample({"client": view.client}, view.retry_tokens)
