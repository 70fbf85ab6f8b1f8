"""FallbackPolicy: which clients may answer a call, in which order, and after which failures."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any

from resilience.failure import CATEGORY_RULES, ErrorCategory

_DEFAULT_ON = frozenset(category for category, traits in CATEGORY_RULES.items() if traits.allow_fallback)


@dataclass(frozen=True, slots=True, kw_only=True)
class FallbackPolicy:
    """Where a call goes when its client cannot answer.

    Attributes:
        clients: backup clients in the order they are asked. The call's own client is always asked first.
        on: categories after which the next client may be asked. The default leaves out what another client
            would refuse too (`invalid_request`), what one should hear of at once (`authentication`,
            `permission`) and what has clients of its own (below).
        context_clients: clients with a longer context, asked after `context_length` and only then.
        content_clients: clients with another content policy, asked after `content_policy` and only then.

    Raises:
        ValueError: naming the field, its value and what is allowed.
    """

    clients: tuple[str, ...] = ()
    on: frozenset[ErrorCategory] = _DEFAULT_ON
    context_clients: tuple[str, ...] = ()
    content_clients: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in ("clients", "context_clients", "content_clients"):
            object.__setattr__(self, name, _names(name, getattr(self, name)))
        object.__setattr__(self, "on", _categories(self.on))

    def candidates(
        self, preferred: str, seen: Collection[ErrorCategory], tried: Collection[str]
    ) -> tuple[str, ...]:
        """The clients that may still answer, best first.

        Args:
            preferred: the call's own client.
            seen: the categories of failure this call has met. A request once found too long, or refused for
                its content, only goes to clients named for that.
            tried: the clients that had their turn.
        """
        if ErrorCategory.CONTEXT_LENGTH in seen:
            pool: Iterable[str] = self.context_clients
        elif ErrorCategory.CONTENT_POLICY in seen:
            pool = self.content_clients
        else:
            pool = (preferred, *self.clients)
        return tuple(dict.fromkeys(client for client in pool if client not in tried))

    def allows(self, category: ErrorCategory) -> bool:
        """May another client be asked after a failure of *category*?"""
        if category is ErrorCategory.CONTEXT_LENGTH:
            return bool(self.context_clients)
        if category is ErrorCategory.CONTENT_POLICY:
            return bool(self.content_clients)
        return category in self.on

    def named(self) -> tuple[str, ...]:
        """Every client this policy names."""
        return tuple(dict.fromkeys((*self.clients, *self.context_clients, *self.content_clients)))


def _names(field: str, value: Any) -> tuple[str, ...]:
    if not isinstance(value, str) and isinstance(value, Iterable):
        names = tuple(value)
        if all(isinstance(name, str) and name for name in names) and len(set(names)) == len(names):
            return names
    msg = f"FallbackPolicy.{field}={value!r}: give a tuple of different client names"
    raise ValueError(msg)


def _categories(value: Any) -> frozenset[ErrorCategory]:
    known = set(ErrorCategory)
    if not isinstance(value, str) and isinstance(value, Iterable) and known.issuperset(items := tuple(value)):
        return frozenset(ErrorCategory(item) for item in items)
    msg = f"FallbackPolicy.on={value!r}: give a set of {', '.join(ErrorCategory)}"
    raise ValueError(msg)
