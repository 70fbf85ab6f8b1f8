"""Recognise and remove what a provider, or an exception, repeats of what was sent.

The rules:

- Words are compared, not characters, so the spelling does not matter: case, accents, separators and encodings are undone first
  (`folding.py`).
- A word of a message is *revealing* if it was also sent and is not a word that providers use themselves. One such word is an echo:
  names and illnesses are single words.
- With a revealing word, its neighbours are removed that were sent in the same order, also a word that was cut and short words between.
- A long run of letters that was sent is revealing, however it is split into words. Scripts without spaces are compared this way.
- Words of providers stay where no revealing word is near: "quota exceeded" says what happened, whatever the prompt is about. So a
  removal never changes what an error means.
- Base64 and hexadecimal digits are decoded first.

Not found: ciphers, translations, paraphrases, and words that providers use themselves.

What was sent is read in full. The work is bounded by the product of both texts, since each word of the message is searched in all that
was sent. Beyond the limit nothing is compared, and every word is removed that providers do not use: in doubt a word is masked.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from functools import cached_property
from typing import Final, NamedTuple

from resilience.redaction.folding import UNSPACED, View, Word, blobs, fold, has_parts, views

ECHO: Final = "[echo]"
"""The replacement of a part of a message that was also sent."""
IsStock = Callable[[str], bool]
"""Returns whether a folded word is one that providers use themselves."""

_LIMIT: Final = 2_000_000
"""Characters of the longest text that is compared."""
_WORK: Final = 60_000_000
"""Characters that may be passed over for one message: some 30 ms. A search passes over all of what was sent."""
_MESSAGE: Final = 4_000
"""Characters of a message that are looked at; the rest is dropped."""
_LEAST: Final = 3
"""Characters of a revealing word. A shorter one is revealing if it is a name or an abbreviation, or if little was sent."""
_LEAST_PART: Final = 4
"""Characters of a revealing part of an identifier, or of what base64 stands for: random ids have short words by chance."""
_DIGITS: Final = 4
"""Digits of a revealing number, unless it is a year."""
_WITHIN: Final = 6
"""Characters of a word that is revealing within another one."""
_FEW_WORDS: Final = 12
"""Words of the longest text that counts as short: each of its words is revealing, also within another word."""
_WINDOW: Final = 12
"""Characters of a common part that is revealing wherever its words begin and end."""
_UNSPACED_WINDOW: Final = 5
"""The same for scripts without spaces."""
_GAP: Final = 2
"""Words between two revealing words that are removed with them, if they were also sent."""

_FIELD: Final = re.compile(r'(?<!\\)"[\w$.-]{1,64}"\s{0,4}:')
_MODEL: Final = re.compile(r'"model(?:Id)?"\s{0,4}:\s{0,4}"([^"\\]{1,200})"')
_JSON_ESCAPE: Final = re.compile(r'\\(?:u([0-9a-fA-F]{4})|([nrtbf"/\\]))')
_YEAR: Final = re.compile(r"(?:19|20)\d\d")
_UNSPACED: Final = re.compile(f"[{UNSPACED}]")
_SPELLED: Final = re.compile(r"(?:[^\W_][\W_]{1,4}){8}")
"""Letters apart: `J o n a s`."""
_CUT: Final = re.compile(r"\s{0,2}(?:\.{2,}|\u2026)")


class SentContent(NamedTuple):
    """What was sent, and what of it a failure may repeat.

    Attributes:
        text: everything that was sent and is content.
        models: the names of models.
    """

    text: str
    models: str = ""


def content_of_request(body: str) -> SentContent:
    """Return the content of a JSON request *body*: not its field names, nor its model."""
    if len(body) > _LIMIT:
        return SentContent(body)
    models = " ".join(_MODEL.findall(body))
    text = _FIELD.sub(" ", _MODEL.sub(" ", body))
    return SentContent(_JSON_ESCAPE.sub(_unescaped, text) if "\\" in text else text, models)


class SentText:
    """What was sent to a provider: the body of a request, or the arguments of a call. It is read when it is first needed.

    Args:
        read: returns the content.
        is_stock: whether a folded word is one of the providers' own.
    """

    def __init__(self, read: Callable[[], SentContent], is_stock: IsStock) -> None:
        self._read = read
        self._is_stock = is_stock

    def without_echo(self, message: str) -> str:
        """Return *message* with everything that it repeats replaced by `[echo]`; its first 4 000 characters at most."""
        message = message[:_MESSAGE]
        parts: list[str] = []
        done = 0
        for start, end in self._merged(message, sorted(self._spans(message))):
            parts += message[done:start], ECHO
            done = end
        return "".join((*parts, message[done:]))

    def is_echo(self, text: str) -> bool:
        """Return whether *text* repeats anything.

        Args:
            text: a code, an id or a name. Of these nothing is cut out: half an id is of no use.
        """
        return next(self._spans(text), None) is not None

    # --- what was sent ------------------------------------------------------------------------------------------

    @cached_property
    def _content(self) -> SentContent:
        return self._read()

    @property
    def _text(self) -> str:
        return self._content.text

    @cached_property
    def _models(self) -> frozenset[str]:
        return frozenset(fold(self._content.models).split())

    @cached_property
    def _words(self) -> str:
        return fold(self._text) if len(self._text) <= _LIMIT else ""

    @cached_property
    def _joined(self) -> str:
        return self._words.replace(" ", "")

    @cached_property
    def _is_short(self) -> bool:
        return self._words.count(" ") <= _FEW_WORDS + 1

    @property
    def _is_too_long(self) -> bool:
        return len(self._text) > _LIMIT

    # --- what is repeated ---------------------------------------------------------------------------------------

    def _spans(self, message: str) -> Iterator[tuple[int, int]]:
        """Yield start and end of each repeated part, in any order; parts may overlap.

        The text is searched as it is and after each level of decoding. A joined word is looked at as a whole and in parts.
        """
        found = [(view, view.words()) for view in views(message)]
        candidates = {word.text for _, words in found for word in words if not self._is_own(word)}
        if not candidates and not _SPELLED.search(message):
            return  # all words are the providers': most messages end here, and what was sent is not read
        if self._is_too_long or (len(candidates) + len(message) // 8) * len(self._words) > _WORK:
            yield from ((word.start, word.end) for word in found[-1][1] if not self._is_own(word))
            return
        for view, words in found:
            # As a whole first: "McDonald" is one word that was sent. Then in parts: "JonasWeber" are two. Random ids have short words
            # by chance, so a part must be longer.
            yield from self._spans_of_words(view, words)
            if has_parts(view.text):
                yield from self._spans_of_words(view, view.words(in_parts=True), least=_LEAST_PART)
            yield from self._common_parts(words)
        for start, end, text in blobs(message):
            if any(self._reveals(word, _LEAST_PART) for word in fold(text).split()):
                yield start, end

    def _spans_of_words(
        self, view: View, words: list[Word], *, least: int = _LEAST
    ) -> Iterator[tuple[int, int]]:
        for index, word in enumerate(words):
            if not self._is_own(word) and (self._reveals(word.text, least) or self._is_cut(view, word)):
                yield self._extended(words, index)

    def _reveals(self, word: str, least: int) -> bool:
        """Return whether *word* was sent and is not the providers' own.

        Args:
            word: a folded word.
            least: characters of a word that is revealing by itself.
        """
        if self._stock(word):
            return False
        if word.isdecimal():
            return len(word) >= _DIGITS and not _YEAR.fullmatch(word) and f" {word} " in self._words
        if f" {word} " in self._words:
            return len(word) >= least or (least == _LEAST and self._is_name(word))
        within = _LEAST_PART if self._is_short else _WITHIN
        return len(word) >= within and word in self._joined

    def _is_name(self, word: str) -> bool:
        """Return whether a word of two letters was sent in the spelling of a name or an abbreviation."""
        if self._is_short or not word.isascii():
            return True
        written = rf"(?<![^\W_])(?:{word.capitalize()}|{word.upper()})(?![^\W_])"
        return re.search(written, self._text) is not None

    def _is_cut(self, view: View, word: Word) -> bool:
        """Return whether *word* is the beginning of one that was sent, and was cut: `Web...`."""
        if len(word.text) < _LEAST or word.text.isdecimal():
            return False
        return _CUT.match(view.text, word.stop) is not None and f" {word.text}" in self._words

    def _extended(self, words: list[Word], index: int) -> tuple[int, int]:
        """Return the span of the word at *index* with all that surrounds it in the message as in what was sent.

        The run may end within a word that was sent, since a provider cuts what it repeats: "pain in his le...".
        """
        first = last = index
        run = words[index].text
        if f" {run}" in self._words or f"{run} " in self._words:
            while last + 1 < len(words) and f"{run} {words[last + 1].text}" in self._words:
                last += 1
                run = f"{run} {words[last].text}"
            while first and f"{words[first - 1].text} {run}" in self._words:
                first -= 1
                run = f"{words[first].text} {run}"
        return words[first].start, words[last].end

    def _common_parts(self, words: list[Word]) -> Iterator[tuple[int, int]]:
        """Yield the parts whose letters were sent in this order, however they were split into words.

        Args:
            words: the words of a view. Windows of their letters are searched. They overlap by half, so each common part of one
                and a half windows has a whole window in it.
        """
        # Windows overlap by half where letters are many, so the number of searches stays in proportion to the message. A script
        # without spaces has short words, so each position is looked at.
        letters = "".join(word.text for word in words)
        places = [(word, index) for word in words for index in range(len(word.text))]
        is_unspaced = _UNSPACED.search(letters) is not None
        width, step = (_UNSPACED_WINDOW, 1) if is_unspaced else (_WINDOW, _WINDOW // 2)
        at = 0
        while at + width <= len(letters):
            if letters[at : at + width] not in self._joined:
                at += step
                continue
            start, end = self._widest(letters, at, at + width)
            inside = [word for word, _ in places[start:end]]
            is_spelled = all(len(word.text) == 1 for word in inside)
            if (is_spelled or not all(map(self._is_own, inside))) and not self._is_stock_text(
                letters[start:end]
            ):
                yield _start_of(*places[start]), _end_of(*places[end - 1])
            at = end

    def _widest(self, letters: str, start: int, end: int) -> tuple[int, int]:
        while start and letters[start - 1 : end] in self._joined:
            start -= 1
        while end < len(letters) and letters[start : end + 1] in self._joined:
            end += 1
        return start, end

    def _is_stock_text(self, part: str) -> bool:
        """Return whether *part* is made of the providers' words, in a script without spaces."""
        return _UNSPACED.search(part) is not None and self._is_stock(part)

    def _is_own(self, word: Word) -> bool:
        """Return whether *word* is the providers' own, or joins such words."""
        return self._stock(word.text) or (bool(word.parts) and all(map(self._stock, word.parts)))

    def _stock(self, word: str) -> bool:
        return len(word) < 2 or self._is_stock(word) or word in self._models  # noqa: PLR2004 - a letter reveals nothing

    def _merged(self, message: str, spans: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
        """Return *spans* without overlaps. Two with only sent words between them become one.

        Args:
            message: the text of the spans.
            spans: start and end of each, in order.
        """
        merged: list[tuple[int, int]] = []
        for start, end in spans:
            if merged and (start <= merged[-1][1] or self._is_bridge(message[merged[-1][1] : start])):
                merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
            else:
                merged.append((start, end))
        return merged

    def _is_bridge(self, between: str) -> bool:
        words = fold(between).split()
        return len(words) <= _GAP and len(between) < 40 and all(f" {word} " in self._words for word in words)  # noqa: PLR2004 - a few words


def _start_of(word: Word, index: int) -> int:
    """Return the place of a letter. Only scripts without spaces are split within a word."""
    return word.start + index if _UNSPACED.match(word.text) and _is_exact(word) else word.start


def _end_of(word: Word, index: int) -> int:
    return word.start + index + 1 if _UNSPACED.match(word.text) and _is_exact(word) else word.end


def _is_exact(word: Word) -> bool:
    return len(word.text) == word.end - word.start


def _unescaped(match: re.Match[str]) -> str:
    if match[1]:
        return chr(int(match[1], 16))
    return match[2] if match[2] in '"/\\' else " "
