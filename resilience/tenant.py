"""For whom a call is made: a customer, a team, a project of the application. The rows of calls and the counts by tenant carry it.

It is a context variable, as the id of the request is: each task and each `asyncio.to_thread` inherits it, and each request of a web
server has its own. It is not a label of any metric, because an application may have any number of tenants.
"""

from __future__ import annotations

from contextvars import ContextVar
from types import TracebackType
from typing import Final

MAX_LENGTH: Final = 100
"""Characters of a tenant; the column in SQL has the same length."""

_current: ContextVar[str | None] = ContextVar("resilience_tenant", default=None)

current_tenant: Final = _current.get
"""Return the present tenant; None if none was set. Bound once, because each call asks."""


def set_tenant(value: str | None) -> None:
    """Set the tenant of the calls from here to the end of this task or thread.

    Args:
        value: a name or an id, at most 100 characters. It is stored as it is given: give no address and no key. None or an empty
            text ends what was set before.

    Raises:
        TypeError: *value* is not a string.
        ValueError: *value* is too long.
    """
    _current.set(_checked(value))


class tenant:  # noqa: N801 - used like a function: `with tenant(...)`
    """Set the tenant for a `with` block.

    The block may be entered in one task and left in another, as happens in asynchronous generators.

    Args:
        value: as for `set_tenant`.

    Raises:
        TypeError: *value* is not a string.
        ValueError: *value* is too long.

    Example:
        with resilience.tenant(customer.id):
            answer = await b.ExtractResume(text)
    """

    __slots__ = ("_before", "_value")

    def __init__(self, value: str | None) -> None:
        self._value = _checked(value)
        self._before: str | None = None

    def __enter__(self) -> str | None:
        self._before = _current.get()
        _current.set(self._value)
        return self._value

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        # Not by a token, which can only be reset in the context that made it: see `request_id`.
        _current.set(self._before)


def _checked(value: str | None) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str):
        msg = f"tenant={value!r}: give a text of at most {MAX_LENGTH} characters, or None"
        raise TypeError(msg)
    if len(value) > MAX_LENGTH:
        msg = f"tenant of {len(value)} characters: give at most {MAX_LENGTH}, such as the id of the customer"
        raise ValueError(msg)
    return value or None
