"""Reads the objects inside a text: JSON, Python and Ruby literals, cut off or broken, anywhere in prose.

An error body reaches us as a logged `repr`, inside a sentence, cut off at some length, with single quotes or escaped twice.
`json.loads` reads none of these. This reader accepts what it can and reads every character once, so that a hostile body of
a megabyte costs time in proportion to its length and no recursion.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

Literal = object
"""A dict with string keys, a list, a string, a number, a flag or None."""

_MAX_LITERALS = 1000
"""Literals that are read at the beginning of a text, and again at its end: a hostile body has one in every eight characters."""
_TAIL = 8000
_MAX_DEPTH = 40
"""Containers inside one another; deeper ones are read as if they were part of the last."""

# It begins with a set of characters, to which the search skips, and looks back from there.
_START = re.compile(
    r"""
    [{\[b](?:
        (?<=\{)                             # an object
      | (?<=\[)(?=\s*+[\[{"'])             # a list of them, not `[Errno 111]`
      | (?<=b)(?<![A-Za-z0-9_]b)(?=["'])   # a bytes literal, as Python prints a body, alone or in a dict
    )
    """,
    re.VERBOSE,
)
_QUOTED_BODY = re.compile(r"\s*+[\"']")
"""The beginning of a JSON string that holds JSON."""
# Possessive quantifiers (`*+`, `++`) never give characters back, so no text makes the search backtrack.
_TOKEN = re.compile(
    r"""
    (?P<string> b?(?: "[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\\?\Z) | '[^'\\]*+(?:\\.[^'\\]*+)*+(?:'|\\?\Z) ) )
  | (?P<open>   [{\[(] )
  | (?P<close>  [}\])] )
  | (?P<colon>  =>|:|= )
  | (?P<comma>  , )
  | (?P<word>   [^\s"'{}\[\](),:=]++ )
    """,
    re.VERBOSE | re.DOTALL,
)
_ESCAPE = re.compile(r"\\(?:u([0-9a-fA-F]{4})|x([0-9a-fA-F]{2})|(.))", re.DOTALL)
_OWN_ESCAPE = re.compile(r"\\[ubf]")
"""Escapes that `_character` reads in its own way."""
_CONTROL = {"n": "\n", "t": "\t", "r": "\r", "b": " ", "f": " ", "\n": ""}
_WORDS: dict[str, Literal] = {
    "null": None,
    "None": None,
    "nil": None,
    "true": True,
    "True": True,
    "false": False,
    "False": False,
}
_NUMBER = re.compile(r"-?\d{1,18}(\.\d{1,18})?\Z")
_FULL_WIDTH = dict(zip("：，｛｝［］“”＂", ':,{}[]"""', strict=True))  # noqa: RUF001 - a relay translates JSON into full-width signs
_WIDE = re.compile(f"[{''.join(_FULL_WIDTH)}]")


class _OpenContainer:
    """A container whose end has not been read yet.

    Attributes:
        items: the dict or list itself.
        key: the key whose value comes next, in a dict.
        last: the latest value of a dict without a key; a colon makes it the key.
    """

    __slots__ = ("items", "key", "last")

    def __init__(self, items: dict[str, Literal] | list[Literal]) -> None:
        self.items = items
        self.key: str | None = None
        self.last: Literal = None

    def put(self, value: Literal) -> None:
        """Add *value*: as an item, as the value of the current key, or as what may become the next key."""
        if isinstance(self.items, list):
            self.items.append(value)
        elif self.key is None:
            self.last = value
        else:
            self.items.setdefault(self.key, value)  # the first of two equal keys wins
            self.key = None

    def colon(self) -> None:
        """Make the latest string the key. A colon anywhere else is ignored."""
        if self.key is None and isinstance(self.last, str):
            self.key, self.last = self.last, None

    def comma(self) -> None:
        """End the current entry, also one without a value."""
        self.key = self.last = None


def split(text: str) -> tuple[list[Literal], str]:
    """Return the literals of *text* in their order, and the prose around them.

    Every character is read once. Nothing is an error: a literal that is cut off ends where the text ends.
    """
    if not text.isascii():  # `str.translate` would look at every character in Python
        text = _WIDE.sub(lambda sign: _FULL_WIDTH[sign[0]], text)
    whole = _strict(text)
    if whole is not None:
        return [whole], ""
    values: list[Literal] = []
    prose: list[str] = []
    position = 0
    for start, end, value in _literals(text):
        values.append(value)
        prose.append(text[position:start])
        position = end
    prose.append(text[position:])
    return values, " ".join(part for part in prose if part.strip())


def _strict(text: str) -> dict[str, Literal] | None:
    """Return the object that *text* is, if it is well-formed JSON and nothing else; the common case, and ten times as fast.

    Escapes that the reader understands in its own way, and texts that nest deeply, are left to it.
    """
    if not text.startswith("{") or not _reads_alike(text):
        return None
    try:
        decoded = _DECODER.decode(text)
    except ValueError:
        return None
    return decoded if isinstance(decoded, dict) else None


def _strict_at(text: str, start: int) -> tuple[Literal, int] | None:
    """Return the well-formed JSON object that begins at *start*, and where it ends; None for what only the reader understands.

    JSON ends at its first mistake, so a failed attempt looks at no more than the reader does afterwards.
    """
    if not text.startswith('{"', start):
        return None
    try:
        decoded, end = _DECODER.raw_decode(text, start)
    except (ValueError, RecursionError):
        return None
    return (decoded, end) if _reads_alike(text[start:end]) else None


def _reads_alike(text: str) -> bool:
    """Return whether the decoder of JSON and the reader make the same of *text*: it has no escape of the reader's own and nests little."""
    return _OWN_ESCAPE.search(text) is None and text.count("{") + text.count("[") <= _MAX_DEPTH


def _first_of_each(pairs: list[tuple[str, Literal]]) -> dict[str, Literal]:
    """Return *pairs* as a dict, in which the first of two equal keys wins."""
    made: dict[str, Literal] = {}
    for key, value in pairs:
        made.setdefault(key, value)
    return made


def unescape(text: str) -> str:
    """Undo one level of backslash escapes in *text*."""
    return _ESCAPE.sub(_character, text)


def _literals(text: str) -> Iterator[tuple[int, int, Literal]]:
    """Yield the start, the end and the value of each literal."""
    position = count = 0
    start = _QUOTED_BODY.match(text) or _START.search(text)
    while start is not None and count < 2 * _MAX_LITERALS:
        count += 1
        if count == _MAX_LITERALS:  # go on at the end of the text: a stream's error is there
            position = max(position, len(text) - _TAIL)
        else:
            begin = start.start()
            if start[0][-1] not in "{[":
                value, position = _quoted(text, start)
            else:
                value, position = _strict_at(text, begin) or _container(text, begin)
            yield begin, position, value
        start = _START.search(text, position)


def _quoted(text: str, start: re.Match[str]) -> tuple[Literal, int]:
    """Return the string or bytes literal at *start*, and where it ends."""
    position = start.end() if start[0] == "b" else start.end() - 1
    token = _TOKEN.match(text, position)
    return ("", position + 1) if token is None else (_string(token[0]), token.end())


def _container(text: str, start: int) -> tuple[Literal, int]:
    """Return the object or list at *start*, and where it ends; a cut one ends with the text.

    A stack replaces recursion, so that nesting costs no Python frames. The root is a list that receives the container, so
    that the container is complete when only the root is left open.
    """
    root = _OpenContainer([])
    stack = [root]
    for token in _TOKEN.finditer(text, start):
        _take(token, stack)
        if len(stack) == 1:
            return _first(root), token.end()
    return _first(root), len(text)


def _first(root: _OpenContainer) -> Literal:
    return next(iter(root.items), None)


def _take(token: re.Match[str], stack: list[_OpenContainer]) -> None:
    """Add one token to the innermost open container."""
    top = stack[-1]
    match token.lastgroup:
        case "open" if len(stack) <= _MAX_DEPTH:
            inner = _OpenContainer({} if token[0] == "{" else [])
            top.put(inner.items)
            stack.append(inner)
        case "close":  # any bracket closes the innermost container: a log may have mixed them up
            stack.pop()
        case "colon":
            top.colon()
        case "comma":
            top.comma()
        case "string":
            top.put(_string(token[0]))
        case "word":
            top.put(_word(token[0]))


def _string(token: str) -> str:
    """Return the text of a string token, which may be a bytes literal or lack its closing quote."""
    token = token.removeprefix("b")
    closed = len(token) > 1 and token[-1] == token[0]
    inner = token[1:-1] if closed else token[1:]
    return unescape(inner) if "\\" in inner else inner


def _word(token: str) -> Literal:
    """Return the constant or number that an unquoted *token* stands for, or the token itself."""
    if token in _WORDS:
        return _WORDS[token]
    number = _NUMBER.match(token)
    if number is None:
        return token
    return float(token) if number[1] else int(token)


def _character(escape: re.Match[str]) -> str:
    """Return the character of one escape. Each half of a surrogate pair is one; `one_line` replaces lone ones later."""
    code = escape[1] or escape[2]
    if code:
        return chr(int(code, 16))
    return _CONTROL.get(escape[3], escape[3])


_DECODER = json.JSONDecoder(
    object_pairs_hook=_first_of_each, parse_int=_word, parse_float=_word, parse_constant=_word, strict=False
)
