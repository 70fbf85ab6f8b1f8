"""step.lua and circuit.py side by side: every request goes to both, and reply, hash, expiry and stream must agree.

The time is virtual: the one place in the script's text that asks the server for the time is replaced. The tests of the script use this,
and so does `lua_mutants.py`, which plants bugs in the script.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from hashlib import sha1
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from resilience.breaker import BreakerPolicy, CircuitState, Cooldown, Operation, Outcome, Transition
from resilience.breaker.circuit import step
from resilience.breaker.messages import Batch, Order, StepReply, StepRequest
from resilience.breaker.state import FRESH, CircuitData, from_mapping, to_mapping
from resilience.breaker.stores import redis as redis_store
from resilience.breaker.stores.redis import RedisStore
from resilience.breaker.stores.redis_connection import RedisConnection
from resilience.breaker.stores.redis_url import parse

SERVER_TIME = """local clock = redis.call('TIME')
local now = tonumber(clock[1]) * 1000 + math.floor(tonumber(clock[2]) / 1000)
"""
BEGIN = 1_700_000_000_000
LOG = 7
DAY = 86_400_000
SLACK = 60_000  # milliseconds of an expiry that may pass on a slow machine before the test reads it

POLICIES = [
    BreakerPolicy(
        window=10.0,
        min_calls=4,
        consecutive_failures=3,
        open_for=5.0,
        open_max=12.0,
        probe_lease=4.0,
        retry_ratio=None,
    ),
    BreakerPolicy(
        window=10.0,
        min_calls=6,
        consecutive_failures=9,
        failure_rate=0.4,
        open_for=3.0,
        open_max=3.0,
        half_open_probes=2,
        successes_to_close=2,
        retry_ratio=0.5,
        retry_floor=60,
    ),
    BreakerPolicy(
        window=10.0,
        min_calls=3,
        consecutive_failures=50,
        failure_rate=0.9,
        slow_call_duration=1.0,
        slow_call_rate=0.5,
        open_for=4.0,
        half_open_probes=3,
        successes_to_close=2,
        probe_lease=7.0,
        retry_ratio=0.0,
        retry_floor=1,
    ),
    # An odd window; openings and leases that end in half a millisecond; growth that is no power of two.
    BreakerPolicy(
        window=1.005,
        min_calls=2,
        failure_rate=1.0,
        open_for=0.0125,
        open_growth=3.0,
        open_max=50.0,
        open_jitter=0.0,
        half_open_probes=2,
        successes_to_close=3,
        probe_lease=0.5,
        retry_ratio=0.3333,
        retry_floor=0,
    ),
    BreakerPolicy(
        window=1.0,
        consecutive_failures=1,
        open_for=0.05,
        open_max=0.05,
        half_open_probes=12,
        successes_to_close=12,
        probe_lease=0.02,
    ),
    # Too patient to trip soon, so that a window may fill.
    BreakerPolicy(
        window=10.0,
        min_calls=100,
        consecutive_failures=30,
        slow_call_duration=1.0,
        slow_call_rate=0.3,
        open_for=1.0,
    ),
    BreakerPolicy(),
]
COOLDOWNS = [
    Cooldown(seconds=2.0, max_seconds=300.0, reason="rate_limit"),
    Cooldown(seconds=900.0, max_seconds=6.0, reason="rate_limit"),
    Cooldown(seconds=0.0125, max_seconds=300.0, reason="rate_limit"),
    Cooldown(seconds=0.0, max_seconds=1.0, reason="nothing"),
    Cooldown(seconds=2e11, max_seconds=2e11, reason="longer than any policy allows"),
    Cooldown(seconds=1.0, max_seconds=5.0, doubling=True, reason="authentication"),
    Cooldown(seconds=3.0, max_seconds=1e9, doubling=True, reason="quota_exhausted"),
]
GARBAGE = [
    ("state", "ajar"),
    ("state", "ajar"),
    ("epoch", "1e3"),
    ("state_until", "soon"),
    ("cooldown_until", "0x10"),
    ("cooldown_count", "-"),
    ("leases", "t1"),
    ("leases", "t1=x"),
    ("leases", "t1=1700000000000;x"),
    ("leases", "t1=1700000000000;x"),
    ("buckets", "1,2,x,4,5"),
    ("buckets", "yesterday"),
    ("successes", " "),
    ("budget_used", "1e3"),
    ("budget_used", "120001"),
    ("budget_used", "900000000000000"),
    ("budget_used_at", "2700000000000"),
    ("epoch", "1000000000000000000000000000000"),
    ("epoch", "4503599627370497"),
    ("state_until", "4503599627370496"),
    ("cooldown_until", "2700000000000"),
    ("closed_at", "2700000000000"),
    ("leases", "t1=4503599627370497"),
    ("buckets", "2700000000000,0,900,0,900"),
    ("buckets", "1,2,4503599627370497,4,5"),
    ("epoch", "-5"),
    ("successes", "-100"),
    ("ramp_used", "-1000000"),
    ("state_until", "2700000000000"),
    ("reason", "x" * 5000),
    ("leases", ";".join(f"x{n}=2700000000000" for n in range(30))),
    ("buckets", ";".join(f"{1_600_000_000_000 + n},0,1,0,1" for n in range(30))),
    ("buckets", "1700000000000,-1,2,3,4"),
    ("ramp_first", "1000000"),
    ("ramp_at", "2700000000000"),
]


class TwinStore(RedisStore):
    """A Redis store whose clock the test sets.

    Args:
        connection: the open connection.
        script: the text to run instead of the installed one.
        clock: returns the time in milliseconds.
        log_length: how many transitions of a circuit are kept.
    """

    def __init__(
        self, connection: RedisConnection, script: str, clock: Callable[[], int], *, log_length: int = LOG
    ) -> None:
        super().__init__(parse("redis://unused"), namespace="twin", log_length=log_length)
        assert SERVER_TIME in script
        self._script = script.replace(SERVER_TIME, "local now = tonumber(ARGV[4])\n")
        self._sha = sha1(self._script.encode(), usedforsecurity=False).hexdigest()
        self._fixed = connection
        self._clock = clock

    def _arguments(self, request: StepRequest) -> redis_store.Command:
        return (*super()._arguments(request), str(self._clock()))

    def _connect(self) -> RedisConnection:
        return self._fixed

    def disconnect(self) -> None:
        """Do nothing: the connection belongs to the test."""


class Twin:
    """One circuit, kept by step.lua and by circuit.py.

    Args:
        connection: an open connection to an empty server.
        script: the text to run.
    """

    def __init__(self, connection: RedisConnection, script: str) -> None:
        self.now = BEGIN
        self.store = TwinStore(connection, script, lambda: self.now)
        self.server: Any = connection.server_for("")
        self.data = replace(FRESH)
        self.log: list[Transition] = []
        self.corrupted = False

    def step(self, **fields: Any) -> StepReply:
        """Make one step on both sides and compare everything.

        Raises:
            AssertionError: they differ.
        """
        request = StepRequest(client="A", **fields)
        data, expected = step(self.data, self.now, request)
        (reply,) = self.store.step([request])
        agree(reply, expected)
        assert isinstance(reply, StepReply)
        written = not request.read_only and data != self.data
        if not request.read_only:
            if written and not self.corrupted and request.has_updates:
                # A step that created the hash must register the name again: the set of names may be lost as well.
                agree("A" in self.store._registered, self.data != FRESH)
            self.data = data
            self.log = [*self.log, *expected.transitions][-LOG:]
            if written:
                self.corrupted = False
        # One round trip for all that is compared: there are thousands of steps.
        with self.server.pipeline(transaction=False) as pipeline:
            mapping, left, log_left = (
                pipeline.hgetall("twin:{A}:v2").pttl("twin:{A}:v2").pttl("twin:{A}:log").execute()
            )
        if written:
            self.compare_expiry(request.policy or BreakerPolicy(), left, log_left)
        self.compare(mapping, log=bool(expected.transitions) or request.read_only)
        return reply

    def compare(self, mapping: dict[str, str], *, log: bool) -> None:
        """Compare the hash with what circuit.py would keep, and the stream with its last transitions."""
        agree(from_mapping(mapping), self.data)
        if not self.corrupted:
            agree(mapping, to_mapping(self.data))
        if log:
            agree([replace(each, cursor="") for each in self.store.transitions()], self.log)

    def compare_expiry(self, policy: BreakerPolicy, left: int, log_left: int) -> None:
        """Check the expiry: a day after the circuit's last time is over, never for an override without end, a week for the log.

        Args:
            policy: the policy of the step.
            left: milliseconds that the hash has left, -1 for no end.
            log_left: the same for the log.
        """
        data = self.data
        indefinite = data.state in (CircuitState.FORCED_OPEN, CircuitState.DISABLED) and not data.state_until
        ends = [self.now, data.state_until, data.cooldown_until, *(each.expiry for each in data.leases)]
        expected = max(ends) - self.now + round(3000 * policy.window) + DAY
        assert left == -1 if indefinite else expected - SLACK < left <= expected
        if self.log:
            assert 7 * DAY - SLACK < log_left <= 7 * DAY

    def plant(self, field: str, text: str) -> None:
        """Write a field that no version would write."""
        self.server.hset("twin:{A}:v2", field, text)
        self.data = from_mapping(self.server.hgetall("twin:{A}:v2"))
        self.corrupted = True  # until the next write, which replaces it

    def forget(self) -> None:
        """Delete everything but the script."""
        self.server.flushall()
        self.store._registered.clear()
        self.data, self.log, self.corrupted = replace(FRESH), [], False

    def instants(self) -> list[int]:
        """Return the times at which something changes by itself."""
        data: CircuitData = self.data
        windows = {round(1000 * policy.window) for policy in POLICIES}
        found = [data.state_until, data.cooldown_until, *(each.expiry for each in data.leases)]
        for bucket in data.buckets:
            found += [bucket.start + each for each in windows | {each // 10 for each in windows}]
        if data.budget_used:
            floors = {policy.retry_floor for policy in POLICIES} - {0}
            found += [data.budget_used_at + data.budget_used // floor for floor in floors]
        if data.ramp_at:
            found += [data.ramp_at + 100 * step for step in (1, 2, 3, 20)]
        return [each for each in found + [data.closed_at + each for each in windows] if each > self.now]


def agree(found: object, expected: object) -> None:
    """Compare. Show both sides if they differ: pytest explains assertions only in test files."""
    assert found == expected, f"step.lua:   {found}\ncircuit.py: {expected}"


outcomes = st.sampled_from([*Outcome, Outcome.FAILURE, Outcome.FAILURE, Outcome.SUCCESS])
runs = st.lists(st.tuples(outcomes, st.integers(1, 12)), min_size=1, max_size=4).map(tuple)
jitter_samples = st.sampled_from([0.0, 0.25, 0.5, 0.7853, 1.0])
reasons = st.sampled_from(["timeout", "network", "", 'q"uo\\té;=\n\0'])
tokens = st.sampled_from([f"t-{n}%1" for n in range(14)])
epochs = st.sampled_from([0, 0, 0, 0, -1, -2])  # how many epochs ago
policies = st.sampled_from(POLICIES)


def planted_times_are_damage(connection: RedisConnection, script: str) -> None:
    """Plant each time a day beyond what the policy allows, and a millisecond more: the latter alone is damage.

    Raises:
        AssertionError: the script or circuit.py says otherwise.
    """
    twin, policy = Twin(connection, script), POLICIES[0]
    beyond = {
        "state_until": policy.longest_open_ms,
        "cooldown_until": policy.longest_cooldown_ms,
        "closed_at": 0,
        "ramp_at": 0,
        "budget_used_at": 0,
    }
    for field, allowed in beyond.items():
        for more in (0, 1):
            twin.forget()
            twin.step(policy=policy, batches=(Batch(0, ((Outcome.FAILURE, 30),), "", "timeout"),))
            twin.plant(field, str(twin.now + allowed + DAY + more))
            agree(twin.step(policy=policy, attempts=1).damaged, bool(more))


def a_ramp_follows_the_clock(connection: RedisConnection, script: str) -> None:
    """Set the clock back while a ramp is in its second step: it stays there.

    Raises:
        AssertionError: the script or circuit.py says otherwise.
    """
    twin, policy = Twin(connection, script), POLICIES[0]
    twin.forget()
    twin.step(policy=policy, cooldowns=((0, COOLDOWNS[0]),))
    twin.now += 2000
    twin.step(policy=policy, wanted=1)
    twin.now += 150
    twin.step(policy=policy, batches=(Batch(0, ((Outcome.FAILURE, 1),), "", "timeout"),))
    twin.now -= 1000
    reply = twin.step(policy=policy, wanted=9)
    agree((reply.admitted, reply.ramp_ms), (2, 50))


class TwinMachine(RuleBasedStateMachine):
    """Any request at any time. A subclass sets the connection and the script."""

    connection: RedisConnection
    script = redis_store.SCRIPT

    def __init__(self) -> None:
        super().__init__()
        self.twin = Twin(self.connection, self.script)
        self.twin.forget()
        self.policy = POLICIES[0]
        self.epochs = [0]

    def do_step(self, **request: Any) -> StepReply:
        reply = self.twin.step(policy=self.policy, **request)
        if reply.epoch != self.epochs[-1]:
            self.epochs.append(reply.epoch)
        return reply

    def epoch(self, ago: int) -> int:
        return self.epochs[max(0, len(self.epochs) - 1 + ago)]

    @initialize(policy=policies)
    def begin(self, policy: BreakerPolicy) -> None:
        self.policy = policy

    @rule(policy=policies)
    def deploy(self, policy: BreakerPolicy) -> None:
        self.policy = policy
        self.do_step()

    @rule(passed=st.sampled_from([1, 99, 100, 101, 500, 1000, 1001, 3000, 9999, 30_000, 90_000]))
    def time_passes(self, passed: int) -> None:
        self.twin.now += passed

    @precondition(lambda self: self.twin.instants())
    @rule(which=st.integers(0, 40), early=st.sampled_from([0, 0, 1, -1]))
    def the_moment_comes(self, which: int, early: int) -> None:
        """Go to the millisecond at which something ends, or to the one before or after."""
        instants = sorted(self.twin.instants())
        self.twin.now = instants[which % len(instants)] - early
        self.do_step()

    @rule(passed=st.sampled_from([1, 1500, 86_400_000]), looked=st.booleans())
    def the_clock_goes_back(self, passed: int, looked: bool) -> None:  # noqa: FBT001 - Hypothesis passes by name
        self.twin.now -= passed
        if looked:
            self.twin.step()
        self.do_step()

    @rule(ago=epochs, results=runs, reason=reasons, jitter_sample=jitter_samples)
    def settle(self, ago: int, results: Any, reason: str, jitter_sample: float) -> None:
        self.do_step(batches=(Batch(self.epoch(ago), results, "", reason),), jitter_sample=jitter_sample)

    @rule(
        count=st.integers(1, 12),
        outcome=st.sampled_from([Outcome.FAILURE, Outcome.FAILURE, Outcome.SUCCESS, Outcome.SLOW_SUCCESS]),
        jitter_sample=jitter_samples,
    )
    def one_run(self, count: int, outcome: Outcome, jitter_sample: float) -> None:
        self.do_step(
            batches=(Batch(self.epoch(0), ((outcome, count),), "", "timeout"),), jitter_sample=jitter_sample
        )

    @rule(
        policy=policies,
        results=st.lists(
            st.tuples(outcomes, st.integers(1, 2), st.sampled_from([999, 1000, 101])), min_size=3, max_size=14
        ),
        early=st.sampled_from([0, 1]),
    )
    def results_trickle_in(
        self, policy: BreakerPolicy, results: list[tuple[Outcome, int, int]], early: int
    ) -> None:
        """Count results one by one, in buckets of their own; then let the oldest leave the window."""
        self.policy = policy
        for outcome, count, gap in results:
            self.do_step(batches=(Batch(self.epoch(0), ((outcome, count),), "", "timeout"),))
            self.twin.now += gap
        for bucket in self.twin.data.buckets[:2]:
            self.twin.now = max(self.twin.now, bucket.start + round(1000 * policy.window) - early)
            self.do_step()

    @rule(
        policy=policies,
        results=st.lists(
            st.sampled_from([Outcome.SUCCESS, Outcome.SUCCESS, *Outcome]), min_size=1, max_size=5
        ),
        jitter_sample=jitter_samples,
        other=policies,
    )
    def an_outage(
        self, policy: BreakerPolicy, results: list[Outcome], jitter_sample: float, other: BreakerPolicy
    ) -> None:
        """Open, and end probes with these outcomes, under one version's thresholds or two."""
        self.policy = policy
        self.do_step(
            batches=(Batch(self.epoch(0), ((Outcome.FAILURE, 30),), "", "timeout"),),
            jitter_sample=jitter_sample,
        )
        for outcome in results:
            data = self.twin.data
            self.twin.now = max(self.twin.now, data.state_until, data.cooldown_until)
            self.do_step(token="t-0%1")  # noqa: S106 - a lease's name
            if jitter_sample < 0.5:
                self.deploy(other)
            self.do_step(
                batches=(Batch(self.epoch(0), ((outcome, 1),), "t-0%1", "network"),),
                jitter_sample=jitter_sample,
            )
        self.deploy(other)

    @rule(token=tokens)
    def ask(self, token: str) -> None:
        self.do_step(token=token)

    @rule()
    def ask_when_it_is_time(self) -> None:
        """Go to half-open, which chance alone would seldom find."""
        data = self.twin.data
        self.twin.now = max(self.twin.now, data.state_until, data.cooldown_until)
        for n in range(3):
            self.do_step(token=f"t-{n}%1")

    @rule(count=st.integers(9, 14))
    def probers_vanish(self, count: int) -> None:
        """Let more leases expire without a result than are remembered."""
        for n in range(count):
            self.do_step(token=f"t-{n}%1")
            self.twin.now += round(1000 * self.policy.probe_lease) if n % 3 else 1

    @rule(
        ago=epochs,
        token=tokens,
        outcome=outcomes,
        count=st.integers(1, 2),
        reason=reasons,
        jitter_sample=jitter_samples,
    )
    def probe_ends(
        self, ago: int, token: str, outcome: Outcome, count: int, reason: str, jitter_sample: float
    ) -> None:
        self.do_step(
            batches=(Batch(self.epoch(ago), ((outcome, count),), token, reason),), jitter_sample=jitter_sample
        )

    @precondition(lambda self: self.twin.data.leases)
    @rule(which=st.integers(0, 9), outcome=outcomes, jitter_sample=jitter_samples)
    def held_probe_ends(self, which: int, outcome: Outcome, jitter_sample: float) -> None:
        leases = self.twin.data.leases
        token = leases[which % len(leases)].token
        self.do_step(
            batches=(Batch(self.epoch(0), ((outcome, 1),), token, "network"),), jitter_sample=jitter_sample
        )

    @rule(ago=epochs, cooldown=st.sampled_from(COOLDOWNS))
    def cool(self, ago: int, cooldown: Cooldown) -> None:
        self.do_step(cooldowns=((self.epoch(ago), cooldown),))

    @rule(times=st.integers(2, 5), cooldown=st.sampled_from(COOLDOWNS[-2:]), early=st.sampled_from([0, 1]))
    def cool_again_and_again(self, times: int, cooldown: Cooldown, early: int) -> None:
        """Cool down again when the last cool-down is just over, or just not."""
        for _ in range(times):
            self.do_step(cooldowns=((self.epoch(0), cooldown),))
            self.twin.now = max(self.twin.now, self.twin.data.cooldown_until - early)

    @rule(
        operation=st.sampled_from(Operation),
        seconds=st.sampled_from([None, 0.0, 0.0025, 8.0, 5000.0]),
        state=st.sampled_from(CircuitState),
        ahead=st.sampled_from([-1, 0, 1, 1, 40_000]),
        reason=reasons,
        with_policy=st.booleans(),
    )
    def operate(
        self,
        operation: Operation,
        seconds: float | None,
        state: CircuitState,
        ahead: int,
        reason: str,
        with_policy: bool,  # noqa: FBT001 - Hypothesis passes by name
    ) -> None:
        epoch = self.twin.data.epoch + ahead
        order = Order(
            operation=operation, actor="ann", reason=reason, seconds=seconds, state=state, epoch=epoch
        )
        self.twin.step(order=order, policy=self.policy if with_policy else None)
        self.do_step()
        self.twin.now += round(1000 * (seconds or 0))
        self.twin.step()

    @rule(
        results=runs,
        cooldown=st.sampled_from(COOLDOWNS),
        token=tokens,
        jitter_sample=jitter_samples,
        operation=st.sampled_from(Operation),
        retries=st.integers(0, 3),
    )
    def everything_at_once(
        self,
        results: Any,
        cooldown: Cooldown,
        token: str,
        jitter_sample: float,
        operation: Operation,
        retries: int,
    ) -> None:
        batches = (Batch(self.epoch(0), results, "", "a"), Batch(self.epoch(0), results[:1], token, "b"))
        order = Order(operation=operation, actor="bob", seconds=3.0)
        self.do_step(
            batches=batches,
            cooldowns=((self.epoch(-1), cooldown),),
            token=token,
            jitter_sample=jitter_sample,
            order=order,
            attempts=sum(count for _, count in results) + 1,
            retries=retries,
            wanted=retries,
            rejected_functions=retries,
            rejected_requests=2,
        )

    @rule(
        cooldown=st.sampled_from(COOLDOWNS),
        steps=st.lists(
            st.tuples(st.integers(0, 9), st.sampled_from([0, 1, 99, 100, 101, 350, 1999, 2000])),
            min_size=1,
            max_size=6,
        ),
        closes=st.booleans(),
    )
    def traffic_returns(self, cooldown: Cooldown, steps: list[tuple[int, int]], closes: bool) -> None:  # noqa: FBT001
        """Ask for attempts after a cool-down or a closing, in a few steps of the ramp, and before its begin."""
        if closes:
            self.do_step(batches=(Batch(self.epoch(0), ((Outcome.FAILURE, 30),), "", "timeout"),))
            self.ask_when_it_is_time()
            for lease in self.twin.data.leases:
                self.do_step(batches=(Batch(self.epoch(0), ((Outcome.SUCCESS, 1),), lease.token, ""),))
        else:
            self.do_step(cooldowns=((self.epoch(0), cooldown),))
            self.do_step(wanted=1)
            self.twin.now = max(self.twin.now, self.twin.data.cooldown_until)
        for wanted, passed in steps:
            self.do_step(wanted=wanted)
            self.twin.now += passed
        self.twin.step()
        self.do_step(cooldowns=((self.epoch(0), cooldown),), wanted=2)

    @rule(
        count=st.integers(1, 4),
        functions=st.integers(0, 3),
        requests=st.integers(0, 4),
        ago=epochs,
        last=st.sampled_from([Outcome.REJECTED, Outcome.REJECTED, *Outcome]),
    )
    def requests_are_refused(
        self, count: int, functions: int, requests: int, ago: int, last: Outcome
    ) -> None:
        """A process reports refused requests, and how different they were; perhaps something else after them."""
        runs = ((Outcome.REJECTED, count), (last, 1))
        self.do_step(
            batches=(Batch(self.epoch(ago), runs, "", "invalid_request"),),
            rejected_functions=functions,
            rejected_requests=requests,
        )

    @rule(which=st.integers(0, 9))
    def look(self, which: int) -> None:
        """Read at any time, and when something is over that no step has recorded yet."""
        self.twin.step()
        if instants := sorted(self.twin.instants()):
            self.twin.now = instants[which % len(instants)]
            self.twin.step()

    @rule(attempts=st.integers(0, 30), retries=st.integers(0, 6))
    def attempts_end(self, attempts: int, retries: int) -> None:
        """Report ended attempts and retries, which belong to no epoch."""
        self.do_step(attempts=attempts, retries=retries)

    @rule(
        policy=policies,
        steps=st.lists(
            st.tuples(st.integers(0, 12), st.integers(0, 4), st.sampled_from([0, 1, 77, 1000, 60_001])),
            min_size=2,
            max_size=8,
        ),
    )
    def a_storm(self, policy: BreakerPolicy, steps: list[tuple[int, int, int]]) -> None:
        """Make more retries than first tries pay for; then let the bucket refill while others read."""
        self.policy = policy
        for attempts, retries, passed in steps:
            self.do_step(attempts=attempts, retries=retries)
            self.twin.now += passed
            self.twin.step()
        self.twin.step(attempts=3, retries=3)

    @rule(garbage=st.sampled_from(GARBAGE))
    def a_field_is_corrupted(self, garbage: tuple[str, str]) -> None:
        self.twin.plant(*garbage)
        self.twin.step()
        self.do_step(batches=(Batch(self.epoch(0), ((Outcome.FAILURE, 1),), "", "x"),))

    @rule(
        state=st.sampled_from([CircuitState.CLOSED, *CircuitState]),
        seconds=st.sampled_from([None, 0.0, 4.0]),
        ahead=st.integers(0, 2),
    )
    def a_process_saw_a_later_epoch(self, state: CircuitState, seconds: float | None, ahead: int) -> None:
        """Restore over a circuit that has opened, which `operate` alone seldom does."""
        self.do_step(batches=(Batch(self.epoch(0), ((Outcome.FAILURE, 30),), "", "timeout"),))
        order = Order(
            operation=Operation.RESTORE,
            actor="",
            reason="network",
            seconds=seconds,
            state=state,
            epoch=self.twin.data.epoch + ahead,
        )
        self.do_step(order=order)

    @rule(
        state=st.sampled_from([None, *CircuitState]),
        operation=st.sampled_from([None, None, *Operation]),
        known=st.booleans(),
    )
    def the_server_forgets(
        self,
        state: CircuitState | None,
        operation: Operation | None,
        known: bool,  # noqa: FBT001 - Hypothesis passes by name
    ) -> None:
        """Lose everything, after which an operator may give an order, and a process restores what it knew."""
        self.twin.forget()
        self.epochs = [0]
        if operation:
            self.do_step(order=Order(operation=operation, actor="ann", seconds=9.0))
        if state:
            epoch = self.twin.data.epoch + 1
            order = Order(
                operation=Operation.RESTORE,
                actor="",
                reason="timeout",
                seconds=4.0,
                state=state,
                epoch=epoch,
                born_at=self.twin.data.born_at * known,
            )
            self.do_step(order=order)
            self.do_step(order=replace(order, epoch=10**16))

    @rule(
        policy=st.sampled_from(POLICIES[1:3]),
        shares=st.permutations("sslf"),
        counts=st.tuples(*[st.integers(0, 3)] * 4),
    )
    def shares(self, policy: BreakerPolicy, shares: list[str], counts: tuple[int, ...]) -> None:
        """Put few results into an empty window, so that shares are often met exactly."""
        self.policy = policy
        self.do_step(order=Order(operation=Operation.RESET, actor="ann"))
        kinds = {"s": Outcome.SUCCESS, "l": Outcome.SLOW_SUCCESS, "f": Outcome.FAILURE}
        results = tuple((kinds[each], count) for each, count in zip(shares, counts, strict=True) if count)
        self.do_step(batches=(Batch(self.epoch(0), results, "", "timeout"),))
