r"""Undo escapes, look-alikes and invisible characters, so that no notation hides a secret from the rules.

`%40`, `\u0040`, `&quot;` and `\/` become what they stand for, look-alikes of ASCII become ASCII, and invisible characters are
removed. Keys reach a message so: copied from a web page or a chat they carry zero-width spaces and typographic dashes, and a
quoted request has them as `%2D` or `\u002d`. Rules see the result beside the text itself; spans are mapped back to the text.
"""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator
from typing import Final

from resilience.redaction.spans import Span

_INVISIBLE: Final = (
    "\u00ad\u034f\u061c\u180e\u200b-\u200f\u202a-\u202e\u2060-\u2064\u2066-\u206f\ufe00-\ufe0f\ufeff"
)
_LOOK_ALIKES: Final = {
    **dict.fromkeys("\u2010\u2011\u2012\u2013\u2014\u2015\u2212\ufe58\ufe63", "-"),
    **dict.fromkeys("\u2018\u2019\u201a\u201b\u2032\u02bc", "'"),
    **dict.fromkeys("\u201c\u201d\u201e\u201f\u2033\u00ab\u00bb", '"'),
}
_NAMED: Final = {"quot": '"', "apos": "'", "amp": "&", "lt": "<", "gt": ">", "nbsp": " "}
# One pass over all notations; the name of the group that matched selects the decoder. Hexadecimal escapes are
# decoded for ASCII from 20 to 7f only: no other character stands for a letter of a key.
_ESCAPE: Final = re.compile(
    rf"%(?P<percent>[2-7][0-9A-Fa-f])|\\(?:u00|x)(?P<hex>[2-7][0-9A-Fa-f])|(?P<slash>\\/)"
    rf"|&(?:(?P<named>{'|'.join(_NAMED)})|\#(?P<decimal>\d{{2,3}})|\#[xX](?P<entity>[2-7][0-9A-Fa-f]));"
    rf"|(?P<invisible>[{_INVISIBLE}]+)|(?P<alike>[{''.join(_LOOK_ALIKES)}\u00a0\u1680\u2000-\u200a\u202f\u205f\u3000\uff01-\uff5e])"
)
_DECODERS: Final[dict[str, Callable[[str], str]]] = {
    **dict.fromkeys(("percent", "hex", "entity"), lambda digits: chr(int(digits, 16))),
    "decimal": lambda digits: chr(int(digits)),
    "slash": lambda _: "/",
    "named": _NAMED.__getitem__,
    "invisible": lambda _: "",
    "alike": lambda char: _LOOK_ALIKES.get(char) or unicodedata.normalize("NFKC", char),
}


class Unescaped:
    """The unescaped form of a text, and the map of its positions to those of the text.

    Args:
        text: any text.

    Attributes:
        text: the unescaped form; None if the text has nothing to unescape.
    """

    __slots__ = ("_from", "_shift", "text")

    def __init__(self, text: str) -> None:
        # From position _from[i] of the unescaped form on, the text is ahead by _shift[i] characters.
        self._from: list[int] = [0]
        self._shift: list[int] = [0]
        may_have_escapes = not text.isascii() or any(mark in text for mark in "%\\&")
        unescaped = "".join(self._parts(text)) if may_have_escapes else text
        self.text = None if len(self._from) == 1 else unescaped

    def original_spans(self, spans: Iterable[Span]) -> Iterator[Span]:
        """Return *spans* of the unescaped form as spans of the text itself."""
        return (Span(self._original(span.start), self._original(span.end), span.mark) for span in spans)

    def _parts(self, text: str) -> Iterator[str]:
        done = length = 0
        for match in _ESCAPE.finditer(text):
            kind = match.lastgroup or ""
            decoded = _DECODERS[kind](match[kind])
            yield text[done : match.start()]
            yield decoded
            length += match.start() - done + len(decoded)
            done = match.end()
            self._from.append(length)
            self._shift.append(done - length)
        yield text[done:]

    def _original(self, at: int) -> int:
        return at + self._shift[bisect_right(self._from, at) - 1]
