"""Streams of scripted clients, async and blocking, alone and guarded."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import pytest

from resilience import BAMLErrorHandler, RetryPolicy, Settings, protect
from resilience.baml import source
from resilience.errors import AttemptTimeoutError, StreamCutError, StreamStalledError
from resilience.testing import Hang, Pause, ScriptedBAML, ScriptedSyncBAML, Snapshots, Truncate

TALE = ("Once", "Once upon", "Once upon a time")


@pytest.fixture
def make() -> Iterator[Callable[..., BAMLErrorHandler]]:
    handlers: list[BAMLErrorHandler] = []

    def build(**retry: Any) -> BAMLErrorHandler:
        policy = RetryPolicy(initial_delay=0.0, max_delay=0.0, **retry)
        settings = Settings(store_url="memory://", privacy="off")
        handlers.append(BAMLErrorHandler(settings=settings, retry=policy))
        return handlers[-1]

    yield build
    for handler in handlers:
        handler.close()


async def read(stream: Any) -> list[Any]:
    return [snapshot async for snapshot in stream]


# --- alone ------------------------------------------------------------------------------------------------------------


async def test_a_stream_shows_its_snapshots() -> None:
    """Snapshots come in order, with pauses between them; the last one is the final response unless another is given."""
    baml = ScriptedBAML(Tell=[Snapshots("Once", Pause(0.02), *TALE[1:]), Snapshots("a", final="b"), "answer"])

    stream = baml.stream.Tell("x", baml_options={"tags": {"a": "b"}})
    assert list(TALE) == await read(stream)
    assert [] == await read(stream)
    assert TALE[-1] == await stream.get_final_response()
    assert "b" == await baml.stream.Tell().get_final_response()
    assert ["answer"] == await read(baml.stream.Tell())
    assert [("x",), (), ()] == [call.args for call in baml.calls]
    assert {"tags": {"a": "b"}} == baml.calls[0].options


def test_a_blocking_stream_shows_its_snapshots() -> None:
    """The double of a sync client is used with `for`, and its functions return at once."""
    baml = ScriptedSyncBAML(Tell=[Snapshots(*TALE), Snapshots(*TALE), "answer", ValueError("no")])

    stream = baml.stream.Tell()
    assert list(TALE) == list(stream)
    assert TALE[-1] == stream.get_final_response()
    assert (TALE[-1], "answer") == (baml.Tell(), baml.Tell())
    with pytest.raises(ValueError, match="no"):
        baml.Tell()


async def test_a_fault_ends_the_iteration_quietly() -> None:
    """As with BAML, only the final response raises; a cut stream raises what a guarded one would."""
    baml = ScriptedBAML(
        Tell=[Snapshots("Once", ConnectionError), Snapshots("Once", Truncate()), lambda: 1 / 0]
    )

    failed, cut, broken = (baml.stream.Tell() for _ in range(3))
    assert [["Once"], ["Once"]] == [await read(failed), await read(cut)]
    with pytest.raises(ConnectionError):
        await failed.get_final_response()
    with pytest.raises(StreamCutError):
        await cut.get_final_response()
    with pytest.raises(ZeroDivisionError):
        await broken.get_final_response()


async def test_a_callable_makes_a_stream() -> None:
    """A callable gets the arguments and may return, or return in time, what is streamed."""

    async def later(word: str) -> Snapshots:
        return Snapshots(word, word * 2)

    baml = ScriptedBAML(Tell=later)

    assert ["a", "aa"] == await read(baml.stream.Tell("a"))
    assert "aa" == await baml.Tell("a")


# --- guarded ----------------------------------------------------------------------------------------------------------


async def test_a_guarded_stream_is_played(make: Any) -> None:
    """A cut stream is asked for again, and the reader sees the restart."""
    baml = ScriptedBAML(Tell=[Snapshots("Once", ConnectionError("reset")), Snapshots(*TALE)])

    stream = protect(baml, make()).stream.Tell("x")

    assert TALE[-1] == (await read(stream))[-1]
    assert 2 == stream.attempt
    assert [("x",)] * 2 == [call.args for call in baml.calls]


def test_a_guarded_blocking_stream_is_played(make: Any) -> None:
    """The double of a sync client behaves as a generated one does: snapshots, restarts, final response, functions."""
    baml = ScriptedSyncBAML(Tell=[Snapshots("Once", ConnectionError("reset")), Snapshots(*TALE), "answer"])
    guarded = protect(baml, make())

    stream = guarded.stream.Tell("x")

    assert TALE[-1] == list(stream)[-1]
    assert (TALE[-1], 2) == (stream.get_final_response(), stream.attempt)
    assert "answer" == guarded.Tell("x", "y")
    assert [("x",), ("x",), ("x", "y")] == [call.args for call in baml.calls]


@pytest.mark.parametrize("kind", [ScriptedBAML, ScriptedSyncBAML])
@pytest.mark.parametrize(
    ("script", "error"),
    [
        (Snapshots(Hang()), AttemptTimeoutError),
        (Snapshots("Once", Hang()), StreamStalledError),
        (Snapshots("Once", Truncate()), StreamCutError),
    ],
)
async def test_limits_of_a_guarded_stream_are_played(
    make: Any, kind: type[ScriptedBAML], script: Snapshots, error: type[Exception]
) -> None:
    """Silence before and after the first snapshot reaches the limit that it should, and the double is left."""
    handler = make(max_retries=0, first_token_timeout=0.3, stall_timeout=0.3)
    stream = protect(kind(Tell=script), handler).stream.Tell()

    with pytest.raises(Exception) as raised:  # noqa: PT011 - compared below
        await stream.get_final_response() if kind is ScriptedBAML else stream.get_final_response()

    assert error is type(raised.value)


async def test_snapshots_put_the_stall_off(make: Any) -> None:
    """Each snapshot starts the clock again: a double has no events to go by."""
    baml = ScriptedBAML(Tell=Snapshots(*(step for n in range(8) for step in (n, Pause(0.2)))))
    handler = make(max_retries=0, stall_timeout=1.5)

    assert 7 == await protect(baml, handler).stream.Tell().get_final_response()


def test_under_gevent_streams_of_sync_clients_stay_as_they_are(
    make: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Where threads are greenlets, no event loop can run beside the caller: the stream is the client's own, with a warning."""
    gevent = ModuleType("gevent.monkey")
    vars(gevent)["is_module_patched"] = lambda name: name == "threading"
    monkeypatch.setitem(sys.modules, "gevent.monkey", gevent)
    source._warn_of_greenlets.cache_clear()

    blocking = protect(ScriptedSyncBAML(Tell="answer"), make()).stream.Tell()
    asynchronous = protect(ScriptedBAML(Tell="answer"), make()).stream.Tell()

    assert (False, True) == (hasattr(blocking, "restarts"), hasattr(asynchronous, "restarts"))
    assert ["answer"] == list(blocking)
    assert 1 == caplog.text.count("not guarded under gevent")
