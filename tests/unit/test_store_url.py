"""The URL of a store is understood in one place: its kind, its file, who shares it, how it is shown."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from resilience.breaker import StoreKind, StoreUrl
from resilience.breaker.local.sync_worker import StoreSyncWorker
from resilience.breaker.stores.memory import MemoryStore
from resilience.breaker.stores.namespaced import NamespacedStore
from resilience.breaker.stores.redis import RedisStore
from resilience.breaker.stores.sqlite import SQLiteStore
from resilience.clock import Clock, SystemClock
from resilience.config.settings import Settings
from resilience.errors import ConfigurationError


@pytest.mark.parametrize(
    ("url", "kind", "path", "shared"),
    [
        ("memory://", StoreKind.MEMORY, None, False),
        ("sqlite:///circuits.db", StoreKind.FILE, Path("circuits.db"), True),
        ("sqlite:////var/lib/circuits.db?mode=rw", StoreKind.FILE, Path("/var/lib/circuits.db"), True),
        ("sqlite:///~/circuits.db", StoreKind.FILE, Path.home() / "circuits.db", True),
        ("redis://localhost", StoreKind.REDIS, None, True),
        ("valkeys+cluster://one,two", StoreKind.REDIS, None, True),
        ("unix:///run/redis.sock", StoreKind.REDIS, None, True),
    ],
)
def test_a_url_says_what_the_store_is(url: str, kind: StoreKind, path: Path | None, shared: bool) -> None:  # noqa: FBT001 - a parameter of the test
    """Kind and file follow from the URL alone, and only memory belongs to one process."""
    store_url = StoreUrl.parse(url)

    assert (kind, path, shared) == (store_url.kind, store_url.path, store_url.shared)
    assert shared == store_url.open().shared


@pytest.mark.parametrize("url", ["", "sqlite://", "sqlite:///", "sqlite:///:memory:", "mongodb://host", "x"])
def test_a_url_without_a_store_names_those_that_have_one(url: str) -> None:
    """An unsupported URL is refused with the supported ones."""
    with pytest.raises(ConfigurationError, match=r"memory://, sqlite:///path/to/file, redis://"):
        StoreUrl.parse(url)


def test_no_password_is_shown() -> None:
    """Neither the repr nor the display form has the password of a URL."""
    store_url = StoreUrl.parse("redis://agents:hunter22222@cache.example:6380/3")

    assert "hunter22222" not in repr(store_url) + store_url.display
    assert "cache.example" in store_url.display


def test_a_missing_file_is_seen_and_not_created(tmp_path: Path) -> None:
    """Asking whether the file exists does not create it; other kinds of stores have no file to miss."""
    store_url = StoreUrl.parse(f"sqlite:///{tmp_path}/circuits.db")

    assert store_url.missing_file
    assert [] == list(tmp_path.iterdir())
    assert not StoreUrl.parse("memory://").missing_file


def test_a_namespace_is_a_prefix_where_the_store_has_none_of_its_own() -> None:
    """Redis puts the namespace into its keys. The other stores are wrapped, and stay shared or not."""
    memory, redis = StoreUrl.parse("memory://"), StoreUrl.parse("redis://localhost")

    assert isinstance(memory.open(), MemoryStore)
    assert isinstance(memory.open(namespace="blue"), NamespacedStore)
    assert not memory.open(namespace="blue").shared
    assert isinstance(StoreUrl.parse("sqlite:///c.db").open(), SQLiteStore)
    assert isinstance(redis.open(namespace="blue"), RedisStore)


def test_settings_choose_redis_before_the_file() -> None:
    """`redis_url` has precedence over `store_url`; with neither the circuits are in memory."""
    both = Settings(redis_url="redis://localhost", store_url="sqlite:///circuits.db")

    assert StoreKind.REDIS is both.circuit_store.kind
    assert StoreKind.FILE is Settings(store_url="sqlite:///circuits.db").circuit_store.kind
    assert StoreKind.MEMORY is Settings().circuit_store.kind


def test_the_driver_of_redis_is_left_to_the_sync_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """A handler's first call makes no Redis store on its own thread, which would import the driver there; a wrong URL is refused at once."""
    made: list[str] = []

    def make(_: StoreUrl, clock: Clock | None = None) -> MemoryStore:
        made.append(threading.current_thread().name)
        return MemoryStore(clock=clock)

    monkeypatch.setattr(StoreUrl, "open_whole", make)
    store = StoreUrl.parse("redis://localhost").open_lazy()
    view = store.in_namespace("blue")
    store.disconnect()
    view.close()
    assert made == []

    worker = StoreSyncWorker(store, clock=SystemClock(), sample=lambda: 0.5)
    namespace = worker.open(view)
    assert worker.submit(namespace, lambda opened: opened.names()).result(60) == []
    worker.close()
    assert made == ["resilience-sync"]
    with pytest.raises(ConfigurationError):
        StoreUrl.parse("redis://localhost?no_such_option=1").open_lazy()
