"""Finds the HTTP status that a text names: "Invalid request (400)", "401 Unauthorized", "Error code: 503 - ...".

A number is a status where the text calls it one: behind "status", "code", "HTTP" or "error", alone in parentheses, at the
beginning, or in front of its own reason phrase. It is none inside an address, an id, an amount with a unit, or a quotation.
"""

from __future__ import annotations

import re
from http import HTTPStatus
from itertools import chain
from typing import Final

from resilience.failure.remembered import by_text

_MAX_TEXT: Final = 4000
"""Characters of a text that are searched: a status is named at its beginning."""
_PHRASES: Final = {
    status.value: status.phrase.lower() for status in HTTPStatus if status.value >= HTTPStatus.BAD_REQUEST
}
# It begins with the digits and looks back over them: a search that begins with a look-behind tries it at every character.
_NUMBER: Final = re.compile(
    r"([45]\d\d)(?:(?<![\w.,:/#$€£=&@+-]\d\d\d)|(?<=status=\d\d\d)|(?<=_code=\d\d\d)|(?<=Code=\d\d\d)|(?<=(?<![?&\w])code=\d\d\d))"
    r"(?![\w%/@$€£-]|[.,:]\d)"
)
_BEFORE: Final = re.compile(
    r"(?:\bhttp(?:/\d(?:\.\d)?)?|(?<![a-z0-9])status(?:[ _-]?code)?(?: (?:is|was|of))?|\bcode|\bcause|errore?|exception"
    r"|\bresponded with|\breturned|\breturns|\bfailed with|\bfailed(?=\s?[:=])|\bgot(?: an?)?|\breceived|\bresponse|\bwith(?: an?)?|\brejected|\breplied"
    r"|fehler|erreur|\berro|código|ошибка|エラー|오류|状态码|错误码|错误|报错|失败)[\s:=('\"\[<（：-]{0,4}\Z",  # noqa: RUF001 - full-width signs
    re.IGNORECASE,
)
_AFTER: Final = re.compile(r"\s(?:error|response|status)\b", re.IGNORECASE)
"""Words behind a status: "a 429 error". The plural counts something."""
_START: Final = re.compile(r"[\W_]{0,6}(?:[A-Z]\w{2,40}(?:Error|Exception)?:\s{0,2})?\Z")
_UNITS: Final = re.compile(
    r"\s{0,2}(?:tokens?|ms|milliseconds?|s|secs?|seconds?|min|minutes?|hours?|days?|characters?|chars?|bytes?|[kmg]i?b|requests?"
    r"|calls?|words?|messages?|times|items?|pages?|lines?|credits?|usd|dollars?|rpm|tpm|images?|pixels?|px|dpi|attempts?|retries"
    r"|(?:input|output|completion) tokens|个|秒|次)\b",
    re.IGNORECASE,
)
_QUOTED: Final = re.compile(
    r"\"[^\"\n]{1,400}\"|(?<!\w)'[^'\n]{1,400}'(?!\w)|“[^”\n]{1,400}”|`[^`\n]{1,400}`"
)
_OPENING: Final = "\"'“`"


@by_text
def status_in_text(text: str) -> int | None:
    """Return the first status that *text* names; None if it names none."""
    text = text[:_MAX_TEXT]
    named = (match for match in _NUMBER.finditer(text) if _names_a_status(text, match, int(match[1])))
    first = next(named, None)
    if first is None:
        return None
    quotations = [match.span() for match in _QUOTED.finditer(text)]
    return next(
        (int(match[1]) for match in chain((first,), named) if not _quoted(text, match, quotations)), None
    )


def without_reason_phrase(text: str, status: int | None) -> str:
    """Return *text* without the reason phrase behind *status*: "429 Too Many Requests" says no more than 429.

    Args:
        text: a text.
        status: the status that is already evidence; None for no status.
    """
    phrase = _PHRASES.get(status) if status is not None else None
    if phrase is None or phrase not in text.lower():
        return text
    return re.sub(rf"({status}[ :_-]{{1,3}}){re.escape(phrase)}", r"\1", text, flags=re.IGNORECASE)


def _names_a_status(text: str, match: re.Match[str], status: int) -> bool:
    before, after = text[max(0, match.start() - 40) : match.start()], text[match.end() : match.end() + 40]
    if _UNITS.match(after):
        return False
    phrase = _PHRASES.get(status)
    if phrase is not None and after.lstrip(" :-").lower().startswith(phrase):
        return True
    if _AFTER.match(after):
        return True
    if before.endswith(("(", "（")) and after.startswith((")", "）")):  # noqa: RUF001 - full-width signs
        return True
    at_start = match.start() < 40 and _START.match(before) is not None  # noqa: PLR2004 - all that is before it was cut out
    return (at_start and (not after or not after[0].isalnum())) or _BEFORE.search(before) is not None


def _quoted(text: str, match: re.Match[str], quotations: list[tuple[int, int]]) -> bool:
    """Return whether the number is in a quotation. httpx writes "Client error '429 Too Many Requests'": that is its own word."""
    inside = next((span for span in quotations if span[0] < match.start() < span[1]), None)
    if inside is None or inside == (0, len(text)):
        return False
    return text[inside[0] + 1 : match.start()].strip() != "" or text[: inside[0]].rstrip()[
        -5:
    ].lower() not in {"error", "tatus"}
