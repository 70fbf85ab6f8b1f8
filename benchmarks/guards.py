"""The breakers that are measured side by side: ours, and those rivals that keep circuits in Redis and are installed.

Rivals come with the dependency group `bench`: `uv run --group bench python -m benchmarks.fleet`. They are imported by name, so that
one that is missing is left out, and each is given the settings that come nearest to ours.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final, Protocol

from resilience.breaker import Breaker, BreakerPolicy, Outcome
from resilience.breaker.stores.redis import open_redis
from resilience.clock import SystemClock
from resilience.errors import CircuitOpenError

Work = Callable[[], Awaitable[None]]
"""The guarded call: raises `Down` when the dependency is down."""
ENDLESS: Final = 1_000_000


class Down(Exception):  # noqa: N818 - what the dependency says, not what we say of it
    """The dependency did not answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """One circuit of a benchmark.

    Attributes:
        url: the Redis.
        circuit: the name of the circuit, new for each measurement.
        failures: number of failures in a row that opens it.
        open_for: seconds it stays open.
        probes: calls allowed in half-open, and successes that close it.
        lease: seconds after which a probe that is not heard of is given up, where the guard knows such a thing.
        staleness: our `max_staleness`.
        clock_off: seconds by which the clocks that our guard reads are wrong in this process.
    """

    url: str
    circuit: str
    failures: int = ENDLESS
    open_for: float = 2.0
    probes: int = 1
    lease: float = 60.0
    staleness: float = 0.25
    clock_off: float = 0.0


class Guard(Protocol):
    """A breaker around one dependency, in one process."""

    refusals: tuple[type[BaseException], ...]

    async def warm(self) -> None:
        """Connect, without touching the circuit."""

    async def call(self, work: Work) -> None:
        """Make one guarded call; raises one of `refusals` without calling when the circuit is open."""

    async def close(self) -> None:
        """Let go of everything."""


class WrongClock(SystemClock):
    """The machine's clocks, wrong by a number of seconds."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def monotonic(self) -> float:
        """Seconds that never go back."""
        return super().monotonic() + self._seconds

    def time(self) -> float:
        """Seconds since the epoch, wrong."""
        return super().time() + self._seconds


class Resilience:
    """This package's breaker, as the execution of a call uses it."""

    refusals: tuple[type[BaseException], ...] = (CircuitOpenError,)

    def __init__(self, rules: Rules) -> None:
        self._circuit = rules.circuit
        policy = BreakerPolicy(
            consecutive_failures=rules.failures,
            min_calls=ENDLESS,
            open_for=rules.open_for,
            open_growth=1.0,
            open_jitter=0.0,
            half_open_probes=rules.probes,
            successes_to_close=rules.probes,
            probe_lease=rules.lease,
            max_staleness=rules.staleness,
        )
        self.breaker = Breaker(open_redis(rules.url), policy, clock=WrongClock(rules.clock_off))

    async def warm(self) -> None:
        """Read another circuit."""
        await self.breaker.admit(f"{self._circuit}-warm")

    async def call(self, work: Work) -> None:
        """Admit, work, settle."""
        permit = await self.breaker.admit(self._circuit)
        outcome = Outcome.IGNORED
        try:
            await work()
            outcome = Outcome.SUCCESS
        except Down:
            outcome = Outcome.FAILURE
            raise
        finally:
            self.breaker.settle(permit, outcome, reason="overloaded")

    async def close(self) -> None:
        """Tell what is left."""
        self.breaker.close()


class PyBreaker:
    """pybreaker: its own async calls need tornado, so the context manager is used, which counts the same."""

    def __init__(self, rules: Rules) -> None:
        library, redis = importlib.import_module("pybreaker"), importlib.import_module("redis")
        self.refusals: tuple[type[BaseException], ...] = (library.CircuitBreakerError,)
        self._redis = redis.Redis.from_url(rules.url)
        storage = library.CircuitRedisStorage("closed", self._redis, namespace=rules.circuit)
        self._breaker = library.CircuitBreaker(
            fail_max=rules.failures,
            reset_timeout=rules.open_for,
            success_threshold=rules.probes,
            state_storage=storage,
        )

    async def warm(self) -> None:
        """Its storage connected when it was made."""

    async def call(self, work: Work) -> None:
        """One call."""
        with self._breaker.calling():
            await work()

    async def close(self) -> None:
        """Disconnect."""
        self._redis.close()


class AIOBreaker:
    """aiobreaker."""

    def __init__(self, rules: Rules) -> None:
        library, redis = importlib.import_module("aiobreaker"), importlib.import_module("redis")
        stores = importlib.import_module("aiobreaker.storage.redis")
        self.refusals: tuple[type[BaseException], ...] = (library.CircuitBreakerError,)
        self._redis = redis.Redis.from_url(rules.url)
        closed = library.CircuitBreakerState.CLOSED
        self._breaker = library.CircuitBreaker(
            fail_max=rules.failures,
            timeout_duration=timedelta(seconds=rules.open_for),
            state_storage=stores.CircuitRedisStorage(closed, self._redis, namespace=rules.circuit),
        )

    async def warm(self) -> None:
        """Its storage connected when it was made."""

    async def call(self, work: Work) -> None:
        """One call."""
        await self._breaker.call_async(work)

    async def close(self) -> None:
        """Disconnect."""
        self._redis.close()


class Purgatory:
    """purgatory, asynchronous."""

    def __init__(self, rules: Rules) -> None:
        library = importlib.import_module("purgatory")
        model = importlib.import_module("purgatory.domain.model")
        self.refusals: tuple[type[BaseException], ...] = (model.OpenedState,)
        self._circuit = rules.circuit
        self._unit = library.AsyncRedisUnitOfWork(rules.url)
        self._factory = library.AsyncCircuitBreakerFactory(
            default_threshold=rules.failures, default_ttl=rules.open_for, uow=self._unit
        )

    async def warm(self) -> None:
        """Connect, and make the circuit."""
        await self._factory.initialize()
        await self._factory.get_breaker(self._circuit)

    async def call(self, work: Work) -> None:
        """One call."""
        async with await self._factory.get_breaker(self._circuit):
            await work()

    async def close(self) -> None:
        """Disconnect."""
        await self._unit.contexts.redis.aclose()


class Interlock:
    """interlock-cb: knows rates only, so it opens at half of as many calls as we have failures in a row."""

    def __init__(self, rules: Rules) -> None:
        library = importlib.import_module("interlock")
        redis = importlib.import_module("redis.asyncio")
        stores = importlib.import_module("interlock.integrations.redis")
        self.refusals: tuple[type[BaseException], ...] = (library.CircuitOpenError,)
        self._redis = redis.Redis.from_url(rules.url)
        self._breaker = library.CircuitBreaker(
            name=rules.circuit,
            config=library.Config(
                minimum_number_of_calls=rules.failures,
                permitted_calls_in_half_open=rules.probes,
                max_concurrent_probes=rules.probes,
                wait_duration_in_open=rules.open_for,
                window_size=max(100, min(rules.failures, 1000)),
            ),
            storage=stores.AsyncRedisStorage(self._redis, state_ttl=max(2.0, rules.lease)),
        )

    async def warm(self) -> None:
        """Connect."""
        await self._redis.ping()

    async def call(self, work: Work) -> None:
        """One call."""
        async with self._breaker:
            await work()

    async def close(self) -> None:
        """Stop its poll and disconnect."""
        await self._breaker.aclose()
        await self._redis.aclose()


OURS: Final = "resilience"
GUARDS: Final[dict[str, tuple[str, Callable[[Rules], Any]]]] = {
    OURS: ("resilience", Resilience),
    "pybreaker": ("pybreaker", PyBreaker),
    "purgatory": ("purgatory", Purgatory),
    "aiobreaker": ("aiobreaker", AIOBreaker),
    "interlock-cb": ("interlock", Interlock),
}
"""By name: the module it is found by, and how to make one."""
LEASING: Final = (OURS, "interlock-cb")
"""Those that lend probes; the others let everybody probe."""


def installed() -> list[str]:
    """Those that can be measured here."""
    return [name for name, (module, _) in GUARDS.items() if importlib.util.find_spec(module) is not None]


def missing() -> str:
    """One line on those that cannot, and how to get them; empty when all are here."""
    absent = ", ".join(name for name in GUARDS if name not in installed())
    return absent and f"not installed, so not measured: {absent} (uv run --group bench ...)"


def make(name: str, rules: Rules) -> Guard:
    """Return the guard of this name."""
    guard: Guard = GUARDS[name][1](rules)
    return guard
