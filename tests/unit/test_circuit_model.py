"""The circuit against an independent model, one result at a time, through crashes, late results, orders and clocks that jump.

The model below is written from the specification at the head of circuit.py alone, and in another way than the circuit. It keeps
single results instead of buckets of counts, and plain words instead of messages. Both make every step; replies, transitions and the
store's log must agree.
"""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, multiple, rule

from resilience.breaker import BreakerPolicy, Cooldown, Operation, Outcome, Store
from resilience.breaker.messages import Batch, Order, StepReply, StepRequest
from resilience.breaker.stores.memory import MemoryStore
from resilience.breaker.stores.sqlite import SQLiteStore
from resilience.clock import Clock

POLICIES = [
    BreakerPolicy(
        window=10,
        min_calls=4,
        consecutive_failures=3,
        open_for=5,
        open_max=12,
        probe_lease=4,
        open_jitter=0.1,
        retry_ratio=0.25,
        retry_floor=30,
    ),
    BreakerPolicy(
        window=10,
        min_calls=6,
        consecutive_failures=9,
        failure_rate=0.4,
        open_for=3,
        open_max=3,
        half_open_probes=2,
        retry_ratio=None,
    ),
    BreakerPolicy(
        window=10,
        min_calls=3,
        slow_call_duration=1,
        slow_call_rate=0.5,
        open_for=4,
        half_open_probes=3,
        successes_to_close=2,
        probe_lease=7,
    ),
]
COOLDOWNS = [
    Cooldown(seconds=2, max_seconds=300, reason="rate_limit"),
    Cooldown(seconds=900, max_seconds=6, reason="rate_limit"),
    Cooldown(seconds=1, max_seconds=5, doubling=True, reason="authentication"),
    Cooldown(seconds=3, max_seconds=9, doubling=True, reason="quota_exhausted"),
]
FAILED = (Outcome.FAILURE, Outcome.SLOW_FAILURE)
WAS_SLOW = (Outcome.SLOW_SUCCESS, Outcome.SLOW_FAILURE)


class Time:
    """A clock that tests set, also backwards."""

    now_ms = 1_700_000_000_000

    def time(self) -> float:
        return self.now_ms / 1000

    def monotonic(self) -> float:
        return self.now_ms / 1000

    async def sleep(self, seconds: float) -> None:
        self.sleep_blocking(seconds)

    def sleep_blocking(self, seconds: float) -> None:
        self.now_ms += round(1000 * seconds)


@dataclass
class Model:
    """The specification of circuit.py, written a second time in another way."""

    state: str = "closed"
    epoch: int = 0
    ends: int = 0
    blocked: int = 0
    cooldown_reason: str = ""
    guesses: int = 0
    opens: int = 0
    closed_at: int = 0
    passed: int = 0
    leases: dict[str, int] = field(default_factory=dict)
    results: list[tuple[int, Outcome]] = field(default_factory=list)
    why: str = ""
    who: str = ""
    written: int = 0
    missing: Fraction = Fraction(0)
    missing_at: int = 0
    first: int = 0
    steps: dict[int, int] = field(default_factory=dict)
    ramped: int = 0
    refused: list[tuple[int, int]] = field(default_factory=list)
    born: int = 0
    obeyed: int = -1

    def missing_now(self, now: int, policy: BreakerPolicy) -> Fraction:
        return max(Fraction(0), self.missing - Fraction(policy.retry_floor * (now - self.missing_at), 60_000))

    def spend(self, now: int, policy: BreakerPolicy, attempts: int, retries: int) -> None:
        """Change the retry budget: attempts pay in one by one, then retries take out. `missing` counts retries, as a fraction."""
        if policy.retry_ratio is None or not attempts + retries:
            return
        ratio = Fraction(str(policy.retry_ratio))
        missing = self.missing_now(now, policy)
        for _ in range(attempts):
            missing = max(Fraction(0), missing - ratio)
        for _ in range(retries):
            missing += 1 + ratio
        self.missing, self.missing_at = missing, now if missing else 0

    def window(self, now: int, policy: BreakerPolicy) -> list[Outcome]:
        return [outcome for start, outcome in self.results if start > now - 1000 * policy.window]

    def row(self, now: int, policy: BreakerPolicy) -> int:
        row = 0
        for outcome in reversed(self.window(now, policy)):
            if outcome not in FAILED:
                break
            row += 1
        return row

    def rule(self, now: int, policy: BreakerPolicy) -> str:
        window = self.window(now, policy)
        if self.row(now, policy) >= policy.consecutive_failures:
            return "consecutive_failures"
        if len(window) < policy.min_calls:
            return ""
        if sum(outcome in FAILED for outcome in window) / len(window) >= policy.failure_rate:
            return "failure_rate"
        slow = sum(outcome in WAS_SLOW for outcome in window)
        return (
            "slow_call_rate"
            if policy.slow_call_duration and slow / len(window) >= policy.slow_call_rate
            else ""
        )

    def go(self, state: str, now: int, why: str, who: str = "", ends: int = 0) -> tuple[str, str]:
        moved = (self.state, state)
        self.born = self.born if self.epoch else now
        self.state, self.epoch, self.ends = state, max(self.epoch + 1, now), ends
        self.leases, self.results, self.passed = {}, [], 0
        self.refused = []
        self.ramp(1 if self.blocked > now else 0)
        self.why, self.who = ("", "") if state == "closed" else (why, who)
        return moved

    def ramp(self, first: int) -> None:
        """Forget the ramp; the next one begins with its first attempt. `steps` has the attempts of each step."""
        self.first, self.ramped, self.steps = first, 0, {}

    def admit(self, now: int, wanted: int) -> int:
        if not wanted or not self.first or self.state != "closed" or self.blocked > now:
            return 0
        self.ramped = self.ramped or now
        step = (now - self.ramped) // 100
        size = self.first
        for _ in range(step):
            size *= 2
        left = max(0, size - self.steps.get(step, 0))
        self.steps = {step: self.steps.get(step, 0) + min(left, wanted)}
        return min(left, wanted)

    def next_step(self, now: int) -> int:
        if not self.first or (self.ramped and now >= self.ramped + 2000):
            return 0
        return 100 - (now - self.ramped) % 100 if self.ramped else -1

    def open(self, now: int, why: str, policy: BreakerPolicy, jitter_sample: float) -> tuple[str, str]:
        calm = self.state == "closed" and now - self.closed_at >= 1000 * policy.window
        opens = 1 if calm else self.opens + 1
        seconds = min(policy.open_max, policy.open_for * policy.open_growth ** (opens - 1))
        lasts = round(1000 * seconds * (1 - policy.open_jitter + 2 * policy.open_jitter * jitter_sample))
        moved = self.go("open", now, why, ends=now + lasts)
        self.opens = opens
        return moved

    def places(self, now: int, policy: BreakerPolicy) -> bool:
        live = sum(expiry > now for expiry in self.leases.values())
        return live < policy.half_open_probes and live + self.passed < max(
            policy.half_open_probes, policy.successes_to_close
        )


class Stepped(Model):
    """The model with its steps: each method is the counterpart of one part of a request."""

    def turn(self, now: int, policy: BreakerPolicy) -> list[tuple[str, str]]:
        moves = []
        back = self.written - now
        if back > 0:
            self.ends = self.ends and max(1, self.ends - back)
            self.blocked, self.closed_at = max(0, self.blocked - back), max(0, self.closed_at - back)
            self.missing_at = max(0, self.missing_at - back)
            self.ramped = max(0, self.ramped - back)
            self.leases = {token: expiry - back for token, expiry in self.leases.items()}
            self.results = [(start - back, outcome) for start, outcome in self.results]
        if self.state in ("forced_open", "disabled") and 0 < self.ends <= now:
            moves.append(self.go("closed", now, ""))
        if self.state == "open":
            self.ends = min(self.ends, now + round(1000 * policy.open_max * (1 + policy.open_jitter)))
        self.blocked = min(self.blocked, now + round(1000 * policy.cooldown_max))
        self.missing = min(self.missing, Fraction(policy.retry_burst + 100))
        if self.ramped and now >= self.ramped + 2000:
            self.ramp(0)
        longest = now + round(1000 * policy.probe_lease)
        self.leases = {token: min(expiry, longest) for token, expiry in self.leases.items()}
        if self.state == "half_open" and self.passed >= policy.successes_to_close:
            moves.append(self.close(now))
        return moves

    def close(self, now: int) -> tuple[str, str]:
        moved = self.go("closed", now, "")
        self.closed_at = now
        if self.blocked <= now:
            self.ramp(4)
            self.ramped = now
        return moved

    def tell(
        self,
        now: int,
        policy: BreakerPolicy,
        jitter_sample: float,
        epoch: int,
        results: Iterable[Outcome],
        why: str,
    ) -> tuple[list[Any], int]:
        moves, late = [], 0
        for outcome in results:
            if epoch != self.epoch:
                late += 1
            elif self.state == "closed" and outcome is Outcome.REJECTED:
                self.refused.append((0, 0))
            elif self.state == "closed" and outcome is not Outcome.IGNORED:
                start = self.results[-1][0] if self.results else -(10**15)
                self.results.append((start if start + 100 * policy.window > now else now, outcome))
                if outcome in FAILED:
                    self.why = why
                else:
                    self.guesses, self.refused = 0, []
                if broken := self.rule(now, policy):
                    moves.append(
                        self.open(
                            now,
                            broken if broken == "slow_call_rate" else self.why or broken,
                            policy,
                            jitter_sample,
                        )
                    )
        return moves, late

    def probe(
        self,
        now: int,
        policy: BreakerPolicy,
        jitter_sample: float,
        epoch: int,
        token: str,
        outcome: Outcome,
        why: str,
    ) -> tuple[list[Any], int]:
        if epoch != self.epoch or token not in self.leases:
            return [], 1
        del self.leases[token]
        if outcome in FAILED:
            return [self.open(now, why or self.why, policy, jitter_sample)], 0
        if outcome is Outcome.SLOW_SUCCESS and policy.slow_call_duration:
            return [self.open(now, "slow_call_rate", policy, jitter_sample)], 0
        if outcome is Outcome.IGNORED:
            return [], 0
        if outcome is Outcome.REJECTED:
            self.refused.append((0, 0))
            return [], 0
        self.passed, self.guesses, self.refused = self.passed + 1, 0, []
        return ([self.close(now)] if self.passed >= policy.successes_to_close else []), 0

    def ask(self, now: int, policy: BreakerPolicy, token: str) -> tuple[list[Any], bool]:
        moves = []
        if self.blocked > now:
            return [], False
        if self.state == "open" and self.ends <= now:
            moves.append(self.go("half_open", now, self.why))
        if self.state != "half_open":
            return moves, False
        if self.leases.get(token, 0) > now:
            return moves, True
        if not self.places(now, policy):
            return moves, False
        gone = [each for each, expiry in self.leases.items() if expiry <= now and each != token]
        kept = [*gone[-8:], *(each for each, expiry in self.leases.items() if expiry > now)]
        self.leases = {each: self.leases[each] for each in kept} | {
            token: now + round(1000 * policy.probe_lease)
        }
        return moves, True

    def cool(self, now: int, policy: BreakerPolicy, epoch: int, cooldown: Cooldown) -> None:
        before = self.guesses if self.cooldown_reason == cooldown.reason else 0
        together = self.blocked > now and self.cooldown_reason == cooldown.reason
        if cooldown.doubling and (epoch != self.epoch or together):
            return
        if not cooldown.doubling and (together or (self.first and not self.ramped)):
            before = max(0, before - 1)
        longer = (2.0 if cooldown.doubling else policy.open_growth) ** before
        until = now + round(1000 * min(cooldown.seconds * longer, cooldown.max_seconds))
        if until > now:
            self.guesses = before + 1
        if until > max(now, self.blocked):
            self.blocked, self.cooldown_reason = until, cooldown.reason
            self.ramp(1)

    def order(
        self, now: int, operation: Operation, seconds: float | None, seen: int, *, same: bool
    ) -> list[Any]:
        moves = self.obey(now, operation, seconds, seen, same=same)
        if operation is not Operation.RESTORE:
            self.obeyed = self.epoch
        return moves

    def obey(
        self, now: int, operation: Operation, seconds: float | None, seen: int, *, same: bool
    ) -> list[Any]:
        ends = 0 if seconds is None else now + round(1000 * seconds)
        if operation is Operation.OPEN:
            return [self.go("forced_open", now, "why", "ann", ends)]
        if operation is Operation.DISABLE:
            return [self.go("disabled", now, "why", "ann", ends)]
        if operation is Operation.RESTORE:
            if self.epoch >= seen or (self.obeyed == self.epoch and not same):
                return []
            self.epoch = seen
            self.opens, moved = 1, self.go("open", now, "why", "ann", ends or 0)
            return [moved]
        forgettable = operation is Operation.RESET and (
            self.opens or self.guesses or self.results or self.refused
        )
        if self.epoch and self.state == "closed" and self.blocked <= now and not forgettable:
            return []
        moved = self.go("closed", now, "")
        self.closed_at, self.blocked, self.cooldown_reason = now, 0, ""
        self.ramp(0)
        if operation is Operation.RESET:
            self.opens = self.guesses = self.closed_at = 0
        return [moved]

    def wait(self, now: int, policy: BreakerPolicy) -> int:
        if self.state == "half_open":
            live = [expiry - now for expiry in self.leases.values() if expiry > now]
            return min(live) if live and not self.places(now, policy) else 0
        if self.state == "closed":
            return 0
        return -1 if self.state != "open" and not self.ends else max(0, self.ends - now)


seconds = st.sampled_from([0.001, 0.3, 0.999, 1.0, 2.7, 4.0, 5.0, 7.0, 10.0, 60.0])
outcomes = st.sampled_from([*Outcome, Outcome.FAILURE, Outcome.FAILURE, Outcome.SUCCESS])


class CircuitMachine(RuleBasedStateMachine):
    """A random walk of one circuit: permits and leases of several processes, whose results come late, twice or never."""

    permits = Bundle("permits")
    leases = Bundle("leases")

    def __init__(self) -> None:
        super().__init__()
        self.clock = Time()
        self.store = self.make(self.clock)
        self.model = Stepped()
        self.policy = POLICIES[0]
        self.tokens = 0
        self.moves: list[tuple[str, str]] = []

    def make(self, clock: Clock) -> Store:
        return MemoryStore(clock=clock)

    def step(self, jitter_sample: float = 0.5, **request: Any) -> tuple[StepReply, list[Any]]:
        """Let the store make one step, and apply the passage of time to the model."""
        now = self.clock.now_ms
        self.before = copy.deepcopy(self.model)
        (reply,) = self.store.step(
            [StepRequest(client="A", policy=self.policy, jitter_sample=jitter_sample, **request)]
        )
        assert isinstance(reply, StepReply)
        return reply, self.model.turn(now, self.policy)

    def agree(
        self,
        reply: StepReply,
        moves: list[Any],
        *,
        permit: bool = False,
        late: int = 0,
        admitted: int = 0,
    ) -> None:
        """Compare the reply with the model, and record when the store wrote last."""
        now, model, policy = self.clock.now_ms, self.model, self.policy
        window = model.window(now, policy)
        failures = sum(outcome in FAILED for outcome in window)
        expected = {
            "state": model.state,
            "epoch": model.epoch,
            "now_ms": now,
            "wait_ms": model.wait(now, policy),
            "cooldown_ms": max(0, model.blocked - now),
            "cooldown_reason": model.cooldown_reason if model.blocked > now else "",
            "granted": permit,
            "admitted": admitted,
            "ramp_ms": model.next_step(now),
            "rejected": len(model.refused),
            "rejected_functions": max((kinds for kinds, _ in model.refused), default=0),
            "rejected_requests": max((kinds for _, kinds in model.refused), default=0),
            "late": late,
            "successes": len(window) - failures,
            "failures": failures,
            "slow": sum(outcome in WAS_SLOW for outcome in window),
            "streak": model.row(now, policy),
            "reason": model.why,
            "actor": model.who,
            "budget_used": 60_000 * model.missing_now(now, policy),
        }
        assert {name: getattr(reply, name) for name in expected} == expected
        assert [(move.from_state, move.to_state) for move in reply.transitions] == moves
        self.moves += moves
        if model != self.before or model.written > now:
            model.written = now

    @initialize(policy=st.sampled_from(POLICIES))
    def begin(self, policy: BreakerPolicy) -> None:
        self.policy = policy

    @rule(policy=st.sampled_from(POLICIES))
    def deploy(self, policy: BreakerPolicy) -> None:
        """A deploy changes the thresholds, and the circuit keeps its data."""
        self.policy = policy
        self.agree(*self.step())

    @rule(passed=seconds)
    def time_passes(self, passed: float) -> None:
        self.clock.now_ms += round(1000 * passed)

    @rule(passed=st.sampled_from([0.002, 1.5, 30.0, 86_400.0]))
    def the_store_s_clock_goes_back(self, passed: float) -> None:
        self.clock.now_ms -= round(1000 * passed)

    @rule(target=permits)
    def admit(self) -> Any:
        """A process refreshes its view; if the circuit is closed or disabled, it gets a permit."""
        reply, moves = self.step()
        self.agree(reply, moves)
        return reply.epoch if reply.state in ("closed", "disabled") else multiple()

    @rule(
        epoch=permits,
        runs=st.lists(st.tuples(outcomes, st.integers(1, 7)), min_size=1, max_size=4),
        why=st.sampled_from(["timeout", "network", ""]),
        jitter_sample=st.sampled_from([0.0, 0.5, 1.0]),
    )
    def settle(self, epoch: int, runs: list[tuple[Outcome, int]], why: str, jitter_sample: float) -> None:
        """Results of a permit arrive; the permit stays in the bundle, so more may follow at any time."""
        reply, moves = self.step(jitter_sample, batches=(Batch(epoch, tuple(runs), "", why),))
        reported, late = self.model.tell(
            self.clock.now_ms,
            self.policy,
            jitter_sample,
            epoch,
            (outcome for outcome, count in runs for _ in range(count)),
            why or self.model.why,
        )
        self.agree(reply, moves + reported, late=late)

    @rule(target=leases, again=st.booleans())
    def ask(self, again: bool) -> Any:  # noqa: FBT001 - Hypothesis passes by name
        """A process requests a probe lease, under a new token or under the latest one again."""
        self.tokens += not again
        token = f"t{self.tokens}"
        reply, moves = self.step(token=token)
        asked, granted = self.model.ask(self.clock.now_ms, self.policy, token)
        self.agree(reply, moves + asked, permit=granted)
        return (reply.epoch, token) if granted else multiple()

    @rule()
    def trip(self) -> None:
        """Twelve failures arrive in one run: enough to open the circuit under every policy, if it is closed."""
        self.settle(self.model.epoch, [(Outcome.FAILURE, 12)], "network", 0.5)

    @rule(target=leases, early=st.sampled_from([0, 0, 0, 1]))
    def ask_when_told_to(self, early: int) -> Any:
        """A process requests a probe lease at the end of the replied wait, or a millisecond too early."""
        reply, moves = self.step()
        self.agree(reply, moves)
        self.clock.now_ms += max(0, max(reply.wait_ms, reply.cooldown_ms) - early)
        return self.ask(again=False)

    @rule(edge=st.sampled_from([1000, 10_000]), early=st.sampled_from([0, 1]))
    def an_edge_is_reached(self, edge: int, early: int) -> None:
        """Time reaches the end of the newest bucket, or the moment at which the oldest leaves the window, or a millisecond before."""
        if self.model.results:
            start = self.model.results[-1 if edge == 1000 else 0][0]
            self.clock.now_ms = max(self.clock.now_ms, start + edge - early)
            self.agree(*self.step())

    @rule(lease=leases, outcome=outcomes)
    def probe_ends(self, lease: tuple[int, str], outcome: Outcome) -> None:
        """A probe's result arrives; the lease stays in the bundle, so that it may arrive twice, or after its expiry."""
        epoch, token = lease
        reply, moves = self.step(batches=(Batch(epoch, ((outcome, 1),), token, "timeout"),))
        reported, late = self.model.probe(
            self.clock.now_ms, self.policy, 0.5, epoch, token, outcome, "timeout"
        )
        self.agree(reply, moves + reported, late=late)

    @rule(attempts=st.integers(0, 25), retries=st.integers(0, 4))
    def attempts_end(self, attempts: int, retries: int) -> None:
        """Attempts and retries change the retry budget in every state, whatever their outcome."""
        reply, moves = self.step(attempts=attempts, retries=retries)
        self.model.spend(self.clock.now_ms, self.policy, attempts, retries)
        self.agree(reply, moves)

    @rule(wanted=st.integers(1, 9), later=st.sampled_from([0, 0, 1, 99, 100, 101, 700, 2000]))
    def attempts_wait(self, wanted: int, later: int) -> None:
        """A process asks for the attempts that wait in it, perhaps when the cool-down is just over, or in a later step."""
        self.clock.now_ms = max(self.clock.now_ms, self.model.blocked if later == 1 else 0) + later
        reply, moves = self.step(wanted=wanted)
        self.agree(reply, moves, admitted=self.model.admit(self.clock.now_ms, wanted))

    @rule(epoch=permits, count=st.integers(1, 3), functions=st.integers(0, 3), requests=st.integers(0, 3))
    def requests_are_refused(self, epoch: int, count: int, functions: int, requests: int) -> None:
        """A process reports requests that the provider refused, and how many different ones it has seen."""
        runs = ((Outcome.REJECTED, count),)
        reply, moves = self.step(
            batches=(Batch(epoch, runs),), rejected_functions=functions, rejected_requests=requests
        )
        reported, late = self.model.tell(
            self.clock.now_ms, self.policy, 0.5, epoch, [Outcome.REJECTED] * count, ""
        )
        if self.model.refused:
            known = self.model.refused[-1]
            self.model.refused[-1] = (max(known[0], functions), max(known[1], requests))
        self.agree(reply, moves + reported, late=late)

    @rule(lease=consumes(leases))
    def prober_is_killed(self, lease: tuple[int, str]) -> None:
        """The process that holds a lease dies, and its result never arrives."""

    @rule(epoch=permits, cooldown=st.sampled_from(COOLDOWNS))
    def cool(self, epoch: int, cooldown: Cooldown) -> None:
        """A call asks for a stated cool-down, or for a doubling one."""
        reply, moves = self.step(cooldowns=((epoch, cooldown),))
        self.model.cool(self.clock.now_ms, self.policy, epoch, cooldown)
        self.agree(reply, moves)

    @rule(
        operation=st.sampled_from(Operation),
        length=st.sampled_from([None, 2.0, 8.0]),
        ahead=st.sampled_from([0, 1, 9000]),
        same=st.booleans(),
    )
    def operate(self, operation: Operation, length: float | None, ahead: int, same: bool) -> None:  # noqa: FBT001
        """An operator gives an order, or a process restores what it saw."""
        now = self.clock.now_ms
        self.before = copy.deepcopy(self.model)
        seen = self.model.epoch + ahead
        born = self.model.born if same else self.model.born + 1
        order = Order(
            operation=operation, actor="ann", reason="why", seconds=length, epoch=seen, born_at=born
        )
        (reply,) = self.store.step([StepRequest(client="A", policy=self.policy, order=order)])
        assert isinstance(reply, StepReply)
        # A step carries out an order before it applies the limits of the current policy. So the model's first turn has
        # limits that cut nothing, and a second turn after the order applies the real ones.
        moves = self.model.turn(
            now,
            BreakerPolicy(
                open_max=604_800,
                cooldown_max=604_800,
                probe_lease=86_400,
                successes_to_close=9,
                retry_burst=1_000_000,
            ),
        )
        moves += self.model.order(now, operation, length, seen, same=same)
        self.model.written = min(self.model.written, now)
        moves += self.model.turn(now, self.policy)
        self.agree(reply, moves)

    @rule()
    def the_store_loses_its_memory(self) -> None:
        """The store loses its data: the circuit starts again, and results of earlier permits are late."""
        self.store.close()
        self.store = self.make(self.clock)
        self.model = Stepped()
        self.moves = []

    @rule()
    def look(self) -> None:
        """A request without a policy writes nothing, and does not register a client."""
        log = self.store.transitions()
        self.store.step([StepRequest(client="A"), StepRequest(client="never-used")])

        assert self.store.transitions() == log
        assert "never-used" not in self.store.names()

    @invariant()
    def the_log_is_the_chain_of_moves(self) -> None:
        """The log has each transition once, with growing epochs, and each begins in the state in which the last ended."""
        log = self.store.transitions()
        epochs = [move.epoch for move in log]

        assert [(move.from_state, move.to_state) for move in log] == self.moves
        assert epochs == sorted(set(epochs))
        assert [move.from_state for move in log] == ["closed", *(move.to_state for move in log)][: len(log)]

    @invariant()
    def leases_are_bounded(self) -> None:
        """There are never more live leases than the largest half_open_probes of all policies."""
        now = max(
            self.clock.now_ms, self.model.written
        )  # a clock that went back is followed by the next step
        live = sum(expiry > now for expiry in self.model.leases.values())

        assert live <= max(policy.half_open_probes for policy in POLICIES)

    def teardown(self) -> None:
        """Check liveness: whatever happened before, successful probes close the circuit, unless an order without end holds."""
        self.policy = POLICIES[0]
        self.store.step([StepRequest(client="A", policy=self.policy)])  # the clock may have gone back
        self.clock.now_ms += 60_000
        for turn in range(20):
            (reply,) = self.store.step([StepRequest(client="A", policy=self.policy, token=f"end{turn}")])
            assert isinstance(reply, StepReply)
            if reply.granted:
                self.store.step(
                    [
                        StepRequest(
                            client="A",
                            policy=self.policy,
                            batches=(Batch(reply.epoch, ((Outcome.SUCCESS, 1),), f"end{turn}"),),
                        )
                    ]
                )
        (reply,) = self.store.step([StepRequest(client="A", policy=self.policy)])
        assert isinstance(reply, StepReply)
        assert reply.state == "closed" or reply.wait_ms == -1
        assert reply.cooldown_ms == 0
        self.store.close()


class SQLiteMachine(CircuitMachine):
    """The same walk over the SQLite store, whose file is closed and opened in between."""

    def __init__(self) -> None:
        self.folder = tempfile.TemporaryDirectory(prefix="circuits")
        self.files = 0
        super().__init__()

    def make(self, clock: Clock) -> Store:
        self.files += 1
        return self.on_file(clock)

    def on_file(self, clock: Clock) -> Store:
        return SQLiteStore(Path(self.folder.name, f"circuits{self.files}.db"), clock=clock)

    @rule()
    def the_process_restarts(self) -> None:
        """A new process on the same file has the same circuit."""
        self.store.close()
        self.store = self.on_file(self.clock)

    def teardown(self) -> None:
        super().teardown()
        self.folder.cleanup()


TestMemoryModel = CircuitMachine.TestCase
TestMemoryModel.settings = settings(
    max_examples=120, stateful_step_count=50, deadline=None, suppress_health_check=list(HealthCheck)
)
TestSQLiteModel = SQLiteMachine.TestCase
TestSQLiteModel.settings = settings(
    max_examples=30, stateful_step_count=50, deadline=None, suppress_health_check=list(HealthCheck)
)
