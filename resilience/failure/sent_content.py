"""What was sent to a provider, as far as a failure may repeat it: the body of the request, else the arguments of the call."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from typing import Any, Final

from resilience.failure.stock_words import is_stock
from resilience.redaction import SentContent, SentText, content_of_request

_DEPTH: Final = 8
_MAX_TEXTS: Final = 20_000
_PLAIN: Final = (bool, float, complex, type(None), type, range)
_MODEL_ARGUMENTS: Final = frozenset({"model", "model_id", "modelid", "model_name", "deployment"})


def sent_text(body: Callable[[], str | None], arguments: object) -> SentText:
    """Return what was sent. It is read when a failure has a word that providers do not use themselves.

    Args:
        body: returns the JSON body of the request; None where it is unknown.
        arguments: the arguments of the call.
    """

    def read() -> SentContent:
        text = body()
        return content_of_request(text) if text else _content_of(arguments)

    return SentText(read, is_stock)


def sent_arguments(arguments: object) -> SentText:
    """Return the *arguments* of a call as what was sent, for functions whose request is unknown."""
    return sent_text(lambda: None, arguments)


def _content_of(arguments: object) -> SentContent:
    models: list[str] = []
    texts = list(islice(_texts(arguments, models), _MAX_TEXTS))
    return SentContent("\n".join(texts), "\n".join(models))


def _texts(arguments: object, models: list[str]) -> Iterator[str]:
    """Yield the texts and whole numbers in *arguments*, also in containers and in attributes. No method of theirs is called.

    A loop replaces recursion: a container may hold itself.
    """
    pending: list[tuple[Any, int]] = [(arguments, 0)]
    seen: set[int] = set()
    while pending:
        value, depth = pending.pop()
        if isinstance(value, str):
            yield value
        elif isinstance(value, bytes | bytearray):
            yield bytes(value).decode("utf-8", "replace")
        elif isinstance(value, int) and not isinstance(value, bool):
            yield str(value) if abs(value) < 10**30 else ""
        elif (
            depth < _DEPTH and id(value) not in seen and not isinstance(value, _PLAIN) and not callable(value)
        ):
            seen.add(id(value))
            pending += [(inner, depth + 1) for inner in reversed(_inner(value, models))]


def _inner(value: object, models: list[str]) -> list[Any]:
    """Return what a container or an object holds. The name of a model is put aside: a failure may repeat it."""
    try:
        if isinstance(value, Mapping):
            pairs = list(islice(value.items(), _MAX_TEXTS))
        elif isinstance(value, list | tuple | set | frozenset):
            return list(islice(value, _MAX_TEXTS))
        else:
            pairs = list(vars(value).items())
    except Exception:  # noqa: BLE001 - an object without attributes, or a mapping of others that raises
        return []
    named = [(name, inner) for name, inner in pairs if str(name).lower() in _MODEL_ARGUMENTS]
    models += [inner for _, inner in named if isinstance(inner, str)]
    rest = [pair for pair in pairs if pair not in named] if named else pairs
    return [part for pair in rest for part in pair]
