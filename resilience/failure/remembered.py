"""Remembers what pure functions make of words and of texts: the words of errors return, and an outage repeats the same error many times.

Every function here gives the same result for the same text, so what is remembered changes no result, only the time it takes.

What is remembered is bounded in number and in length. A word with several digits may be a key, and stays in memory for long if it is remembered, so it
is not. A whole text is soon replaced by others.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, wraps
from typing import Concatenate, Final, ParamSpec, TypeVar

_P = ParamSpec("_P")
_T = TypeVar("_T")

_LONGEST_WORD: Final = 64
_SHORT: Final = 8
"""Characters up to which a word with digits is remembered, such as `429,`."""
MOST_WORDS: Final = 8192
LONGEST_TEXT: Final = 4000
_MOST_TEXTS: Final = 64

_forget: Final[list[Callable[[], None]]] = []


class ByWord(dict[str, _T]):
    """What a function makes of words. A word that returns costs one look-up.

    Args:
        function: reads a word.
    """

    def __init__(self, function: Callable[[str], _T]) -> None:
        super().__init__()
        self._function = function
        _forget.append(self.clear)

    def __missing__(self, word: str) -> _T:
        made = self._function(word)
        if len(word) <= _LONGEST_WORD and (len(word) <= _SHORT or not any(map(str.isdigit, word))):
            if len(self) >= MOST_WORDS:
                self.clear()
            self[word] = made
        return made


def by_text(function: Callable[Concatenate[str, _P], _T]) -> Callable[Concatenate[str, _P], _T]:
    """Return *function*, which reads a text of an error, with a memory of the last texts that are no longer than 4,000 characters."""
    cached = lru_cache(maxsize=_MOST_TEXTS)(function)
    _forget.append(cached.cache_clear)

    @wraps(function)
    def read(text: str, /, *args: _P.args, **kwargs: _P.kwargs) -> _T:
        return cached(text, *args, **kwargs) if len(text) <= LONGEST_TEXT else function(text, *args, **kwargs)  # type: ignore[arg-type]  # all arguments can be hashed

    return read


def forget(*, words: bool = True) -> None:
    """Forget all texts. To be called where the lexicon or the rules were changed, and where the first sight of a text is timed.

    Args:
        words: whether to forget the words as well.
    """
    for each in _forget:
        if words or not isinstance(getattr(each, "__self__", None), ByWord):
            each()
