"""A Redis that means harm: replies that no script makes, and keys that another program has planted.

Callers see none of it. Each kind is noticed: the step is an error, and the store counts as away; or what it says is cut to what the policy
allows, and a warning names the damage.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
from support import hostile_redis as hostile
from support.hostile_redis import HostileRedis, reply, step_reply
from support.valkey_servers import Valkey

from resilience import damage_counts
from resilience.breaker import Breaker, BreakerPolicy, CircuitState, Outcome
from resilience.breaker.messages import Batch, StepReply, StepRequest
from resilience.breaker.stores.redis import open_redis
from resilience.errors import CircuitOpenError

POLICY = BreakerPolicy(open_for=10.0, open_max=20.0, max_staleness=0.05)
SENT = StepRequest(client="A", policy=POLICY, batches=(Batch(0, ((Outcome.FAILURE, 2),), "", "timeout"),))
FAR = 2**52
YEAR_9999 = 253_370_764_800_000

# What the server sends in the place of a reply. All of these are errors of the step.
REFUSED: dict[str, Any] = {
    "a number": b":5\r\n",
    "nothing": b"$-1\r\n",
    "no list": b"*-1\r\n",
    "an empty list": b"*0\r\n",
    "a short list": reply("closed", 1, 2),
    "texts for numbers": step_reply(epoch="5"),
    "a number for a text": step_reply(reason=7),
    "a list for a number": reply([1], [2], *["x"] * 22),
    "an unknown state": step_reply(state="ajar"),
    "a negative epoch": step_reply(epoch=-7),
    "an epoch beyond exact numbers": step_reply(epoch=2**60),
    "a time after the year 9999": step_reply(now=YEAR_9999 + 1),
    "not a number": step_reply(wait="NaN"),
    "infinity": step_reply(cooldown="inf"),
    "bytes that are no UTF-8 for a state": step_reply(state=b"\xff\xfe"),
    "a transition without fields": step_reply(more=b"x"),
    "nested without end": b"*1\r\n" * 20_000,
    "a list of a billion": b"*1000000000\r\n" + b":1\r\n" * 100,
    "a length that is none": b"$x\r\n",
    "garbage": b"\x00\x01HTTP/1.1 200 OK\r\n\r\n",
    "an error": b"-ERR no\r\n",
    "an error of a megabyte": b"-ERR " + b"x" * 1_000_000 + b"\r\n",
    "MOVED without end": b"-MOVED 1 127.0.0.1:1\r\n",
    "ASK": b"-ASK 1 127.0.0.1:1\r\n",
    "NOSCRIPT without end": b"-NOSCRIPT no\r\n",
    "WRONGTYPE": b"-WRONGTYPE no\r\n",
    "results that are not kept": step_reply(failures=0),
    "a byte at a time": hostile.drip,
    "a text without end": hostile.flood,
    "silence": hostile.silent,
}


@pytest.fixture(scope="module")
def valkey() -> Iterator[Valkey]:
    with Valkey() as running:
        yield running


@pytest.fixture
def noted() -> Iterator[None]:
    """Warnings of damage come once a process: each test starts at zero."""
    damage_counts.counts.clear()
    yield
    damage_counts.counts.clear()


@pytest.mark.parametrize("kind", REFUSED)
def test_a_reply_that_no_script_makes_is_an_error_of_the_store(kind: str) -> None:
    """The step ends within its time, and with an error: to the process the store is away, and its own circuits decide."""
    with (
        HostileRedis(REFUSED[kind]) as server,
        closing(open_redis(f"{server.url}?socket_timeout=0.4")) as store,
    ):
        try:
            (found,) = store.step([SENT])
        except Exception as exc:  # noqa: BLE001 - any exception means that the store is away
            found = exc

    assert isinstance(found, Exception)


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"state": "open", "wait": FAR}, {"wait_ms": POLICY.longest_open_ms}),
        ({"cooldown": FAR}, {"cooldown_ms": POLICY.longest_cooldown_ms}),
        ({"state": "half_open", "wait": FAR}, {"wait_ms": round(1000 * POLICY.probe_lease)}),
        ({"ramp_ms": FAR, "admitted": FAR}, {"ramp_ms": 100, "admitted": 0}),
    ],
)
def test_a_reply_is_cut_to_the_policy(
    changed: dict[str, Any], expected: dict[str, int], noted: None, caplog: pytest.LogCaptureFixture
) -> None:
    """No reply stops calls for longer than the policy allows, and such a reply is warned of."""
    with HostileRedis(step_reply(**changed)) as server, closing(open_redis(server.url)) as store:
        (found,) = store.step([SENT])

    assert isinstance(found, StepReply)
    assert expected == {name: getattr(found, name) for name in expected}
    assert 1 == damage_counts.counts["circuit"]
    assert "that this package did not write" in caplog.text


def test_an_error_of_the_server_shows_no_password(caplog: pytest.LogCaptureFixture) -> None:
    """A server may repeat what it was sent, with control characters. The log line is short, masked and plain."""
    words = (
        b"-ERR with args `default` `hunter2pw`, \x1b[2J key sk-live-0123456789abcdefghij "
        + b"x" * 5000
        + b"\r\n"
    )
    with HostileRedis(words) as server:
        breaker = Breaker(open_redis(server.url.replace("://", "://default:hunter2pw@")), POLICY)
        breaker.settle(asyncio.run(breaker.admit("A")), Outcome.FAILURE)
        breaker.flush(5.0)
        breaker.close()

    (line,) = [message for message in caplog.messages if "is away" in message]
    assert not any(text in line for text in ("hunter2pw", "\x1b", "sk-live-0123"))
    assert len(line) < 500


@pytest.mark.parametrize("play", [hostile.drip, hostile.flood, step_reply(failures=0)])
async def test_callers_do_not_notice(play: Any) -> None:
    """A client that is down is refused by the circuit of the process, and the process says that it is alone."""
    with HostileRedis(play) as server:
        breaker = Breaker(open_redis(f"{server.url}?socket_timeout=0.4"), POLICY)
        refused = False
        for _ in range(3000):
            try:
                breaker.settle(await breaker.admit("Down"), Outcome.FAILURE, reason="timeout")
            except CircuitOpenError:
                refused = True
            if refused and breaker.degraded:
                break
            await asyncio.sleep(0.01)
        degraded = breaker.degraded
        await asyncio.to_thread(breaker.close)

    assert (True, True) == (refused, degraded)


class TestPlanted:
    """Keys that another program wrote, in a server that works."""

    @pytest.mark.parametrize(
        ("field", "text"),
        [
            ("epoch", "1" + "0" * 30),
            ("epoch", "-5"),
            ("epoch", "nan"),
            ("state", "ajar"),
            ("state_until", "9" * 18),
            ("cooldown_until", str(FAR)),
            ("cooldown_until", "1e20"),
            ("successes", "-100"),
            ("open_count", "-3"),
            ("leases", "x=" + "9" * 20),
            ("buckets", "a,b,c,d,e"),
            ("budget_used_at", str(FAR)),
            ("reason", "x" * 4_000_000),
            ("reason", "\udcff\udcfe"),
            ("at", "9" * 17),
        ],
    )
    def test_a_circuit_works_on(self, valkey: Valkey, noted: None, field: str, text: str) -> None:
        """Whatever stands in one field, the circuit opens on failures and is usable after its longest opening."""
        with valkey.looking() as client, closing(valkey.store()) as store:
            client.flushall()
            client.hset("resilience:{A}:v2", field, text.encode("utf-8", "surrogateescape"))
            (before,) = store.step([StepRequest(client="A", policy=POLICY)])
            assert isinstance(before, StepReply)
            failures = Batch(before.epoch, ((Outcome.FAILURE, 30),), "", "timeout")
            (after,) = store.step([StepRequest(client="A", policy=POLICY, batches=(failures,))])

        assert isinstance(after, StepReply)
        assert CircuitState.OPEN is after.state
        assert 0 < after.wait_ms <= POLICY.longest_open_ms
        assert after.cooldown_ms <= POLICY.longest_cooldown_ms
        assert damage_counts.counts["circuit"] or field == "reason"

    @pytest.mark.parametrize("key", ["resilience:{A}:v2", "resilience:{A}:log", "resilience:circuits"])
    def test_a_key_of_another_kind_is_an_error(self, valkey: Valkey, key: str) -> None:
        """A step that changes the circuit needs all three keys: an error in any is one of the store."""
        with valkey.looking() as client, closing(valkey.store()) as store:
            client.flushall()
            client.set(key, "mine")
            failures = Batch(0, ((Outcome.FAILURE, 30),), "", "timeout")
            try:
                (found,) = store.step([StepRequest(client="A", policy=POLICY, batches=(failures,))])
            except Exception as exc:  # noqa: BLE001 - as above
                found = exc

        assert isinstance(found, Exception)

    def test_entries_of_the_log_are_skipped_and_counted(
        self, valkey: Valkey, noted: None, caplog: pytest.LogCaptureFixture
    ) -> None:
        """One planted entry hides no other: a time in the year 3 billion, a negative one, a count that no column holds."""
        good: dict[Any, Any] = {
            "epoch": 5, "at_ms": 1_700_000_000_000, "from_state": "closed", "to_state": "open",
            "rule": "failure_rate", "reason": "timeout", "actor": "", "calls": 9, "failures": 9, "wait_ms": 10_000,
        }  # fmt: skip
        planted: list[dict[Any, Any]] = [
            {"at_ms": "1e20"},
            {"at_ms": 10**20},
            {"at_ms": -1},
            {"at_ms": YEAR_9999 + 1},
            {"epoch": 2**63},
            {"epoch": -1},
            {"calls": 2**40},
            {"wait_ms": 10**18},
            {"reason": "x" * 5000},
            {"to_state": "ajar"},
            {"rule": "whim"},
        ]
        with valkey.looking() as client, closing(valkey.store()) as store:
            client.flushall()
            client.sadd("resilience:circuits", "A")
            client.xadd("resilience:{A}:log", good)
            for change in planted:
                client.xadd("resilience:{A}:log", {**good, **change})
            client.xadd("resilience:{A}:log", {"nothing": "x"})
            client.xadd("resilience:{A}:log", {**good, "epoch": 6})

            with caplog.at_level(logging.WARNING):
                log = store.transitions()
            again = store.transitions(log[-1].cursor)

        assert ([5, 6], []) == ([move.epoch for move in log], again)
        assert len(planted) + 1 == damage_counts.counts["transition"]
        assert "has a transition of A that this package did not write" in caplog.text
