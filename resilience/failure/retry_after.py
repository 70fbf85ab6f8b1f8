"""Seconds a provider asks us to wait, in every syntax it is stated: headers, fields of the body, sentences.

The forms, and where each was seen, are the table "Where a retry delay is stated" of the project's error study. Zero, a
negative number and a date in the past say nothing: providers send them for "unknown" (openai/openai-dotnet#838).
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from resilience.failure.body import ResponseBody, fold

LONGEST = 90 * 86_400.0
"""Seconds; a longer wait is a misread number."""

_EPOCH = 1e9
"""A larger number is a moment, not a duration: seconds since 1970 reached it in 2001."""
_EPOCH_MS = 1e11
"""A larger moment is in milliseconds (OpenRouter's `X-RateLimit-Reset`)."""

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
_PART = re.compile(
    r"(\d{1,12}(?:\.\d{1,12})?)[ ]?(?:(ms|milli)|(d)|(h)|(m)|(s))"
    r"(?:(?<=milli)seconds?|(?<=d)ays?|(?<=h)(?:ours?|rs?)|(?<=m)in(?:ute)?s?|(?<=s)ec(?:ond)?s?)?(?![a-z])",
)
_CLOCK = re.compile(r"(\d{1,3}):(\d\d):(\d\d)(?!\d)")
_ASKED = re.compile(
    r"\b(?:again|retry|retrying|wait|resets?|retry-after|available|replenished)(?: again)?(?: in| after| for|:)? ~?(?=\d)"
)
_NAMED = re.compile(r"\bretry-after[\"']?[:=] ?[\"']?(\d{1,9}(?:\.\d{1,9})?)\b(?![.:\d])")
"""The header, repeated in a sentence: bare seconds."""
_NUMBER = re.compile(r"[+-]?\d{1,15}(?:\.\d{1,15})?\Z")

_WINDOWS = (
    *("requests", "tokens", "input-tokens", "output-tokens"),
    *(f"{counted}-{span}" for counted in ("requests", "tokens") for span in ("minute", "hour", "day")),
)
"""What a limit may count; with a span the names are Cerebras'."""


def clock_of(headers: Mapping[str, str], now: float | None) -> float | None:
    """The moment to count from: the server's own `date`, so that a wrong local clock does no harm, else *now*."""
    return _moment(headers.get("date", "")) or now


def stated(
    headers: Mapping[str, str], told: ResponseBody, now: float | None, *, throttled: bool
) -> float | None:
    """Seconds the provider asked for, or None. *now* is epoch seconds, for absolute dates.

    The order is that of trust: exact headers, then the body's fields and sentences (the larger of both: Gemini rounds its
    field down), then, for a request that was *throttled*, when an exhausted window is full again, which is an upper bound.
    """
    at = clock_of(headers, now)
    for read in (_retry_after_ms, _retry_after):
        if (delay := _sane(read(headers, at))) is not None:
            return delay
    inside = [*_fields(told.objects, at), *_sentences(told.text)]
    said = max(filter(None, map(_sane, inside)), default=None)
    return _window(headers, at) if said is None and throttled else said


def go_duration(text: str) -> float | None:
    """Seconds of `1m9.696s`, `6ms`, `2h`, `20 seconds`, `5 days 22 hours`, `12:30:15`; None if *text* does not begin with one."""
    if (clock := _CLOCK.match(text)) is not None:
        hours, minutes, seconds = map(int, clock.groups())
        return hours * 3600.0 + minutes * 60 + seconds
    total, at = 0.0, 0
    while (part := _PART.match(text, at)) is not None:
        number, *units = part.groups()
        unit = next(unit for unit in units if unit)
        total += float(number) * _UNITS["ms" if unit == "milli" else unit]
        at = part.end()
        at += len(text[at : at + 5]) - len(text[at : at + 5].lstrip(" ,"))
    return total if at else None


def _sane(seconds: float | None) -> float | None:
    if seconds is None or not math.isfinite(seconds) or not 0 < seconds <= LONGEST:
        return None
    return seconds


# --- headers ----------------------------------------------------------------------------------------------------------


def _retry_after_ms(headers: Mapping[str, str], _at: float | None) -> float | None:
    """`retry-after-ms` (OpenAI, Azure) and `x-ms-retry-after-ms` (Azure)."""
    value = _number(headers.get("retry-after-ms") or headers.get("x-ms-retry-after-ms"))
    return None if value is None else value / 1000


def _retry_after(headers: Mapping[str, str], at: float | None) -> float | None:
    """RFC 9110, 10.2.3: seconds or an HTTP-date; some send a fraction, some `20s`, some the moment as a number."""
    return _reset(headers.get("retry-after", "").strip(), at)


def _window(headers: Mapping[str, str], at: float | None) -> float | None:
    """When the exhausted window is full again. Of several, the last: the request needs room in all of them."""
    return max(filter(None, map(_sane, _windows(headers, at))), default=None)


def _windows(headers: Mapping[str, str], at: float | None) -> Iterator[float | None]:
    for window in _WINDOWS:
        yield _number(
            headers.get(f"x-rate-limit-reset-{window}")
        )  # Azure: a hyphen after rate, whole seconds
        yield _exhausted(headers, f"x-ratelimit-remaining-{window}", f"x-ratelimit-reset-{window}", at)
        prefix = f"anthropic-ratelimit-{window}"
        yield _exhausted(headers, f"{prefix}-remaining", f"{prefix}-reset", at)
    yield _exhausted(headers, "x-ratelimit-remaining", "x-ratelimit-reset", at)
    yield _exhausted(headers, "ratelimit-remaining", "ratelimit-reset", at)
    if headers.get("anthropic-ratelimit-unified-status") == "rejected":
        yield _reset(headers.get("anthropic-ratelimit-unified-reset", ""), at)
    for window in ("primary", "secondary"):  # the ChatGPT backend of Codex
        if _number(headers.get(f"x-codex-{window}-used-percent", "100")) == 100:  # noqa: PLR2004 - per cent
            yield _number(headers.get(f"x-codex-{window}-reset-after-seconds"))
            yield _reset(headers.get(f"x-codex-{window}-reset-at", ""), at)


def _exhausted(headers: Mapping[str, str], remaining: str, reset: str, at: float | None) -> float | None:
    """A window that does not say how much is left is the one that stopped us."""
    return _reset(headers.get(reset, ""), at) if _number(headers.get(remaining, "0")) == 0 else None


def _reset(value: str, at: float | None) -> float | None:
    """A Go duration, RFC 3339, epoch seconds or milliseconds, or seconds to wait."""
    number = _number(value)
    if number is not None:
        return _epoch(number, at) if number > _EPOCH else number
    duration = go_duration(value.lower())
    return _until(_moment(value), at) if duration is None else duration


# --- body -------------------------------------------------------------------------------------------------------------


def _fields(objects: Iterable[Mapping[str, object]], at: float | None) -> Iterator[float | None]:
    for entry in objects:
        yield _span(entry)
        for key, value in entry.items():
            read = _FIELDS.get(fold(key))
            if read is not None and not isinstance(value, bool):
                yield read(value, at)


def _seconds(value: object, _at: float | None) -> float | None:
    return float(value) if isinstance(value, int | float) else _duration(value, _at)


def _milliseconds(value: object, _at: float | None) -> float | None:
    number = _number(str(value))
    return None if number is None else number / 1000


def _duration(value: object, at: float | None) -> float | None:
    if isinstance(value, Mapping):
        return _span(value)
    return _reset(value, at) if isinstance(value, str) else None


def _span(entry: Mapping[str, object]) -> float | None:
    """Of `seconds` and `nanos` alone, protobuf's Duration: in Google's texts `retry_delay { seconds: 22 }`."""
    match entry:
        case {"seconds": int(seconds), **rest} if not rest:
            return float(seconds)
        case {"seconds": int(seconds), "nanos": int(nanos), **rest} if not rest:
            return seconds + nanos / 1e9
    return None


def _instant(value: object, at: float | None) -> float | None:
    return _reset(str(value), at) if isinstance(value, int | float | str) else None


def _repeated(value: object, at: float | None) -> float | None:
    """Headers that a gateway repeats inside its body (OpenRouter's `metadata.headers`)."""
    if not isinstance(value, Mapping):
        return None
    headers = {str(name).lower(): str(text) for name, text in value.items()}
    return _sane(_retry_after(headers, at)) or _window(headers, at)


_FIELDS: Mapping[str, Callable[[object, float | None], float | None]] = {
    "retrydelay": _duration,  # google.rpc.RetryInfo
    "quotaresetdelay": _duration,  # Gemini Code Assist
    "quotaresettimestamp": _instant,
    "resetsinseconds": _seconds,  # Codex
    "resetsat": _instant,
    "estimatedtime": _seconds,  # Hugging Face, while a model loads
    "retryafter": _seconds,
    "retryafterseconds": _seconds,
    "retryafterms": _milliseconds,
    "headers": _repeated,
}


def _sentences(text: str) -> Iterator[float | None]:
    """Those such as "try again in 1m9.696s", "retry after 20 seconds" and "quota will reset after 8h44m7s"."""
    lowered = text.lower()
    for named in _NAMED.finditer(lowered):
        yield float(named[1])
    for asked in _ASKED.finditer(lowered):
        yield go_duration(lowered[asked.end() : asked.end() + 60])


# --- values -----------------------------------------------------------------------------------------------------------


def _number(value: object) -> float | None:
    if not isinstance(value, str) or not _NUMBER.match(value.strip()):
        return None
    return float(value)


def _epoch(number: float, at: float | None) -> float | None:
    return _until(number / 1000 if number > _EPOCH_MS else number, at)


def _until(moment: float | None, at: float | None) -> float | None:
    return None if moment is None or at is None else moment - at


def _moment(value: str) -> float | None:
    """Epoch seconds of RFC 3339 or an HTTP-date; one without a zone is UTC."""
    value = value.strip()[:64]
    if not value:
        return None
    try:
        when = datetime.fromisoformat(value) if value[0].isdigit() else parsedate_to_datetime(value)
        return (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError, IndexError, TypeError):
        return None
