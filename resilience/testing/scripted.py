"""A stand-in for a generated BAML client that does what a test tells it, without BAML and without a network."""

from __future__ import annotations

import inspect
from collections import deque
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from typing import Any, Self


@dataclass(frozen=True, slots=True, kw_only=True)
class ScriptedCall:
    """One call a `ScriptedBAML` got.

    Attributes:
        function: the function that was called.
        args: its positional arguments.
        kwargs: its keyword arguments, without `baml_options`.
        options: what `baml_options` said, laid over the options of `with_options`.
    """

    function: str
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    options: Mapping[str, Any]


class ScriptedBAML:
    """An object with the async functions you name, each following its script.

        baml = ScriptedBAML(GenerateHypothesis=[ConnectionError(), Hypothesis(...)])
        wrapper = BAMLWrapper(baml)

    A list or tuple is a script: one step a call. Anything else is done at every call. A step is an exception, or an
    exception class, to raise; a callable, which gets the call's arguments and whose result, awaited if need be, is
    the answer; or the answer itself. (A function that answers with a list therefore needs a list around it.)

    Like a generated client it has `with_options`, and its functions are found on its type.

    Attributes:
        calls: every call so far, in the order they were made, those through `with_options` among them.
    """

    calls: list[ScriptedCall]
    _scripts: dict[str, Any]
    _options: Mapping[str, Any]

    def __new__(cls, **functions: Any) -> Self:
        """Make a class with these functions, and its one instance."""
        scripted: type[Self] = type(cls.__name__, (cls,), {name: _function(name) for name in functions})
        self = object.__new__(scripted)
        self.calls = []
        self._options = {}
        self._scripts = {
            name: deque(script) if isinstance(script, list | tuple) else script
            for name, script in functions.items()
        }
        return self

    def __init__(self, **functions: Any) -> None:
        """Everything is set in `__new__`."""

    def __getattr__(self, name: str) -> Any:
        scripted = ", ".join(self.__dict__.get("_scripts", ())) or "nothing"
        msg = f"{name} is not scripted here; {scripted} is"
        raise AttributeError(msg)

    def with_options(self, **options: Any) -> Self:
        """The same functions and scripts, called with these options unless `baml_options` says otherwise."""
        bound = object.__new__(type(self))
        bound.__dict__.update(self.__dict__, _options={**self._options, **options})
        return bound

    async def _call(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        options = {**self._options, **kwargs.pop("baml_options", {})}
        self.calls.append(ScriptedCall(function=name, args=args, kwargs=kwargs, options=options))
        step = self._step(name)
        if isinstance(step, BaseException) or (isinstance(step, type) and issubclass(step, BaseException)):
            raise step
        if not callable(step):
            return step
        answer = step(*args, **kwargs)
        return await answer if inspect.isawaitable(answer) else answer

    def _step(self, name: str) -> Any:
        script = self._scripts[name]
        if not isinstance(script, deque):
            return script
        if not script:
            msg = f"the script of {name} has ended: this is call {sum(call.function == name for call in self.calls)}"
            raise AssertionError(msg)
        return script.popleft()


def _function(name: str) -> Callable[..., Coroutine[Any, Any, Any]]:
    async def scripted(self: ScriptedBAML, *args: Any, **kwargs: Any) -> Any:
        return await self._call(name, args, kwargs)

    scripted.__name__ = name
    scripted.__qualname__ = f"ScriptedBAML.{name}"
    return scripted
