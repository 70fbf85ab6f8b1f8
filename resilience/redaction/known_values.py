"""Mask the secrets that this process knows itself: values of its environment, and the keys that requests were sent with.

Keys of many providers have no form of their own, so no pattern finds them in prose. But this process has them: in a variable whose name
says that it is secret, or in the header of a request. Such a value is masked wherever it occurs, in any case.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Final

from resilience.redaction.names import is_secret
from resilience.redaction.spans import Span

_MARK: Final = "[secret]"
_LEAST: Final = 8
"""Characters of a secret value; a shorter one may be any word."""
_LEAST_WORD: Final = 16
"""The same for a value of small letters alone, such as `development`."""
_LEAST_NUMBER: Final = 12
_MOST: Final = 4096
_MAX_SENT: Final = 64

_LOOK: Final = 64
"""Texts between two looks at the names of all variables. In between, a new number of variables leads to a look."""

_sent: dict[str, None] = {}


def remember_secrets(values: Iterable[str]) -> None:
    """Mask *values* from now on, in every text of this process. The last 64 are kept."""
    for value in values:
        if _is_telling(value):
            _sent[value.lower()] = None
            while len(_sent) > _MAX_SENT:
                del _sent[next(iter(_sent))]


def spans(text: str, lowered: str) -> Iterator[Span]:
    """Return the spans of known values in *text*.

    Args:
        text: the text to search.
        lowered: the text in lower case, character for character. A provider may write a key in another case.
    """
    if len(text) < _LEAST:
        return
    # A copy: another thread may remember a key at any time. Values are few, and each costs one search in C.
    for value in (*_environment.values(), *tuple(_sent)):
        at = lowered.find(value)
        while at >= 0:
            yield Span(at, at + len(value), _MARK)
            at = lowered.find(value, at + len(value))


class _Environment:
    """The variables with secret names. Variables rarely come and go; their values are read each time, since keys rotate."""

    def __init__(self) -> None:
        self._names: list[str] = []
        self._count = self._uses = 0

    def values(self) -> list[str]:
        """Return the secret values, in lower case."""
        self._uses += 1
        if len(os.environ) != self._count or self._uses % _LOOK == 0:
            self._names, self._count = [name for name in os.environ if is_secret(name)], len(os.environ)
        values = [os.environ.get(name, "").strip() for name in self._names]
        return [value.lower() for value in values if _is_telling(value)]


_environment: Final = _Environment()


@lru_cache(maxsize=256)
def _is_telling(value: str) -> bool:
    """Return whether *value* can be masked wherever it stands: no word, no number and no path.

    A variable with a secret name may hold a mode (`disabled`) or the path of a file. To mask such a value in every message would hide
    what an error means.
    """
    if not _LEAST <= len(value) <= _MOST or value[0] in "/~." or value.startswith(("file:", "C:\\")):
        return False
    if value.isdecimal():
        return len(value) >= _LEAST_NUMBER
    is_word = value.isalpha() and (value.islower() or value.isupper() or value.istitle())
    return not is_word or len(value) >= _LEAST_WORD
