"""A double of a generated BAML client that follows a script, without BAML and without a network."""

from __future__ import annotations

import inspect
from collections import deque
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from typing import Any, Self


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
    """An object with scripted async functions.

    Example:
        baml = ScriptedBAML(GenerateHypothesis=[ConnectionError(), Hypothesis(...)])
        wrapper = BAMLWrapper(baml)

    A list or tuple is a script, with one step for each call. Any other value is the step of every call. A step is one of:

    - an exception, or an exception class: it is raised.
    - a callable: it gets the arguments of the call, and its result, awaited if it is awaitable, is the answer.
    - anything else: it is the answer. An answer that is a list therefore needs a list around it.

    Like a generated client it has `with_options`, and its functions are attributes of its type.

    Args:
        **functions: the script of each function, by the function's name.

    Attributes:
        calls: all calls so far in order, including those through `with_options`.

    Raises:
        AssertionError: at a call, when the script of its function has ended.
    """

    calls: list[ScriptedCall]
    _scripts: dict[str, Any]
    _options: Mapping[str, Any]

    def __new__(cls, **functions: Any) -> Self:
        """Create a class with these functions, and its only instance.

        `protect` looks for async functions on the type, as a generated client has them; attributes of the instance would
        not be found.
        """
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
