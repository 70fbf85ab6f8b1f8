"""Text that is safe to print on a terminal.

Much of what commands show was written elsewhere: by providers, by models, by operators of other machines. A terminal obeys
some of these characters. An escape sequence can clear the screen, change the window's title or hide the text after it. A
bidirectional control shows text in another order than programs read it. A zero-width character makes two different names
look equal. So commands print such characters as visible escapes, as Python writes them in a string literal.
"""

from __future__ import annotations

import re
from typing import Final

_CONTROLS: Final = r"\x00-\x1f\x7f-\x9f"
"""C0, DEL and C1. A terminal may take a single C1 character for the start of an escape sequence."""
_INVISIBLE: Final = (
    r"\xad\u061c\u180e"  # soft hyphen, Arabic letter mark, Mongolian vowel separator
    r"\u200b-\u200f\u2028-\u202e"  # zero-width and direction marks; line separators, embeddings and overrides
    r"\u2060-\u206f\ufeff\ufff9-\ufffb"  # word joiner, isolates, byte order mark, annotations
    r"\U000e0000-\U000e007f"  # tags: a hidden copy of ASCII
)
_SURROGATES: Final = r"\ud800-\udfff"
"""Undecodable bytes of a file name become lone surrogates. They cannot be encoded: printing one raises."""

_CONTROL: Final = re.compile(f"[{_CONTROLS}{_SURROGATES}]")
_UNSAFE: Final = re.compile(f"[{_CONTROLS}{_INVISIBLE}{_SURROGATES}]")
_SHORT: Final = {"\n": "\\n", "\t": "\\t", "\r": "\\r"}


def escape(text: str, *, keep: str = "") -> str:
    r"""Return *text* with every character that a terminal obeys or hides as a visible escape, such as ``\x1b``.

    Args:
        text: the text to print.
        keep: characters that stay as they are, such as a line feed in a text of several lines.
    """
    return _UNSAFE.sub(lambda match: match[0] if match[0] in keep else _visible(match[0]), text)


def escape_controls(text: str, *, keep: str = "") -> str:
    """Escape only control characters, as `escape` does. Names in right-to-left scripts and emoji stay exact.

    Args:
        text: a value for a program that reads text, such as a cell of CSV.
        keep: characters that stay as they are.
    """
    return _CONTROL.sub(lambda match: match[0] if match[0] in keep else _visible(match[0]), text)


def _visible(character: str) -> str:
    code = ord(character)
    if character in _SHORT:
        return _SHORT[character]
    if code <= 0xFF:  # noqa: PLR2004 - the widths of Python's own escapes
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"  # noqa: PLR2004 - as above
