"""Reads how long a provider asks to wait: from headers, from fields of the body and from sentences.

Zero, a negative number and a date in the past state no wait: providers send them for "unknown" (openai/openai-dotnet#838).
A wait of more than 90 days is a number that was misread. Tests hold each form with the provider that sends it.

Functions of this module take *now*, epoch seconds, to turn a date into seconds. They read no clock.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Final

from resilience.failure.body import ResponseBody, fold
from resilience.failure.remembered import by_text

MAX_WAIT: Final = 90 * 86_400.0
"""The longest wait that is accepted, in seconds."""

_EPOCH = 1e9
"""A larger number is a date, not a duration: seconds since 1970 reached it in 2001."""
_EPOCH_MS = 1e11
"""A larger date is in milliseconds (OpenRouter's `X-RateLimit-Reset`)."""

_UNIT_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
_PART = re.compile(
    r"(\d{1,12}(?:\.\d{1,12})?)[ ]?(?:(ms|milli)|(d)|(h)|(m)|(s))"
    r"(?:(?<=milli)seconds?|(?<=d)ays?|(?<=h)(?:ours?|rs?)|(?<=m)in(?:ute)?s?|(?<=s)ec(?:ond)?s?)?(?![a-z])",
)
_HOURS_MINUTES_SECONDS = re.compile(r"(?:(\d{1,3})\.)?(\d{1,3}):(\d\d):(\d\d)(?!\d)")
"""`12:30:15`, or .NET's `5.03:23:11` with days in front."""
_LEADS = (
    *(
        "again",
        "retry",
        "retrying",
        "wait",
        "reset",
        "resets",
        "retry-after",
        "available",
        "replenished",
        "once more",
    ),
    *("resume", "resumes", "resuming", "back", "refreshes", "renews", "back off", "free"),
)
"""Words in front of a wait: "try again in 20s", "resets after 8h", "wait: 5 seconds"."""
_PREPOSITIONS = frozenset(
    f"{word}{colon}" for word in ("in", "after", "for", "within") for colon in ("", ":")
)
_LAST_LETTERS = "".join(sorted({word[-1] for word in (*_LEADS, *_PREPOSITIONS)}))  # with the colon
_NUMBER_OF_ITS_OWN = re.compile(rf"\d(?:(?<=[{_LAST_LETTERS}] \d)|(?<=[{_LAST_LETTERS}] ~\d))")
# Few texts have a number behind a blank, so these are found first; what leads to one is looked for backwards from there.
_LEAD = re.compile(
    "(?:" + "|".join(rf"(?<=\b{lead}{colon} )" for lead in _LEADS for colon in ("", ":")) + ")"
)
_ONE: Final = (" one minute", " a minute", " one hour", " an hour", " one second", " a second")
"""One, as a word. A wait needs a verb in front: "5 requests a minute" is none."""
_FOREIGN_NEEDLES = (
    *(
        "patientez",
        "attend",
        "réess",
        "warten",
        "versuchen",
        "esper",
        "aguarde",
        "intent",
        "intént",
        "tente",
        "riprova",
    ),
    *"秒分时時天日초분일",
    *("시간", "через", "خلال", "بعد"),
)
"""What a text must hold to be searched for `_FOREIGN` at all."""
_ASCII_NEEDLES = tuple(filter(str.isascii, _FOREIGN_NEEDLES))
# French, German, Spanish, Portuguese and Italian put the wait behind a verb, Russian and Arabic behind "in"; Chinese, Japanese and
# Korean write "after" behind it.
# Every repetition is bounded, which keeps the search linear on hostile texts.
_FOREIGN = re.compile(
    r"\b(?:patientez|attendez|attendre|réessay(?:ez|er)|warten|versuchen|esper[ae]r?|aguarde|int[eé]nt(?:elo|e|ar)|tente|attend[ai]|riprova)"
    r"\b[^\d\n]{0,30}?"
    r"(?<![\d.])(\d{1,6}(?:[.,]\d{1,3})?)[ ]?(s|m|h|tag|jour|d[ií]a|giorn)\w{0,7}\b"
    r"|(?<![\d.])(\d{1,6}(?:\.\d{1,3})?)[ ]?(秒|分|小时|小時|時間|天|日)(?:钟|鐘|間)?(?:之?[后後]|再|お待ち)"
    r"|(?<![\d.])(\d{1,6}(?:\.\d{1,3})?)[ ]?(초|분|시간|일)[ ]?(?:후|뒤|이내)"
    r"|\b(?:через|خلال|بعد)[ ]{1,3}(\d{1,6}(?:\.\d{1,3})?)[ ]?(с|м|ч|д|ث|د|س|ي)\w{0,7}\b"  # noqa: RUF001 - Cyrillic
)
_FOREIGN_SECONDS = {
    "s": 1.0,
    "秒": 1.0,
    "m": 60.0,
    "分": 60.0,
    "h": 3600.0,
    "小时": 3600.0,
    "小時": 3600.0,
    "時間": 3600.0,
    "초": 1.0,
    "분": 60.0,
    "시간": 3600.0,
    "с": 1.0,  # noqa: RUF001 - Russian
    "м": 60.0,
    "ч": 3600.0,
    "ث": 1.0,  # Arabic
    "د": 60.0,
    "س": 3600.0,
}
"""Seconds of a unit by its first letter or its sign; other units of `_FOREIGN` are days."""
_HEADER_IN_TEXT = re.compile(r"\bretry-after[\"']?[:=] ?[\"']?(\d{1,9}(?:\.\d{1,9})?)\b(?![.:\d])")
"""The `Retry-After` header, repeated in a sentence: a number of seconds without a unit."""
_NUMBER = re.compile(r"[+-]?\d{1,15}(?:\.\d{1,15})?\Z")

_WINDOWS = (
    *("requests", "tokens", "input-tokens", "output-tokens"),
    *(f"{counted}-{span}" for counted in ("requests", "tokens") for span in ("minute", "hour", "day")),
)
"""What a rate limit may count. The names with a time span are Cerebras'."""
_RESETS = tuple(f"x-rate-limit-reset-{window}" for window in _WINDOWS)
"""Azure's headers: another hyphen, whole seconds."""
_REMAINING_AND_RESET = (
    *((f"x-ratelimit-remaining-{window}", f"x-ratelimit-reset-{window}") for window in _WINDOWS),
    *(
        (f"anthropic-ratelimit-{window}-remaining", f"anthropic-ratelimit-{window}-reset")
        for window in _WINDOWS
    ),
    ("x-ratelimit-remaining", "x-ratelimit-reset"),
    ("ratelimit-remaining", "ratelimit-reset"),
)
"""For each window the header with what remains of it, and the one with its end."""


def stated_delay(
    headers: Mapping[str, str], body: ResponseBody, now: float | None, *, throttled: bool
) -> float | None:
    """Return the seconds that the provider asked to wait; None if it stated no wait.

    Exact headers outrank the body. In the body the longest of its fields and sentences counts: Gemini rounds its field
    down. The reset of an exhausted window comes last, because it is an upper bound: room may be free earlier.

    Args:
        headers: response headers, names in lower case.
        body: the unwrapped response body.
        now: epoch seconds, the start of waits that end at a date, where the response has no `date` header.
        throttled: whether an exhausted window may be what stopped the request.
    """
    # The server's own clock, so that a wrong local clock neither shortens nor lengthens the wait.
    now = _date(headers.get("date", "")) or now
    for read in (_retry_after_ms, _retry_after):
        if (delay := _plausible(read(headers, now))) is not None:
            return delay
    in_body = [*_fields(body.objects, now), *_sentences(body.text)]
    longest = max(filter(None, map(_plausible, in_body)), default=None)
    return _window(headers, now) if longest is None and throttled else longest


def duration_seconds(text: str) -> float | None:
    """Return the seconds of the duration at the start of *text*; None if it starts with none.

    Known forms: `1m9.696s`, `6ms`, `2h`, `20 seconds`, `5 days 22 hours`, `12:30:15`, `5.03:23:11`.
    """
    if (clock := _HOURS_MINUTES_SECONDS.match(text)) is not None:
        days, hours, minutes, seconds = (int(part or 0) for part in clock.groups())
        return days * 86_400.0 + hours * 3600 + minutes * 60 + seconds
    total, position = 0.0, 0
    while (part := _PART.match(text, position)) is not None:
        number, *units = part.groups()
        unit = next(unit for unit in units if unit)
        total += float(number) * _UNIT_SECONDS["ms" if unit == "milli" else unit]
        position = part.end()
        gap = text[position : position + 5]  # "5 days, 22 hours"
        position += len(gap) - len(gap.lstrip(" ,"))
    return total if position else None


def _plausible(seconds: float | None) -> float | None:
    if seconds is None or not math.isfinite(seconds) or not 0 < seconds <= MAX_WAIT:
        return None
    return seconds


# --- headers ----------------------------------------------------------------------------------------------------------


def _retry_after_ms(headers: Mapping[str, str], _now: float | None) -> float | None:
    """Read `retry-after-ms` (OpenAI, Azure) or `x-ms-retry-after-ms` (Azure)."""
    value = _number(headers.get("retry-after-ms") or headers.get("x-ms-retry-after-ms"))
    return None if value is None else value / 1000


def _retry_after(headers: Mapping[str, str], now: float | None) -> float | None:
    """Read `retry-after`: by RFC 9110, 10.2.3, seconds or an HTTP-date. Some send a fraction, `20s` or epoch seconds."""
    return _reset(headers.get("retry-after", "").strip(), now)


def _window(headers: Mapping[str, str], now: float | None) -> float | None:
    """Return the seconds until every exhausted window is full again: the request needs room in all of them."""
    return max(filter(None, map(_plausible, _windows(headers, now))), default=None)


def _windows(headers: Mapping[str, str], now: float | None) -> Iterator[float | None]:
    if not headers:
        return
    for reset in _RESETS:
        yield _number(headers.get(reset))
    for remaining, reset in _REMAINING_AND_RESET:
        if reset in headers:
            yield _exhausted(headers, remaining, reset, now)
    if headers.get("anthropic-ratelimit-unified-status") == "rejected":
        yield _reset(headers.get("anthropic-ratelimit-unified-reset", ""), now)
    for window in ("primary", "secondary"):  # the ChatGPT backend of Codex
        if _number(headers.get(f"x-codex-{window}-used-percent", "100")) == 100:  # noqa: PLR2004 - per cent
            yield _number(headers.get(f"x-codex-{window}-reset-after-seconds"))
            yield _reset(headers.get(f"x-codex-{window}-reset-at", ""), now)


def _exhausted(headers: Mapping[str, str], remaining: str, reset: str, now: float | None) -> float | None:
    """Return the seconds until a window resets, if it is exhausted. One that does not state what remains counts as such."""
    return _reset(headers.get(reset, ""), now) if _number(headers.get(remaining, "0")) == 0 else None


def _reset(value: str, now: float | None) -> float | None:
    """Return the seconds until *value*: a duration, RFC 3339, epoch seconds or milliseconds, or seconds to wait."""
    if not value:
        return None
    number = _number(value)
    if number is not None:
        return _epoch(number, now) if number > _EPOCH else number
    duration = duration_seconds(value.lower())
    return _until(_date(value), now) if duration is None else duration


# --- body -------------------------------------------------------------------------------------------------------------


def _fields(objects: Iterable[Mapping[str, object]], now: float | None) -> Iterator[float | None]:
    for entry in objects:
        yield _span(entry)
        for key, value in entry.items():
            read = _FIELD_READERS.get(fold(key))
            if read is not None and not isinstance(value, bool):
                yield read(value, now)


def _seconds(value: object, _now: float | None) -> float | None:
    return float(value) if isinstance(value, int | float) else _duration(value, _now)


def _milliseconds(value: object, _now: float | None) -> float | None:
    number = _number(str(value))
    return None if number is None else number / 1000


def _duration(value: object, now: float | None) -> float | None:
    if isinstance(value, Mapping):
        return _span(value)
    return _reset(value, now) if isinstance(value, str) else None


def _span(entry: Mapping[str, object]) -> float | None:
    """Read protobuf's Duration, an object of `seconds` and `nanos` alone; Google's texts have `retry_delay { seconds: 22 }`."""
    if "seconds" not in entry:
        return None
    match entry:
        case {"seconds": int(seconds), **rest} if not rest:
            return float(seconds)
        case {"seconds": int(seconds), "nanos": int(nanos), **rest} if not rest:
            return seconds + nanos / 1e9
    return None


def _instant(value: object, now: float | None) -> float | None:
    return _reset(str(value), now) if isinstance(value, int | float | str) else None


def _repeated(value: object, now: float | None) -> float | None:
    """Read the headers that a gateway repeats inside its body (OpenRouter's `metadata.headers`)."""
    if not isinstance(value, Mapping):
        return None
    headers = {str(name).lower(): str(text) for name, text in value.items()}
    return _plausible(_retry_after(headers, now)) or _window(headers, now)


_FIELD_READERS: Mapping[str, Callable[[object, float | None], float | None]] = {
    "retrydelay": _duration,  # google.rpc.RetryInfo
    "quotaresetdelay": _duration,  # Gemini Code Assist
    "quotaresettimestamp": _instant,
    "resetsinseconds": _seconds,  # Codex
    "resetsat": _instant,
    "estimatedtime": _seconds,  # Hugging Face, while a model loads
    "retryafter": _seconds,
    "retryafterseconds": _seconds,
    "retryafterms": _milliseconds,
    "retryin": _seconds,
    "retryinseconds": _seconds,
    "etaseconds": _seconds,
    "waitseconds": _seconds,
    "cooldownseconds": _seconds,
    "resetafter": _seconds,
    "resetafterseconds": _seconds,
    "resetinseconds": _seconds,
    "headers": _repeated,
}


@by_text
def _sentences(text: str) -> tuple[float | None, ...]:
    """Return the waits of sentences such as "try again in 1m9.696s" and "quota will reset after 8h44m7s"."""
    lowered = text.lower()
    for word in _ONE:
        if word in lowered:
            lowered = lowered.replace(word, f" 1 {word.split()[1]}")
    waits: list[float | None] = []
    if "retry-after" in lowered:
        waits += (float(header[1]) for header in _HEADER_IN_TEXT.finditer(lowered))
    for number in _NUMBER_OF_ITS_OWN.finditer(lowered):
        at = number.start()
        if _LEAD.match(lowered, _end_of_lead(lowered, at)) is not None:
            waits.append(duration_seconds(lowered[at : at + 60]))
    needles = _ASCII_NEEDLES if lowered.isascii() else _FOREIGN_NEEDLES
    if any(map(lowered.__contains__, needles)):
        for foreign in _FOREIGN.finditer(lowered):
            amount, unit = filter(None, foreign.groups())
            waits.append(float(amount.replace(",", ".")) * _FOREIGN_SECONDS.get(unit, 86_400.0))
    return tuple(waits)


def _end_of_lead(text: str, number: int) -> int:
    """Return where the words in front of a *number* and of its preposition end, the blank included: "again in 5s" 6, "again 5s" 6."""
    end = number - 1 if text[number - 1] == "~" else number
    before = text.rfind(" ", max(0, end - 9), end - 1) + 1
    return before if before and text[before : end - 1] in _PREPOSITIONS else end


# --- values -----------------------------------------------------------------------------------------------------------


def _number(value: object) -> float | None:
    if not isinstance(value, str) or not _NUMBER.match(value.strip()):
        return None
    return float(value)


def _epoch(number: float, now: float | None) -> float | None:
    return _until(number / 1000 if number > _EPOCH_MS else number, now)


def _until(date: float | None, now: float | None) -> float | None:
    return None if date is None or now is None else date - now


def _date(value: str) -> float | None:
    """Return the epoch seconds of an RFC 3339 date or an HTTP-date; one without a zone is UTC."""
    value = value.strip()[:64]
    if not value:
        return None
    from email.utils import parsedate_to_datetime  # noqa: PLC0415 - thirteen modules, and few delays are dates

    try:
        when = datetime.fromisoformat(value) if value[0].isdigit() else parsedate_to_datetime(value)
        return (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError, IndexError, TypeError):
        return None
