r"""Read a text as words that compare equal in every spelling: any case, width or accent, encoded or not, joined or apart.

A provider repeats a prompt in many forms: in capitals, with `%20` or `+` for blanks, as `\u00e9` or `&quot;` of JSON and HTML, in
base64, or joined to an identifier. Folding undoes what says nothing. Each word keeps its place in the text, so that it can be masked there.
"""

from __future__ import annotations

import base64
import binascii
import re
import unicodedata
from collections.abc import Iterator
from typing import Final, NamedTuple

_LEVELS: Final = 3
"""Encodings around one another that are undone: `%2520`, `&amp;quot;`."""
_ENCODED: Final = re.compile(
    r"(?P<bytes>(?:(?:%|\\x)[0-9a-fA-F]{2})+)|(?P<octal>(?:\\[0-3][0-7]{2})+)|\\u(?P<code>[0-9a-fA-F]{4})"
    r"|\\u\{(?P<braced>[0-9a-fA-F]{1,5})\}|\\(?P<control>[nrtbf])|(?P<quoted>\\[\"'/\\])"
    r"|(?P<entity>&(?:[a-zA-Z]{2,8}|\#\d{1,7}|\#[xX][0-9a-fA-F]{1,6});)"
)
_BLOB: Final = re.compile(r"[A-Za-z0-9+/_-]{8,}")
_HEX: Final = re.compile(r"[0-9a-fA-F]{10,}")
_HEX_PAIRS: Final = re.compile(r"(?<![0-9a-fA-F])[0-9a-fA-F]{2}(?:[ :,-][0-9a-fA-F]{2}){4,}")
_NESTED: Final = re.compile(r"[A-Za-z0-9+/_=\s-]{12,}")
"""A text that may be base64 once more. Decoded garbage has other characters."""
UNSPACED: Final = "\u0e00-\u0eff\u1000-\u109f\u2e80-\u9fff\uac00-\ud7af\uf900-\ufaff"
"""The letters of scripts without spaces between words, as a class of a pattern. Korean is among them: its endings are joined to words."""
_WORD: Final = re.compile(rf"[{UNSPACED}]+|(?:(?![{UNSPACED}])[^\W_])+")
_PART: Final = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+|[^\W\d_]+")
_JOINED: Final = re.compile(r"[a-z0-9][A-Z]|[A-Z]{2}[a-z]|[A-Za-z]\d|\d[A-Za-z]")
_ACCENTS: Final = re.compile("[\u0300-\u036f]")
_INVISIBLE: Final = re.compile(
    "[\u00ad\u034f\u061c\u180e\u200b-\u200f\u202a-\u202e\u2060-\u2064\u2066-\u206f\ufe00-\ufe0f\ufeff]"
)
_BLANKS: Final = "".join(chr(code) if chr(code).isalnum() else " " for code in range(128))


class Word(NamedTuple):
    """A folded word.

    Attributes:
        text: the word.
        start: where it starts in the text.
        end: where it ends in the text.
        stop: where it ends in its view.
        parts: the words that it joins, as `rateLimit` does; empty for a plain word.
    """

    text: str
    start: int
    end: int
    stop: int
    parts: tuple[str, ...] = ()


class View(NamedTuple):
    """A text as it is, or without its encodings, with the place of each character in the original text."""

    text: str
    starts: list[int] | range
    ends: list[int] | range

    def words(self, *, in_parts: bool = False) -> list[Word]:
        """Return the folded words. *in_parts* splits `JonasWeber2` into `jonas weber 2`."""
        pattern = _PART if in_parts else _WORD
        return [
            Word(
                folded, self.starts[match.start()], self.ends[match.end() - 1], match.end(), _parts(match[0])
            )
            for match in pattern.finditer(self.text)
            if (folded := fold_word(match[0]))
        ]


def fold(text: str) -> str:
    """Return the words of *text*, folded, with one space between two words and around all.

    So `f" {word} " in folded` says whether a word is there, at the speed of a search in C. ASCII takes a faster way than other texts: a
    prompt may have a megabyte.
    """
    if text.isascii():
        return f" {' '.join(text.lower().translate(_BLANKS).split())} "
    return f" {' '.join(_WORD.findall(_fold_letters(_INVISIBLE.sub('', text))))} "


def fold_word(word: str) -> str:
    """Return one spelling for `Müller`, `MULLER` and its full-width form.

    Accents are dropped, since providers that only know ASCII drop them. Letters of other scripts stay.
    """
    return word.lower() if word.isascii() else _fold_letters(_INVISIBLE.sub("", word))


def views(text: str) -> list[View]:
    """Return *text* as it is, and as it reads after each level of encoding is undone.

    Invisible characters within a word are removed: they would split it.
    """
    found = [View(text, range(len(text)), range(1, len(text) + 1))]
    if not text.isascii():
        found[0] = _replaced(found[0], _INVISIBLE)
    for _ in range(_LEVELS):
        decoded = _replaced(found[-1], _ENCODED)
        if decoded.text == found[-1].text:
            break
        found.append(decoded)
    return found


def has_parts(text: str) -> bool:
    """Return whether *text* joins words without a separator, as identifiers do: `modelNotFound`, `gpt4`.

    Both readings count. A name such as McDonald is one word, and in a class name two persons' names may be joined.
    """
    return _JOINED.search(text) is not None


def blobs(text: str) -> Iterator[tuple[int, int, str]]:
    """Yield start, end and text of everything in *text* that may be base64, once or twice, or hexadecimal digits of a text.

    A piece may have been cut at its beginning, or stand behind a letter, so it is read from each of two or four positions.
    """
    for start, end, decoded in _blobs(text):
        yield start, end, decoded
        if _NESTED.fullmatch(decoded):
            for _, _, inner in _blobs(decoded):
                yield start, end, inner


def _blobs(text: str) -> Iterator[tuple[int, int, str]]:
    yield from _hex_blobs(text)
    for match in _BLOB.finditer(text):
        if match[0][1:].islower():  # a word: base64 of a text has capitals or digits
            continue
        for piece in {match[0].replace("-", "+").replace("_", "/"), re.sub("[_-]", "", match[0])}:
            for offset in range(4):
                decoded = _from_base64(piece[offset:])
                if decoded:
                    yield *match.span(), decoded


def _hex_blobs(text: str) -> Iterator[tuple[int, int, str]]:
    for match in _HEX.finditer(text):
        for offset in range(2):
            digits = match[0][offset:]
            yield *match.span(), _text_of(bytes.fromhex(digits[: len(digits) // 2 * 2]))
    for match in _HEX_PAIRS.finditer(text):
        yield *match.span(), _text_of(bytes.fromhex(re.sub("[:,-]", " ", match[0])))


def _parts(word: str) -> tuple[str, ...]:
    return tuple(map(fold_word, _PART.findall(word))) if _JOINED.search(word) else ()


def _from_base64(piece: str) -> str:
    whole = piece[: len(piece) // 4 * 4 or None]
    rest = piece[len(whole) :]
    if len(rest) > 1:  # one character alone is less than a byte
        whole += rest.ljust(4, "=")
    try:
        return _text_of(base64.b64decode(whole))
    except (binascii.Error, ValueError):
        return ""


def _text_of(data: bytes) -> str:
    # UTF-16 of an ASCII text has a NUL beside each letter.
    return data.replace(b"\0", b"").decode("utf-8", "ignore")


def _fold_letters(text: str) -> str:
    bare = _ACCENTS.sub("", unicodedata.normalize("NFKD", text.casefold()))
    return unicodedata.normalize("NFC", bare)


def _replaced(view: View, pattern: re.Pattern[str]) -> View:
    """Return *view* with each match of *pattern* decoded. All characters of one decoded text get the place of the match."""
    parts: list[str] = []
    starts: list[int] = []
    ends: list[int] = []
    done = 0
    for match in pattern.finditer(view.text):
        decoded = _decoded(match)
        parts += view.text[done : match.start()], decoded
        starts += [*view.starts[done : match.start()], *[view.starts[match.start()]] * len(decoded)]
        ends += [*view.ends[done : match.start()], *[view.ends[match.end() - 1]] * len(decoded)]
        done = match.end()
    if not done:
        return view
    return View(
        "".join((*parts, view.text[done:])),
        [*starts, *view.starts[done:]],
        [*ends, *view.ends[done:]],
    )


def _decoded(match: re.Match[str]) -> str:
    kind, text = match.lastgroup, match[0]
    if kind == "bytes":
        return bytes.fromhex(re.sub(r"%|\\x", "", text)).decode("utf-8", "replace")
    if kind == "octal":
        return bytes(int(digits, 8) for digits in text[1:].split("\\")).decode("utf-8", "replace")
    if kind in {"code", "braced"}:
        return chr(int(match[kind], 16))
    if kind == "control":
        return " "
    if kind == "quoted":
        return text[1]
    return _entity(text) if kind == "entity" else ""


def _entity(text: str) -> str:
    from html import unescape  # noqa: PLC0415 - it has a table of all entities

    return unescape(text)
