"""The entry that switches a retry_policy off: when it is proven, what is remembered of it, and what is not."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

import pytest

from resilience.baml.attempt import SyncAttempt
from resilience.baml.declarations import read_declarations
from resilience.baml.inner_retries import _PROOFS, SingleAttempts

PROJECT = """
retry_policy Thrice { max_retries 2 }
client<llm> Eager {
  provider openai
  retry_policy Thrice
  options { api_key env.EAGER_KEY model "m" }
}
"""


class Request:
    """A request as `b.request` returns it."""

    method, url = "POST", "http://localhost"
    headers: Mapping[str, str] = {}

    @property
    def body(self) -> Any:
        """A body with the same content each time."""
        return type("Body", (), {"json": lambda _: {"model": "m"}})()


class Build:
    """`b.request.X` that counts, and raises what its script says."""

    def __init__(self, *errors: Exception | None) -> None:
        self.errors = list(errors)
        self.options: list[dict[str, Any]] = []

    async def __call__(self, *_: Any, baml_options: dict[str, Any]) -> Request:
        self.options.append(baml_options)
        error = self.errors.pop(0) if self.errors else None
        if error is not None:
            raise error
        return Request()


@pytest.fixture
def single() -> SingleAttempts:
    return SingleAttempts(read_declarations([PROJECT]).clients)


async def registry(single: SingleAttempts, build: Build, **options: Any) -> Any:
    return await single.registry("Eager", build, ("x",), {}, options, is_named=False)


async def test_a_key_is_not_remembered(single: SingleAttempts) -> None:
    """The proof is remembered for the environment, whose API key is in no attribute."""
    env = {"EAGER_KEY": "sk-canary-of-a-tenant"}
    build = Build()

    assert await registry(single, build, env=env) is not None
    assert await registry(single, build, env=env) is not None
    assert 2 == len(build.options)
    assert "canary" not in repr([getattr(single, name) for name in single.__slots__])


async def test_proofs_do_not_grow_without_limit(single: SingleAttempts) -> None:
    """A key per tenant: the number of remembered proofs is bounded, and a forgotten one is made again."""
    for tenant in range(_PROOFS + 2):
        assert await registry(single, Build(), env={"EAGER_KEY": f"key {tenant}"}) is not None

    assert len(single._proven) <= _PROOFS


async def test_a_call_with_wrong_arguments_proves_nothing(
    single: SingleAttempts, caplog: pytest.LogCaptureFixture
) -> None:
    """BAML builds no request for a wrong argument. That call keeps the policy, the next one does without it."""
    env = {"EAGER_KEY": "key"}

    assert await registry(single, Build(TypeError("wrong argument")), env=env) is None
    assert await registry(single, Build(), env=env) is not None
    assert [] == caplog.messages


async def test_an_entry_that_cannot_be_built_keeps_the_policy(
    single: SingleAttempts, caplog: pytest.LogCaptureFixture
) -> None:
    """If BAML refuses the entry, the policy stays on, without asking again, and one warning says so."""
    env, build = {"EAGER_KEY": "key"}, Build(None, ValueError("unknown option"))

    assert await registry(single, build, env=env) is None
    assert await registry(single, build, env=env) is None
    assert 2 == len(build.options)
    assert 1 == len([line for line in caplog.messages if "keeps its retry_policy" in line])


async def test_a_type_builder_is_part_of_both_requests(single: SingleAttempts) -> None:
    """`tb` and `env` of the call shape both requests that are compared; a collector of the caller sees neither."""
    build = Build()
    builder, env = object(), {"EAGER_KEY": "key"}

    await registry(single, build, env=env, tb=builder, collector=object())

    assert [builder, builder] == [options["tb"] for options in build.options]
    assert [env, env] == [options["env"] for options in build.options]
    assert all("collector" not in options for options in build.options)


def test_a_blocking_attempt_can_be_left_before_it_begins() -> None:
    """A thread that is late asks nothing, and leaves the collector of the next attempt alone."""
    asked: list[Any] = []

    def ask(*_: Any, baml_options: dict[str, Any]) -> str:
        asked.append(baml_options)
        return "answer"

    attempt = SyncAttempt(ask, "A", {})
    late = attempt.begin()
    attempt.abort()
    following = attempt.begin()

    assert "answer" == following()
    collector = attempt._collector
    with pytest.raises(RuntimeError, match="left before it began"):
        late()
    assert 1 == len(asked)
    assert collector is attempt._collector


def test_a_blocking_attempt_that_was_left_keeps_its_own_collector() -> None:
    """What a left attempt used is not taken for what the next attempt used."""
    may_end, began = threading.Event(), threading.Event()

    def ask(*_: Any, baml_options: dict[str, Any]) -> str:
        if not began.is_set():
            began.set()
            assert may_end.wait(240)
        return "answer"

    attempt = SyncAttempt(ask, "A", {})
    left = threading.Thread(target=attempt.begin())
    left.start()
    assert began.wait(240)
    attempt()
    usage = attempt.usage()
    may_end.set()
    left.join(240)

    assert usage is attempt.usage()
