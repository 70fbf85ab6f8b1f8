"""Doubles of generated BAML clients that follow a script, without BAML and without a network."""

from __future__ import annotations

import inspect
from collections import deque
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from resilience.testing.scripted_stream import (
    ScriptedStream,
    ScriptedSyncStream,
    Snapshots,
    is_exception,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ScriptedCall:
    """One call of a `ScriptedBAML`.

    Attributes:
        function: the function that was called.
        args: its positional arguments.
        kwargs: its keyword arguments, without `baml_options`.
        options: `baml_options`, merged over the options of `with_options`.
    """

    function: str
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    options: Mapping[str, Any]


class ScriptedBAML:
    """An object with scripted async functions and streams.

    Example:
        baml = ScriptedBAML(GenerateHypothesis=[ConnectionError(), Hypothesis(...)])
        wrapper = BAMLWrapper(baml)
        stream = baml.stream.GenerateHypothesis(goal="...")

    A list or tuple is a script, with one step for each call. Any other value is the step of every call. A step is one of:

    - an exception, or an exception class: it is raised.
    - a callable: it gets the arguments of the call, and its result, awaited if it is awaitable, is the answer.
    - `Snapshots`: the snapshots of a stream, with silences and faults. Another answer is a stream of one snapshot.
    - anything else: it is the answer. An answer that is a list therefore needs a list around it.

    `baml.stream.X` takes its steps from the same script as `baml.X`. Like a generated client it has `with_options`, and its
    functions are attributes of its type.

    Args:
        **functions: the script of each function, by the function's name.

    Attributes:
        calls: all calls so far in order, including those through `with_options`.

    Raises:
        AssertionError: at a call, when the script of its function has ended.
    """

    calls: list[ScriptedCall]
    _blocking: ClassVar[bool] = False
    _scripts: dict[str, Any]
    _options: Mapping[str, Any]

    def __new__(cls, **functions: Any) -> Self:
        """Create a class with these functions, and its only instance.

        `protect` looks for async functions on the type, as a generated client has them; attributes of the instance would
        not be found.
        """
        make = _sync_function if cls._blocking else _function
        scripted: type[Self] = type(cls.__name__, (cls,), {name: make(name) for name in functions})
        self = object.__new__(scripted)
        self.calls = []
        self._options = {}
        self._scripts = {
            name: deque(script) if isinstance(script, list | tuple) else script
            for name, script in functions.items()
        }
        return self

    def __init__(self, **functions: Any) -> None:
        """Do nothing: `__new__` has set everything."""

    def __getattr__(self, name: str) -> Any:
        scripted = ", ".join(self.__dict__.get("_scripts", ())) or "nothing"
        msg = f"{name} is not scripted here; {scripted} is"
        raise AttributeError(msg)

    def with_options(self, **options: Any) -> Self:
        """Return a copy that shares scripts and calls, and merges *options* under `baml_options` of each call."""
        bound = object.__new__(type(self))  # without __new__, which would create another class
        bound.__dict__.update(self.__dict__, _options={**self._options, **options})
        return bound

    @property
    def stream(self) -> Any:
        """The streaming functions, by the same names."""
        functions = {name: _stream_function(name) for name in self._scripts}
        streams = type("ScriptedStreams", (_Streams,), functions)()
        streams._play = self._stream  # noqa: SLF001 - of a class below
        return streams

    def _next(
        self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[Any, Mapping[str, Any]]:
        """Return the step of a call, and its options."""
        options = {**self._options, **(kwargs.pop("baml_options", None) or {})}
        self.calls.append(ScriptedCall(function=name, args=args, kwargs=kwargs, options=options))
        return self._step(name), options

    def _stream(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        step, options = self._next(name, args, kwargs)
        kind = ScriptedSyncStream if self._blocking else ScriptedStream
        return kind(lambda: _answer(step, args, kwargs), options)

    async def _call(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        step, options = self._next(name, args, kwargs)
        if is_exception(step):
            raise step
        answer = _answer(step, args, kwargs)
        if callable(step) and inspect.isawaitable(answer):
            answer = await answer
        if isinstance(answer, Snapshots):
            return await ScriptedStream(lambda: answer, options).get_final_response()
        return answer

    def _call_blocking(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        step, options = self._next(name, args, kwargs)
        if is_exception(step):
            raise step
        answer = _answer(step, args, kwargs)
        if isinstance(answer, Snapshots):
            return ScriptedSyncStream(lambda: answer, options).get_final_response()
        return answer

    def _step(self, name: str) -> Any:
        script = self._scripts[name]
        if not isinstance(script, deque):
            return script
        if not script:
            msg = f"the script of {name} has ended: this is call {sum(call.function == name for call in self.calls)}"
            raise AssertionError(msg)
        return script.popleft()


class ScriptedSyncBAML(ScriptedBAML):
    """An object with scripted blocking functions and streams, as BAML's sync client has them. Steps are those of `ScriptedBAML`.

    Example:
        baml = ScriptedSyncBAML(Tell=[Snapshots("Once", Truncate()), "Once upon a time"])
        assert list(protect(baml).stream.Tell()) == ["Once", "Once upon a time"]
    """

    _blocking: ClassVar[bool] = True


class _Streams:
    """What `ScriptedBAML.stream` returns, with a function for each script."""

    _play: Callable[..., Any]


def _answer(step: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    if is_exception(step) or not callable(step):
        return step
    return step(*args, **kwargs)


def _function(name: str) -> Callable[..., Coroutine[Any, Any, Any]]:
    async def scripted(self: ScriptedBAML, *args: Any, **kwargs: Any) -> Any:
        return await self._call(name, args, kwargs)

    return _named(scripted, name)


def _sync_function(name: str) -> Callable[..., Any]:
    # The guard knows blocking functions of BAML by their parameter `baml_options`.
    def scripted(
        self: ScriptedBAML, *args: Any, baml_options: Mapping[str, Any] | None = None, **kwargs: Any
    ) -> Any:
        return self._call_blocking(name, args, {**kwargs, "baml_options": baml_options})

    return _named(scripted, name)


def _stream_function(name: str) -> Callable[..., Any]:
    def scripted(
        self: _Streams, *args: Any, baml_options: Mapping[str, Any] | None = None, **kwargs: Any
    ) -> Any:
        return self._play(name, args, {**kwargs, "baml_options": baml_options})

    return _named(scripted, name)


def _named(function: Callable[..., Any], name: str) -> Callable[..., Any]:
    function.__name__ = name
    function.__qualname__ = f"ScriptedBAML.{name}"
    return function
