"""FallbackPolicy: which clients may answer a call, in which order, and after which failures.

Whether one failed attempt leads to a fallback is decided in `execution/decision.py`. `execution/call.py` takes the next client.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any, Final

from resilience.failure import CATEGORY_RULES, ErrorCategory

_DEFAULT_ON: Final = frozenset(category for category, rules in CATEGORY_RULES.items() if rules.allow_fallback)


@dataclass(frozen=True, slots=True, kw_only=True)
class FallbackPolicy:
    """Which clients are asked when the call's own client cannot answer.

    Attributes:
        clients: backup clients in the order they are asked. The call's own client is always asked first.
        on: categories after which the next client may be asked. The default leaves out what another client would refuse
            too (`invalid_request`), what should be noticed at once (`authentication`, `permission`), and the two
            categories that have rules of their own.
        context_clients: clients with a longer context. They are asked first after `context_length`, and only then. After them
            the clients follow that were not asked yet: the verdict of one client does not hold for another.
        content_clients: clients with another content policy. They are asked after `content_policy` and only then.

    Raises:
        ValueError: a value is invalid; the message names the field, its value and what is allowed.
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
        """Return the clients that may still answer, in the order they are asked.

        Args:
            preferred: the call's own client.
            seen: the categories of all failures of this call. Once a request was too long for a client, those with a longer
                context come first. Once it was refused for its content, only clients for that purpose are left.
            tried: the clients that were asked already.
        """
        # A refusal for the content is about the request: it holds for the rest of the call, also after another client has
        # failed otherwise. A length is too long for one client only.
        pool: Iterable[str] = (preferred, *self.clients)
        if ErrorCategory.CONTENT_POLICY in seen:
            pool = self.content_clients
        elif ErrorCategory.CONTEXT_LENGTH in seen:
            pool = (*self.context_clients, *pool)
        return tuple(dict.fromkeys(client for client in pool if client not in tried))

    def allows(self, category: ErrorCategory) -> bool:
        """Return whether another client may be asked after a failure of *category*."""
        if category is ErrorCategory.CONTEXT_LENGTH:
            return bool(self.context_clients or self.clients)
        if category is ErrorCategory.CONTENT_POLICY:
            return bool(self.content_clients)
        return category in self.on

    def named(self) -> tuple[str, ...]:
        """Return every client that this policy names, each once."""
        return tuple(dict.fromkeys((*self.clients, *self.context_clients, *self.content_clients)))


def _names(field: str, value: Any) -> tuple[str, ...]:
    # A bare string is an iterable of letters: "Backup" would be six clients.
    if not isinstance(value, str) and isinstance(value, Iterable):
        names = tuple(value)
        if all(isinstance(name, str) and name for name in names) and len(set(names)) == len(names):
            return names
    msg = f"FallbackPolicy.{field}={value!r}: give a tuple of different client names"
    raise ValueError(msg)


def _categories(value: Any) -> frozenset[ErrorCategory]:
    allowed = set(ErrorCategory)
    if not isinstance(value, str) and isinstance(value, Iterable):
        items = tuple(value)
        if allowed.issuperset(items):
            return frozenset(ErrorCategory(item) for item in items)
    msg = f"FallbackPolicy.on={value!r}: give a set of {', '.join(ErrorCategory)}"
    raise ValueError(msg)
