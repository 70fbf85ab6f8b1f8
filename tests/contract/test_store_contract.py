"""What every store of circuits must do: one suite for all of them. A new store is one line in STORES."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from resilience.breaker import BreakerPolicy, CircuitState, Cooldown, Operation, Outcome, Store, open_store
from resilience.breaker.messages import Batch, Order, StepReply, StepRequest
from resilience.breaker.state import to_mapping
from resilience.breaker.stores.memory import MemoryStore
from resilience.breaker.stores.redis import RedisStore
from resilience.breaker.stores.sqlite import SQLiteStore
from resilience.clock import Clock
from resilience.errors import ConfigurationError
from resilience.testing import ManualClock

STORES: dict[str, Callable[[Path, Clock], Store]] = {
    "memory": lambda _, clock: MemoryStore(clock=clock),
    "sqlite": lambda folder, clock: SQLiteStore(folder / "circuits.db", clock=clock),
}
POLICY = BreakerPolicy(open_for=30.0, open_growth=2.0, open_max=300.0, open_jitter=0.0)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture(params=sorted(STORES))
def store(request: pytest.FixtureRequest, tmp_path: Path, clock: ManualClock) -> Iterator[Store]:
    made = STORES[request.param](tmp_path, clock)
    yield made
    made.close()


def ask(store: Store, client: str = "A", **request: Any) -> StepReply:
    (reply,) = store.step([StepRequest(client=client, policy=POLICY, **request)])
    assert isinstance(reply, StepReply)
    return reply


def report(store: Store, outcome: Outcome, count: int = 1, client: str = "A", **batch: Any) -> StepReply:
    batch.setdefault("epoch", ask(store, client).epoch)
    return ask(store, client, batches=(Batch(runs=((outcome, count),), **batch),))


def test_an_unknown_circuit_is_closed(store: Store) -> None:
    """A circuit without results is closed in epoch 0, and asking for it does not create it."""
    reply = ask(store)

    assert (reply.state, reply.epoch, reply.granted) == (CircuitState.CLOSED, 0, False)
    assert store.names() == []
    assert store.transitions() == []


def test_results_are_kept(store: Store) -> None:
    """Results of one step are seen by the next."""
    report(store, Outcome.SUCCESS, 3)
    report(store, Outcome.FAILURE, 2)

    assert (ask(store).successes, ask(store).failures, ask(store).streak) == (3, 2, 2)
    assert store.names() == ["A"]


def test_replies_come_in_the_order_of_requests(store: Store) -> None:
    """One reply a request, in order, also for two requests of one client."""
    requests = [
        StepRequest(client="B", policy=POLICY),
        StepRequest(client="A", policy=POLICY, batches=(Batch(0, ((Outcome.FAILURE, 5),), "", "network"),)),
        StepRequest(client="A", policy=POLICY),
        StepRequest(client="B", policy=POLICY, batches=(Batch(0, ((Outcome.FAILURE, 1),)),)),
    ]
    replies = store.step(requests)

    assert [(reply.state.value, reply.failures) for reply in replies if isinstance(reply, StepReply)] == [
        ("closed", 0),
        ("open", 0),
        ("open", 0),
        ("closed", 1),
    ]


def test_circuits_do_not_touch_each_other(store: Store) -> None:
    """One circuit that opens leaves the others closed, whatever their names look like."""
    names = ["A", "a", "A;b=1", "Ä/{x}", "'; DROP TABLE circuits; --"]
    for name in names[1:]:
        report(store, Outcome.FAILURE, 4, client=name)
    report(store, Outcome.FAILURE, 5)

    assert [ask(store, name).state.value for name in names] == ["open", *["closed"] * 4]
    assert [ask(store, name).failures for name in names[1:]] == [4] * 4
    assert store.names() == sorted(names)


def test_the_whole_life_of_a_circuit(store: Store, clock: ManualClock) -> None:
    """Open, one probe, re-opened for longer, one probe, closed: with every transition logged once."""
    report(store, Outcome.FAILURE, 5, reason="overloaded")
    clock.advance(30)
    assert [ask(store, token=token).granted for token in ("t1", "t2")] == [True, False]
    assert report(store, Outcome.FAILURE, token="t1", reason="timeout").wait_ms == 60_000  # noqa: S106 - a lease's name
    clock.advance(60)
    assert ask(store, token="t3").granted is True  # noqa: S106 - a lease's name
    report(store, Outcome.SUCCESS, token="t3")  # noqa: S106 - a lease's name
    log = store.transitions()

    assert [(move.to_state.value, move.rule.value, move.reason) for move in log] == [
        ("open", "consecutive_failures", "overloaded"),
        ("half_open", "lapsed", "overloaded"),
        ("open", "probe", "timeout"),
        ("half_open", "lapsed", "timeout"),
        ("closed", "probe", "timeout"),
    ]
    assert [move.epoch for move in log] == sorted({move.epoch for move in log})
    assert (log[0].calls, log[0].failures, log[0].client, log[0].wait_ms) == (5, 5, "A", 30_000)
    assert log[0].at_ms == round(1000 * clock.time()) - 90_000


def test_a_forgotten_circuit_is_gone(store: Store) -> None:
    """Its name and its state are gone, once; the other circuits and the log stay; used again it begins closed."""
    fail = Batch(0, ((Outcome.FAILURE, 5),), "", "timeout")
    store.step([StepRequest(client=name, policy=POLICY, batches=(fail,)) for name in ("A", "B")])

    assert [True, False] == [store.forget("A"), store.forget("A")]
    assert ["B"] == store.names()
    (reply,) = store.step([StepRequest(client="A")])
    assert isinstance(reply, StepReply)
    assert (CircuitState.CLOSED, 0) == (reply.state, reply.epoch)
    assert "B" in {transition.client for transition in store.transitions()}


def test_the_log_is_read_from_a_cursor(store: Store) -> None:
    """A reader continues where it stopped, over all clients, and reads nothing twice."""
    for client in "ABC":
        report(store, Outcome.FAILURE, 5, client=client)
    first, *rest = store.transitions()

    assert [move.client for move in (first, *rest)] == ["A", "B", "C"]
    assert store.transitions(first.cursor) == rest
    assert store.transitions(rest[-1].cursor) == []


def test_the_log_is_capped(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A circuit that flaps for years does not fill the disk: the oldest transitions are dropped."""
    monkeypatch.setattr("resilience.breaker.stores.sqlite.LOG_LENGTH", 10)
    if isinstance(store, MemoryStore):
        store = _with_short_log(store)
    for n in range(25):
        operation = Operation.OPEN if n % 2 else Operation.CLOSE
        ask(store, order=Order(operation=operation, actor="ann", reason=str(n)))
        ask(store, "B", order=Order(operation=Operation.DISABLE, actor="ann"))
    log = store.transitions()

    assert len(log) == 10
    assert log[-2].reason == "24"


def test_cool_downs_and_orders_are_kept(store: Store, clock: ManualClock) -> None:
    """Cool-downs and orders are still there in later steps."""
    ask(store, cooldowns=((0, Cooldown(seconds=40.0, max_seconds=300.0, reason="rate_limit")),))
    ask(store, "B", order=Order(operation=Operation.OPEN, actor="ann", reason="bill", seconds=600.0))
    clock.advance(10)

    assert (ask(store).cooldown_ms, ask(store).cooldown_reason) == (30_000, "rate_limit")
    reply = ask(store, "B")
    assert (reply.state.value, reply.actor, reply.reason, reply.wait_ms) == (
        "forced_open",
        "ann",
        "bill",
        590_000,
    )


def test_reading_writes_nothing(store: Store, clock: ManualClock) -> None:
    """Without a policy a step only reads: not even an override whose time is over is ended."""
    ask(store, order=Order(operation=Operation.OPEN, actor="ann", seconds=5.0))
    clock.advance(10)
    (reply,) = store.step([StepRequest(client="A")])

    assert isinstance(reply, StepReply)
    assert reply.state is CircuitState.CLOSED
    assert len(store.transitions()) == 1
    ask(store)
    assert len(store.transitions()) == 2


def test_a_clock_that_goes_back_prolongs_nothing(store: Store, clock: ManualClock) -> None:
    """After the machine's clock was set back a day, an opening ends when it would have ended."""
    report(store, Outcome.FAILURE, 5)
    clock._epoch -= 86_400
    assert ask(store).wait_ms == 30_000
    clock.advance(30)

    assert ask(store, token="t1").granted is True  # noqa: S106 - a lease's name


def test_a_disconnected_store_connects_again(store: Store) -> None:
    """Disconnecting before a fork forgets nothing; closing twice is harmless."""
    report(store, Outcome.FAILURE, 3)
    store.disconnect()
    assert ask(store).failures == 3
    store.close()
    store.close()


def test_old_circuits_stay_small(store: Store, clock: ManualClock) -> None:
    """A circuit has at most 15 fields and 2 KiB, after hours of results, probes and cool-downs."""
    for n in range(300):
        report(store, Outcome.FAILURE if n % 3 else Outcome.SLOW_SUCCESS, 1000, reason="timeout")
        ask(store, token=f"{n:016x}")
        ask(
            store,
            cooldowns=(
                (
                    ask(store).epoch,
                    Cooldown(seconds=1.0, max_seconds=9.0, doubling=True, reason="authentication"),
                ),
            ),
        )
        clock.advance(7)
        if isinstance(store, MemoryStore):
            mapping = to_mapping(store._circuits["A"])
            assert len(mapping) <= 15
            assert sum(len(name) + len(text) for name, text in mapping.items()) <= 2048
    assert store.names() == ["A"]


@pytest.mark.parametrize(
    "url",
    ["memcached://localhost", "sqlite://", "sqlite:///", "sqlite:///:memory:", "circuits.db", "memory", ""],
)
def test_other_urls_are_refused_with_what_is_supported(url: str) -> None:
    """A URL without a store is a configuration error that lists the supported schemes."""
    with pytest.raises(ConfigurationError, match=r"memory://, sqlite:///path/to/file, redis://"):
        open_store(url)


def test_urls_name_their_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three slashes are relative to the working directory at the time, four are absolute; nothing is created yet."""
    monkeypatch.chdir(tmp_path)
    relative, absolute = (
        open_store("sqlite:///here/circuits.db"),
        open_store(f"sqlite:///{tmp_path}/there.db?timeout=3"),
    )
    assert isinstance(open_store("memory://"), MemoryStore)
    assert isinstance(open_store("valkey://localhost"), RedisStore)
    assert isinstance(relative, SQLiteStore)
    assert isinstance(absolute, SQLiteStore)
    assert list(tmp_path.iterdir()) == []
    monkeypatch.chdir("/")
    for store in (relative, absolute):
        ask(store)
        store.close()

    assert sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.db")) == [
        "here/circuits.db",
        "there.db",
    ]


def _with_short_log(store: MemoryStore) -> MemoryStore:
    store._log = type(store._log)(maxlen=10)
    return store
