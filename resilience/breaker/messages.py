"""The values that a process and the shared circuits exchange: requests, replies, transitions, orders."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from resilience.breaker.policy import BreakerPolicy
from resilience.breaker.state import CircuitState


class Outcome(StrEnum):
    """What the result of an attempt means for its client's circuit."""

    SUCCESS = "success"
    FAILURE = "failure"
    SLOW_SUCCESS = "slow_success"
    SLOW_FAILURE = "slow_failure"
    REJECTED = "rejected"
    """The provider refused the request itself, as a 4xx does. The window counts nothing, and a probe returns its lease. Only the
    row of refused requests grows, which shows a client that refuses every request: see `rejections.py`."""
    IGNORED = "ignored"
    """Nothing: the attempt was cancelled, or it failed in a way that says nothing about the client. A probe returns its lease."""


# step.lua has these two sets too, as letters: `_LETTERS` in stores/redis_protocol.py has the letter of each outcome.
FAILURES: Final = frozenset({Outcome.FAILURE, Outcome.SLOW_FAILURE})
SLOW: Final = frozenset({Outcome.SLOW_SUCCESS, Outcome.SLOW_FAILURE})


# `apply_order` in step.lua compares these values. All but the last are also commands of `resilience circuit`.
class Operation(StrEnum):
    """What an operator may order, and what a process asks for after the store has lost its memory."""

    OPEN = "open"
    """Refuse every call until the order ends or another one is given."""
    DISABLE = "disable"
    """Admit every call and count nothing until the order ends or another one is given."""
    CLOSE = "close"
    """Admit calls again now: ends an opening, an override and a cool-down."""
    RESET = "reset"
    """Like CLOSE; also forget how often the circuit opened and cooled down before."""
    RESTORE = "restore"
    """Restore what a process saw; obeyed only by a circuit whose own epoch is older."""


# The values are also in step.lua, in the transition logs of the stores and in the
# history. A value that is renamed could not be read from what is written already.
class TransitionRule(StrEnum):
    """What caused a transition."""

    CONSECUTIVE = "consecutive_failures"
    FAILURE_RATE = "failure_rate"
    SLOW_RATE = "slow_call_rate"
    LAPSED = "lapsed"
    """The time of an opening or an override was over."""
    PROBE = "probe"
    """A probe failed, or enough probes succeeded."""
    OPERATOR = "operator"
    RESTORED = "restored"
    COOL_DOWN = "cool_down"
    """No transition: a cool-down began or became longer. A process reports that to its listeners; no store logs it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cooldown:
    """A time during which a client must not be asked, whatever the state of its circuit.

    Attributes:
        seconds: its length. It grows with each cool-down for the same reason until a success: see `cooldowns.py`.
        max_seconds: its maximum length, in seconds.
        doubling: the length is our guess and doubles each time. One that the provider stated grows by `BreakerPolicy.open_growth`.
        reason: the failure category behind it.
    """

    seconds: float
    max_seconds: float
    doubling: bool = False
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Batch:
    """Results of permits of one epoch, in order; equal neighbours are counted together.

    Attributes:
        epoch: the epoch of the permits.
        runs: outcomes, each with how often it came in a row.
        token: the lease of the probe; empty for ordinary permits.
        reason: the failure category of the latest failure.
    """

    epoch: int
    runs: tuple[tuple[Outcome, int], ...]
    token: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """An operator's order, or a process's request to restore a circuit.

    Attributes:
        operation: what to do.
        actor: the operator.
        reason: why.
        seconds: how long `OPEN`, `DISABLE` and `RESTORE` last; None: without end.
        state: what `RESTORE` restores.
        epoch: the epoch in which that was seen.
        born_at: the birth of the circuit in which that was seen; 0 if it is not known.
        corrects: whether a process repeats an order that the history has, because the store has lost it.
    """

    operation: Operation
    actor: str
    reason: str = ""
    seconds: float | None = None
    state: CircuitState = CircuitState.OPEN
    epoch: int = 0
    born_at: int = 0
    corrects: bool = False

    @property
    def is_new(self) -> bool:
        """Whether it is an operator's, and not what a process puts back. A store may demand the rights of an operator for it."""
        return self.operation is not Operation.RESTORE and not self.corrects


@dataclass(frozen=True, slots=True, kw_only=True)
class StepRequest:
    """One step with one circuit: results, cool-downs, an order, requests for a probe or for attempts. Each part may be absent.

    Attributes:
        client: the client whose circuit it is.
        policy: the thresholds. None only reads the circuit, and writes nothing unless there is an order.
        batches: results.
        cooldowns: cool-downs, each with the epoch of the permit whose attempt asked for it.
        token: asks for a probe lease under this name; asking twice with one name grants one lease.
        wanted: attempts that wait for the ramp of a closed circuit.
        order: an operator's order.
        rejected_functions: different functions among the refused requests of this process since the last success.
        rejected_requests: different requests among them.
        attempts: attempts that ended since the last request, whatever their outcome and epoch.
        retries: retries that were decided since the last request.
        jitter_sample: a random number from 0 to 1 that places the length of an opening within its jitter.
    """

    client: str
    policy: BreakerPolicy | None = None
    batches: tuple[Batch, ...] = ()
    cooldowns: tuple[tuple[int, Cooldown], ...] = ()
    token: str = ""
    wanted: int = 0
    order: Order | None = None
    rejected_functions: int = 0
    rejected_requests: int = 0
    attempts: int = 0
    retries: int = 0
    jitter_sample: float = 0.5

    @property
    def has_updates(self) -> bool:
        """Whether it carries anything besides the question how the circuit stands."""
        # A new part must be listed here. The SQLite store tries a request without updates as
        # a read first, and the Redis store registers a client's name only with an update.
        asks = self.token or self.wanted
        return bool(self.batches or self.cooldowns or asks or self.order or self.attempts or self.retries)

    @property
    def read_only(self) -> bool:
        """Whether the store must leave the circuit unchanged."""
        return self.policy is None and self.order is None


@dataclass(frozen=True, slots=True, kw_only=True)
class Transition:
    """A change of a circuit's state, or the start of a cool-down, which changes none. `(client, epoch)` identifies it.

    Attributes:
        client: the client whose circuit it is.
        epoch: the epoch that began; for a cool-down minus its end, in milliseconds of the store's clock.
        at_ms: the store's time, in milliseconds since 1970.
        from_state: the state before.
        to_state: the state after.
        rule: what caused it.
        reason: the failure category, or the operator's reason.
        actor: the operator; empty if the circuit moved by itself.
        calls: calls in the window at this time.
        failures: failed calls among them.
        wait_ms: milliseconds until the new state may end by itself; -1 without end, 0 if time does not end it.
        cursor: its place in the store's transition log; pass it to `Store.transitions` to read on from here.
        shared: False if the store was away and only this process's own circuit moved.
    """

    # The fields from epoch to wait_ms are also in redis_protocol.py, in step.lua (TRANSITION_FIELDS) and
    # in the table of stores/sqlite.py. circuit_events.py converts them to the record of the history.
    client: str
    epoch: int
    at_ms: int
    from_state: CircuitState
    to_state: CircuitState
    rule: TransitionRule
    reason: str = ""
    actor: str = ""
    calls: int = 0
    failures: int = 0
    wait_ms: int = 0
    cursor: str = ""
    shared: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochChange:
    """A reply showed a circuit in another epoch than this process saw last, or for the first time.

    Attributes:
        client: the client whose circuit it is.
        epoch: its epoch; 0 if the store remembers no transition.
        now_ms: the store's time of the reply, in milliseconds.
        at: when the reply came, in seconds of this process's monotonic clock.
        known_epoch: the epoch that this process knew before; 0 if none.
        order: what this process is about to restore, by its own view.
    """

    client: str
    epoch: int
    now_ms: int
    at: float
    known_epoch: int = 0
    order: Order | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StepReply:
    """The circuit after a step. Durations are milliseconds from the reply on, since the clocks of two hosts are never compared.

    Attributes:
        state: the state.
        epoch: its epoch.
        now_ms: the store's time; added to a duration it names an instant, which may only be compared for equality.
        wait_ms: until the state may change by itself; -1 without end, 0 if time does not change it.
        cooldown_ms: until the cool-down ends; 0 without one.
        granted: whether the requested probe lease was granted.
        admitted: how many of the wanted attempts the ramp admits now.
        ramp_ms: until the next step of the ramp; -1 if the ramp begins with the next admitted attempt, 0 without a ramp.
        successes: calls in the window that succeeded.
        failures: calls in the window that failed.
        slow: calls in the window that were slow.
        streak: failures in a row up to now.
        rejected: requests in a row that the provider refused as wrong.
        rejected_functions: the most different functions that one process has seen among them.
        rejected_requests: the most different requests that one process has seen among them.
        reason: the failure category, or the operator's reason, behind the state.
        cooldown_reason: the failure category behind the cool-down.
        actor: the operator behind the state, if any.
        born_at: when the circuit made its first transition, in milliseconds of the store's clock; 0 before.
        late: how many results came too late to count.
        budget_used: what is missing from the bucket of the retry budget, in units of `retry_budget.UNITS_PER_RETRY`.
        refused: why the order was not carried out, for the operator; empty if it was, or if there was none.
        damaged: whether the circuit had a time that no policy and no clock explains: it is damaged or planted.
        transitions: the transitions of this step.
    """

    # Redis replies with a list: `decode_reply` in stores/redis_protocol.py and the end of step.lua have its order.
    state: CircuitState
    epoch: int
    now_ms: int
    wait_ms: int = 0
    cooldown_ms: int = 0
    granted: bool = False
    admitted: int = 0
    ramp_ms: int = 0
    successes: int = 0
    failures: int = 0
    slow: int = 0
    streak: int = 0
    rejected: int = 0
    rejected_functions: int = 0
    rejected_requests: int = 0
    reason: str = ""
    cooldown_reason: str = ""
    actor: str = ""
    born_at: int = 0
    late: int = 0
    budget_used: int = 0
    refused: str = ""
    damaged: bool = False
    transitions: tuple[Transition, ...] = ()
