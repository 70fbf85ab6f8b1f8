"""Reads the objects inside a text: JSON, Python and Ruby literals, cut off or broken, wherever they stand in prose."""

from __future__ import annotations

import re
from collections.abc import Iterator

Literal = object
"""A dict with string keys, a list, a string, a number, a flag or None."""

_DEPTH = 40
"""Containers inside one another; what lies deeper is read flat."""

_START = re.compile(
    r"""
    \{                              # an object
  | \[(?=\s*+[\[{"'])               # a list of them, not `[Errno 111]`
  | \A\s*+["']                      # a JSON string that holds JSON
  | (?<![A-Za-z0-9_])b(?=["'])      # a bytes literal, as Python prints a body, alone or in a dict
    """,
    re.VERBOSE,
)
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
_WIDE = str.maketrans("：，｛｝［］“”＂", ':,{}[]"""')  # noqa: RUF001 - a relay translates JSON into full-width signs


class _Open:
    """A container that has not ended yet."""

    __slots__ = ("held", "key", "last")

    def __init__(self, held: dict[str, Literal] | list[Literal]) -> None:
        self.held = held
        self.key: str | None = None
        self.last: Literal = None

    def put(self, value: Literal) -> None:
        if isinstance(self.held, list):
            self.held.append(value)
        elif self.key is None:
            self.last = value
        else:
            self.held.setdefault(self.key, value)
            self.key = None

    def colon(self) -> None:
        if self.key is None and isinstance(self.last, str):
            self.key, self.last = self.last, None

    def comma(self) -> None:
        self.key = self.last = None


def split(text: str) -> tuple[list[Literal], str]:
    """Give the literals of *text* in their order, and the prose around them.

    Every character is read once, and nothing is an error: a literal that is cut off ends where the text ends.
    """
    text = text.translate(_WIDE)
    values: list[Literal] = []
    prose: list[str] = []
    at = 0
    for start, end, value in _literals(text):
        values.append(value)
        prose.append(text[at:start])
        at = end
    prose.append(text[at:])
    return values, " ".join(part for part in prose if part.strip())


def unescape(text: str) -> str:
    """Undo one level of backslash escapes."""
    return _ESCAPE.sub(_character, text)


def _literals(text: str) -> Iterator[tuple[int, int, Literal]]:
    at = 0
    while (found := _START.search(text, at)) is not None:
        start = found.start()
        quoted = found[0][-1] not in "{["
        value, at = _quoted(text, found) if quoted else _container(text, start)
        yield start, at, value


def _quoted(text: str, found: re.Match[str]) -> tuple[Literal, int]:
    at = found.end() if found[0] == "b" else found.end() - 1
    token = _TOKEN.match(text, at)
    return ("", at + 1) if token is None else (_string(token[0]), token.end())


def _container(text: str, start: int) -> tuple[Literal, int]:
    root = _Open([])
    stack = [root]
    for token in _TOKEN.finditer(text, start):
        _take(token, stack)
        if len(stack) == 1:
            return _first(root), token.end()
    return _first(root), len(text)


def _first(root: _Open) -> Literal:
    return next(iter(root.held), None)


def _take(token: re.Match[str], stack: list[_Open]) -> None:
    top = stack[-1]
    match token.lastgroup:
        case "open" if len(stack) <= _DEPTH:
            inner = _Open({} if token[0] == "{" else [])
            top.put(inner.held)
            stack.append(inner)
        case "close":
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
    token = token.removeprefix("b")
    closed = len(token) > 1 and token[-1] == token[0]
    inner = token[1:-1] if closed else token[1:]
    return unescape(inner) if "\\" in inner else inner


def _word(token: str) -> Literal:
    if token in _WORDS:
        return _WORDS[token]
    number = _NUMBER.match(token)
    if number is None:
        return token
    return float(token) if number[1] else int(token)


def _character(escape: re.Match[str]) -> str:
    code = escape[1] or escape[2]
    if code:
        return chr(int(code, 16))
    return _CONTROL.get(escape[3], escape[3])
