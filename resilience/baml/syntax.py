"""The syntax of `.baml` files, as far as it says which client a function asks.

BAML has two kinds of comments, raw strings with any number of hashes, unquoted strings that contain spaces and slashes, and
prompts that contain anything at all. A regular expression finds a `client` in a prompt or in a comment, and a call that is
routed by such a find asks another model, silently. So the text is read by the rules of BAML's own grammar
(`engine/baml-lib/ast/src/parser/datamodel.pest` in BoundaryML/baml).

The reader is lenient. BAML has compiled the files before a client was generated from them, so a block that is not understood
is skipped, never reported.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final


class Unquoted(str):
    """A value written without quotes: a name, a number, `env.KEY`, or a jinja expression."""

    __slots__ = ()


Value = str | list["Value"] | dict[str, "Value"]
"""A value of an entry: text, a list or a map. An entry without a value has an empty text."""


@dataclass(frozen=True, slots=True)
class Block:
    """One declaration at the top level of a file.

    Attributes:
        keyword: `function`, `client`, `retry_policy`, `generator` or `test`.
        name: the declared name.
        entries: what stands between its braces. The last of equal keys counts, as in BAML.
    """

    keyword: str
    name: str
    entries: Mapping[str, Value] = field(default_factory=dict)


_DEPTH: Final = 50
"""How deep maps and lists may be nested. What is deeper is skipped: BAML's own options are 3 or 4 levels deep."""
_BLOCKS: Final = frozenset({"function", "client", "retry_policy", "generator", "test"})
_SPACE = re.compile(r"[ \t]+")
_BLANK = re.compile(r"\s+")
_WORD = re.compile(r"[A-Za-z_][\w\-]*(?:::[A-Za-z_][\w\-]*)*")
_LINE_COMMENT = re.compile(r"//[^\r\n]*")
_BLOCK_COMMENT_MARK = re.compile(r"\{//|//\}")
_JINJA = re.compile(r"\{\{.*?(?:\}\}|\Z)", re.DOTALL)
_QUOTED = re.compile(r'"((?:\\"|[^"\r\n])*)"?')
# Possessive quantifiers (`*+`), so that a long word or run of hashes without a quote is read once and not again from its end.
_RAW_START = re.compile(r'(?:(?<![\w\-])[A-Za-z][\w\-]*+)?+(?<!#)(#++)"')
_HASHES = re.compile(r"#+")
_TEMPLATE = re.compile(r"<[\w\s]*>")
_UNQUOTED = re.compile(r"(?:(?!(?<!:)//)[^#@{(\[<}>)\],';\"\r\n])+")
# BAML ends an unquoted value only at " //". Ending it at every "//" but that of an address reads types too (`int//comment`).
_REST_OF_LINE = re.compile(r"[^\r\n]*")
_ESCAPED_QUOTE: Final = '\\"'


def blocks(text: str) -> Iterator[Block]:
    """Yield the declarations of one file, in order. Other text (types, templates, expressions) is skipped."""
    reader = _SourceReader(text)
    while not reader.at_end():
        reader.skip_blank()
        keyword = reader.word()
        if keyword in _BLOCKS:
            block = reader.block(keyword)
            if block is not None:
                yield block
        elif keyword is None and not reader.skip_braces():
            # The body of a class or an enum is skipped whole: it may have a field that is called `client`.
            reader.skip_one()


class _SourceReader:
    """A position in the text of one file, and the rules that move it forward.

    Every method either moves forward or returns None (False) and stays where it is, so that no text can stop the reader.
    """

    __slots__ = ("depth", "position", "text")

    def __init__(self, text: str) -> None:
        self.text = text
        self.position = 0
        self.depth = 0

    def at_end(self) -> bool:
        """Return whether all text is read."""
        return self.position >= len(self.text)

    def _match(self, pattern: re.Pattern[str]) -> re.Match[str] | None:
        match = pattern.match(self.text, self.position)
        if match is not None:
            self.position = match.end()
        return match

    def _take(self, literal: str) -> bool:
        taken = self.text.startswith(literal, self.position)
        if taken:
            self.position += len(literal)
        return taken

    # --- what separates -----------------------------------------------------------------------------------------

    def _comment(self) -> bool:
        return self._block_comment() or self._match(_LINE_COMMENT) is not None

    def _block_comment(self) -> bool:
        """Skip a comment of several lines with those inside it: BAML's block comments nest."""
        if not self.text.startswith("{//", self.position):
            return False
        depth = 0
        for mark in _BLOCK_COMMENT_MARK.finditer(self.text, self.position):
            depth += 1 if mark[0] == "{//" else -1
            if depth == 0:
                self.position = mark.end()
                return True
        self.position = len(self.text)
        return True

    def skip_blank(self) -> None:
        """Skip white space, line ends and comments."""
        while self._match(_BLANK) or self._comment():
            pass

    def _skip_space(self) -> None:
        """Skip what may stand between a key and its value: a value begins on the line of its key."""
        while self._match(_SPACE) or self._block_comment():
            pass

    # --- what is skipped whole ----------------------------------------------------------------------------------

    def skip_one(self) -> None:
        """Skip one unit of text that no rule matched: a string, a jinja expression, a word or a character."""
        if self._comment() or self._raw() is not None or self._quoted() is not None:
            return
        # A run of hashes is one unit: where it begins no raw string, none of its hashes does. One by one, a long run would take
        # time that grows with the square of its length.
        if self._match(_JINJA) or self.word() is not None or self._match(_HASHES):
            return
        # The slashes of an unquoted address (`http://host`) do not begin a comment.
        self.position += 3 if self.text.startswith("://", self.position) else 1

    def skip_braces(self) -> bool:
        """Skip a block of braces. Return whether one starts here."""
        return self._nested_map() is not None

    def _skip_until(self, characters: str) -> bool:
        """Skip to one of *characters* outside of parentheses, strings and comments. Return whether there is one."""
        depth = 0
        while not self.at_end():
            character = self.text[self.position]
            is_comment = self.text.startswith(("{//", "//"), self.position)
            if depth == 0 and character in characters and not is_comment:
                return True
            depth += (character == "(") - (character == ")")
            self.skip_one()
        return False

    # --- words and strings --------------------------------------------------------------------------------------

    def word(self) -> str | None:
        """Return the identifier that starts here; None without one."""
        match = self._match(_WORD)
        return None if match is None else match[0]

    def _raw(self) -> str | None:
        start = _RAW_START.match(self.text, self.position)
        if start is None:
            return None
        closing = '"' + start[1]
        end = self.text.find(closing, start.end())
        end = len(self.text) if end < 0 else end
        self.position = min(end + len(closing), len(self.text))
        return self.text[start.end() : end]

    def _quoted(self) -> str | None:
        match = self._match(_QUOTED)
        return None if match is None else match[1].replace(_ESCAPED_QUOTE, '"')

    def _unquoted(self) -> str | None:
        match = self._match(_JINJA) or self._match(_UNQUOTED)
        return None if match is None else Unquoted(match[0].strip())

    # --- blocks, maps and lists ---------------------------------------------------------------------------------

    def block(self, keyword: str) -> Block | None:
        """Return the declaration whose *keyword* was just read; None if it has no name or no body."""
        if keyword == "client":
            self._template_arguments()
        self.skip_blank()
        name = self.word()
        if name is None or not self._skip_until("{"):
            return None
        return Block(keyword, name, self._map())

    def _template_arguments(self) -> None:
        """Skip the `<llm>` of `client<llm>`."""
        self.skip_blank()
        self._match(_TEMPLATE)

    def _map(self) -> dict[str, Value]:
        """Read a map from its opening to its closing brace."""
        entries: dict[str, Value] = {}
        self._take("{")
        while not self.at_end():
            self.skip_blank()
            if self._take("}"):
                break
            key = self._key()
            if key is None:
                self._skip_entry()
                continue
            self._skip_space()
            entries[key] = self._value() or ""
            self._skip_attributes()
        return entries

    def _key(self) -> str | None:
        is_raw_string = _RAW_START.match(self.text, self.position) is not None
        return None if is_raw_string else self._quoted() or self.word()

    def _skip_entry(self) -> None:
        """Skip an attribute, a separator, or a statement of a function without a prompt."""
        if not self.skip_braces() and not self._take(","):
            self.skip_one()

    def _skip_attributes(self) -> None:
        """Skip `@name(...)` behind a value."""
        self._skip_space()
        while self._take("@"):
            self.word()
            if self.text.startswith("(", self.position):
                self._balanced_parentheses()
            self._skip_space()

    def _balanced_parentheses(self) -> None:
        depth = 0
        while not self.at_end():
            character = self.text[self.position]
            depth += (character == "(") - (character == ")")
            self.skip_one()
            if depth == 0:
                return

    def _value(self) -> Value | None:
        readers: tuple[Callable[[], Value | None], ...] = (
            self._raw,
            self._quoted,
            self._list,
            self._nested_map,
            self._unquoted,
        )
        for read in readers:
            value = read()
            if value is not None:
                return value
        return None

    def _nested_map(self) -> dict[str, Value] | None:
        if not self.text.startswith("{", self.position) or self.text.startswith("{{", self.position):
            return None
        if self.depth >= _DEPTH:
            self._skip_nested()
            return {}
        self.depth += 1
        try:
            return self._map()
        finally:
            self.depth -= 1

    def _skip_nested(self) -> None:
        """Skip a map or a list with all that it contains, without a call per level: recursion of Python is limited."""
        depth = 0
        while not self.at_end():
            before = self.position
            character = self.text[before]
            self.skip_one()
            if self.position == before + 1:  # a bracket of its own, and not the first character of a comment
                depth += (character in "{[") - (character in "}]")
            if depth == 0:
                return

    def _list(self) -> list[Value] | None:
        if not self.text.startswith("[", self.position):
            return None
        if self.depth >= _DEPTH:
            self._skip_nested()
            return []
        self.depth += 1
        try:
            return self._list_items()
        finally:
            self.depth -= 1

    def _list_items(self) -> list[Value]:
        self._take("[")
        values: list[Value] = []
        while not self.at_end():
            self.skip_blank()
            if self._take("]"):
                break
            value = None if self._take(",") else self._value()
            if value is not None:
                values.append(value)
            elif self.text[self.position - 1] != ",":
                self.skip_one()
        return values
