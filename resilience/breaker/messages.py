"""What is said between a process and the shared circuits: requests, replies and transitions, all plain values."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from resilience.breaker.policy import BreakerPolicy
from resilience.breaker.state import CircuitState


class Outcome(StrEnum):
    """What an attempt says about its client."""

    SUCCESS = "success"
    FAILURE = "failure"
    SLOW_SUCCESS = "slow_success"
    SLOW_FAILURE = "slow_failure"
    IGNORED = "ignored"
    """Nothing: it was cancelled, or the request itself was at fault. A probe gives its lease back."""


FAILURES: Final = frozenset({Outcome.FAILURE, Outcome.SLOW_FAILURE})
SLOW: Final = frozenset({Outcome.SLOW_SUCCESS, Outcome.SLOW_FAILURE})


class Operation(StrEnum):
    """What an operator may order, and what a process restores after the store lost its memory."""

    OPEN = "open"
    """Refuse every call until the order ends or another is given."""
    DISABLE = "disable"
    """Admit every call and count nothing until the order ends or another is given."""
    CLOSE = "close"
    """Admit calls again, now: ends an opening, an override and a cool-down."""
    RESET = "reset"
    """As CLOSE, and forget how often the circuit opened or cooled before."""
    RESTORE = "restore"
    """Put back what somebody saw; obeyed only by a circuit whose own memory is older, or none."""


class TransitionRule(StrEnum):
    """What made a circuit move."""

    CONSECUTIVE = "consecutive_failures"
    FAILURE_RATE = "failure_rate"
    SLOW_RATE = "slow_call_rate"
    LAPSED = "lapsed"
    """The time of an opening or an override was over."""
    PROBE = "probe"
    """A probe failed, or enough of them succeeded."""
    OPERATOR = "operator"
    RESTORED = "restored"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cooldown:
    """A while in which a client must be left alone, whatever its circuit's state.

    Attributes:
        seconds: how long; the first length when growing.
        cap: no longer than this, in seconds.
        growing: nobody stated the length: double it each time until a success, up to the cap.
        reason: the failure category behind it.
    """

    seconds: float
    cap: float
    growing: bool = False
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Batch:
    """Results of permits of one epoch, in order, with equal neighbours counted together.

    `token` is the probe's lease, empty for ordinary permits; `reason` the failure category of the latest failure.
    """

    epoch: int
    runs: tuple[tuple[Outcome, int], ...]
    token: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """An operator's order. `seconds` None means without end; `state` is what RESTORE puts back, and `epoch` when it was seen."""

    operation: Operation
    actor: str
    reason: str = ""
    seconds: float | None = None
    state: CircuitState = CircuitState.OPEN
    epoch: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class StepRequest:
    """One turn with one circuit: tell results, cool down, order, ask for a lease; any part may be absent.

    Attributes:
        client: whose circuit.
        policy: the thresholds to judge by; None only looks, and writes nothing unless there is an order.
        batches: results.
        cooldowns: cool-downs with the epoch of the permit that met them.
        token: ask for a probe lease under this name; asking twice with one name grants one lease.
        order: an operator's order.
        tries: attempts that have ended since the last telling, whatever came of them and in whatever epoch.
        retries: retries that were decided since the last telling.
        draw: a random number from 0 to 1 that places an opening's length within its jitter.
    """

    client: str
    policy: BreakerPolicy | None = None
    batches: tuple[Batch, ...] = ()
    cooldowns: tuple[tuple[int, Cooldown], ...] = ()
    token: str = ""
    order: Order | None = None
    tries: int = 0
    retries: int = 0
    draw: float = 0.5

    @property
    def tells(self) -> bool:
        """Does it carry anything, or does it only ask how things stand?"""
        return bool(self.batches or self.cooldowns or self.token or self.order or self.tries or self.retries)

    @property
    def looks(self) -> bool:
        """Must the store leave everything as it is?"""
        return self.policy is None and self.order is None


@dataclass(frozen=True, slots=True, kw_only=True)
class Transition:
    """A circuit moved. `(client, epoch)` names it for ever.

    Attributes:
        client: whose circuit.
        epoch: the epoch that began.
        at_ms: the store's time, in milliseconds since 1970.
        from_state: where it stood.
        to_state: where it stands.
        rule: what made it move.
        reason: the failure category, or the operator's reason.
        actor: the operator; empty when the circuit moved by itself.
        calls: calls in the window when it moved.
        failures: failed calls among them.
        wait_ms: how long the new state lasts by itself; -1 without end, 0 where time does not end it.
        cursor: where the store's transition log has it; pass it to `Store.transitions` to go on from here.
        shared: False when the store was away and only this process's own circuit moved.
    """

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
    """A reply showed a circuit in another epoch than this process had last seen it in, or for the first time.

    Attributes:
        client: whose circuit.
        epoch: its epoch; 0 when the store has no memory of a transition.
        now_ms: the store's time of the reply.
        at: when the reply came, by this process's monotonic clock.
        known: the epoch this process knew before; 0 when none.
        order: what this process is about to put back, by its own view.
    """

    client: str
    epoch: int
    now_ms: int
    at: float
    known: int = 0
    order: Order | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StepReply:
    """How the circuit stands after the step. Durations are milliseconds from the reply on: clocks are never compared.

    Attributes:
        state: where the circuit stands.
        epoch: its epoch.
        now_ms: the store's time; with a duration it names an instant, for equality only.
        wait_ms: until the state may change by itself; -1 without end, 0 where time does not change it.
        blocked_ms: what is left of the cool-down.
        permit: was the lease granted?
        successes: calls in the window that succeeded.
        failures: calls in the window that failed.
        slow: calls in the window that were slow.
        streak: failures in a row, up to now.
        reason: what is behind the state.
        blocked_by: what is behind the cool-down.
        actor: the operator behind the state, if any.
        late: how many results came too late to count.
        owed: what is missing from the bucket of the retry budget, in the units of `budget.RETRY`.
        transitions: the moves this step made.
    """

    state: CircuitState
    epoch: int
    now_ms: int
    wait_ms: int = 0
    blocked_ms: int = 0
    permit: bool = False
    successes: int = 0
    failures: int = 0
    slow: int = 0
    streak: int = 0
    reason: str = ""
    blocked_by: str = ""
    actor: str = ""
    late: int = 0
    owed: int = 0
    transitions: tuple[Transition, ...] = ()
