"""Names of clients and namespaces as stores keep them: any two names stay two. Pure."""

from __future__ import annotations

import re
from typing import Final

# Half a surrogate can be in a str of Python, and in no UTF-8. Escaped with a backslash it would be the name that has these letters.
_UNSAFE: Final = re.compile("[\0\ud800-\udfff]")
_ESCAPED: Final = re.compile("\0([0-9A-F]{4})")


def encode_name(name: str) -> str:
    """Return *name* as text that every store can keep. Almost every name is unchanged; different names stay different."""
    return _UNSAFE.sub(lambda match: f"\0{ord(match[0]):04X}", name)


def decode_name(text: str) -> str:
    """Return the name that `encode_name` made *text* of."""
    return _ESCAPED.sub(lambda match: chr(int(match[1], 16)), text)
