"""Find e-mail addresses, phone numbers, cards, IBANs and US social security numbers in a text."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from typing import Final

from resilience.redaction.spans import Span

_LOCAL: Final = frozenset(".!#$%&*+/=?^_`{|}~'-")
_LOCAL_LIMIT: Final = 64
_DOMAIN = re.compile(r"[\w-]{1,63}(?:\.[\w-]{1,63}){1,8}")
_DIGITS = re.compile(r"\d(?:[\d ()./_-]{7,}|\d)")
"""A candidate for a number, or the check digits of an IBAN."""
# 000, 666 and 9xx were never issued. Without separators nine digits are any number: those need a name before them.
_SSN = re.compile(r"(?:(?<![\w-])|(?<=\\[bfnrt]))(?!000|666|9)\d{3}([ -])(?!00)\d\d\1(?!0000)\d{4}(?![\w-])")
_SSN_NAMED = re.compile(r"(?:ssn|social security(?: (?:number|no))?)\W{1,4}\Z", re.IGNORECASE)
_SSN_DIGITS: Final = 9
_LEAST_DIGITS: Final = 9
"""The digits of the shortest number that is masked. A phone number with a plus may have one less."""
_SSN_NAME: Final = 30
# Not after a decimal point or within a word; with Luhn's check one number in ten still passes by chance.
_CARD = re.compile(
    r"(?:(?<![^\W_])|(?<=\\[bfnrt]))(?<!\d\.)"
    r"(?:\d{13,19}|\d{4}(?:[ ._-]{1,3}\d{4}){2}[ ._-]{1,3}(?:\d{4}[ ._-]{1,3}\d{1,3}|\d{1,4})|\d{4}[ ._-]{1,3}\d{6}[ ._-]{1,3}\d{4,5})(?![^\W_])"
)
_CARD_LENGTHS: Final = {2: (16,), 3: (14, 15, 16), 4: (13, 16, 19), 5: (16,), 6: (16, 17, 18, 19)}
"""Digits of a card number, by its first digit. A number with another first digit is a time stamp rather than a card."""
_DOUBLED = (0, 2, 4, 6, 8, 1, 3, 5, 7, 9)
"""The digit sum of twice each digit."""
_PHONE = re.compile(
    r"(?:(?<![\w.])|(?<=\\[bfnrt]))"
    r"(?:(?:\+|00(?=\d{1,3}[ (./-]))[1-9](?:[ ()./-]{0,2}\d){7,14}|(?:1[ .-])?(?:\([2-9]\d\d\) ?|[2-9]\d\d[ .-])\d{3}[ .-]\d{4})(?!\w)"
)
_IBAN = re.compile(r"(?:(?<![A-Za-z0-9])|(?<=\\[bfnrt]))[A-Za-z]{2}\d\d(?:[ .-]?[A-Za-z0-9]){11,30}")
_IBAN_REGISTRY = (  # SWIFT IBAN registry, release 99: country and length
    "AD24 AE23 AL28 AT20 AZ28 BA20 BE16 BG22 BH22 BI27 BR29 BY28 CH21 CR22 CY28 CZ24 DE22 DJ27 DK18 DO28 EE20 EG29 ES24 FI18 FK18 FO18 "
    "FR27 GB22 GE22 GI23 GL18 GR27 GT28 HN28 HR21 HU28 IE22 IL23 IQ23 IS26 IT27 JO30 KW30 KZ20 LB28 LC32 LI21 LT20 LU20 LV21 LY25 MC27 "
    "MD24 ME22 MK19 MN20 MR27 MT31 MU30 NI28 NL18 NO15 OM23 PK24 PL28 PS29 PT25 QA29 RO24 RS22 RU33 SA24 SC31 SD18 SE24 SI19 SK24 SM27 "
    "SO23 ST25 SV28 TL23 TN24 TR26 UA29 VA22 VG24 XK20 YE30"
)
_IBAN_LENGTHS = {entry[:2]: int(entry[2:]) for entry in _IBAN_REGISTRY.split()}


def spans(text: str, after_credentials: Collection[int] = ()) -> Iterator[Span]:
    """Return the spans of personal numbers and addresses in *text*.

    Args:
        text: the text to search.
        after_credentials: positions at which credentials end: an `@` there belongs to a URL, and not to an address.
    """
    if "@" in text:
        yield from _emails(text, after_credentials)
    for run in _DIGITS.finditer(text):
        start, end = run.span()
        if end - start > len("00"):
            if _has_digits_enough(text[max(0, start - 2) : end]):
                yield from _numbers(text, max(0, start - 2), end)
            yield from _named_ssn(text, start, start + len(run.group().rstrip(" ().-/")))
        if text[max(0, start - 2) : start].isalpha():
            yield from _iban(text, start - 2)


def _has_digits_enough(run: str) -> bool:
    """Return whether a *run* of digits and separators can be a phone, card or social security number."""
    digits = sum(map(str.isdecimal, run))
    return digits >= _LEAST_DIGITS or (digits == _LEAST_DIGITS - 1 and "+" in run)


def _emails(text: str, after_credentials: Collection[int]) -> Iterator[Span]:
    # From each `@` outwards, since a pattern for the name would be tried from every letter of a long word.
    at = text.find("@")
    while at >= 0:
        start = _local_part(text, at)
        domain = _DOMAIN.match(text, at + 1) if start < at and at not in after_credentials else None
        if domain and not _is_no_address(text, start, at, domain):
            yield Span(start, domain.end(), "[email]")
        at = text.find("@", domain.end() if domain else at + 1)


def _is_no_address(text: str, start: int, at: int, domain: re.Match[str]) -> bool:
    """Return whether it is the version of a package (`node@20.1.0`) or a repository (`git@github.com:team/project`)."""
    is_version = domain.group().replace(".", "").isdecimal()
    return is_version or (text[start:at] == "git" and text[domain.end() : domain.end() + 1] == ":")


def _local_part(text: str, at: int) -> int:
    """Return the start of the name before the `@`: letters of any script, or any text in quotes."""
    if text[at - 1 : at] == '"':
        opened = text.rfind('"', max(0, at - _LOCAL_LIMIT), at - 1)
        return at if opened < 0 else opened
    start = at
    while start and at - start < _LOCAL_LIMIT and (text[start - 1].isalnum() or text[start - 1] in _LOCAL):
        start -= 1
    return start


def _numbers(text: str, start: int, end: int) -> Iterator[Span]:
    behind = end + 1  # the patterns look at the character behind a number
    for match in _SSN.finditer(text, start, behind):
        yield Span(*match.span(), "[ssn]")
    for match in _PHONE.finditer(text, start, behind):
        yield Span(*match.span(), "[phone]")
    card = _CARD.search(text, start, behind)
    while card:
        if _is_card(card.group()):
            yield Span(*card.span(), "[card]")
        # From the next digit on: four digits directly before a card must not hide it.
        card = _CARD.search(text, card.start() + 1, behind)


def _named_ssn(text: str, start: int, end: int) -> Iterator[Span]:
    """Return nine digits in a row as a social security number if a word before them says so."""
    if end - start == _SSN_DIGITS and _SSN_NAMED.search(text, max(0, start - _SSN_NAME), start):
        yield Span(start, end, "[ssn]")


def _is_card(number: str) -> bool:
    """Return whether the length fits the first digit, and Luhn's check holds.

    ISO/IEC 7812-1: from the right, every second digit is doubled; the sum of all digits ends in 0.
    """
    digits = [int(char) for char in reversed(number) if char.isdecimal()]
    if len(digits) not in _CARD_LENGTHS.get(digits[-1], ()):
        return False
    return (sum(digits[::2]) + sum(_DOUBLED[digit] for digit in digits[1::2])) % 10 == 0


def _iban(text: str, start: int) -> Iterator[Span]:
    length = _IBAN_LENGTHS.get(text[start : start + 2].upper(), 0)
    match = _IBAN.match(text, start) if length and start >= 0 else None
    if match is None:
        return
    end, seen = start, 0
    while seen < length and end < match.end():
        seen += text[end].isalnum()
        end += 1
    is_within_longer = (
        text[end : end + 1].isalnum() and not text[start:end].isalnum()
    )  # groups of some other number
    if seen == length and not is_within_longer and _iban_checks(text[start:end]):
        yield Span(start, end, "[iban]")


def _iban_checks(iban: str) -> bool:
    """Return whether the check digits hold: ISO 13616, first four to the end, letters as numbers from 10, modulo 97 is 1."""
    compact = "".join(filter(str.isalnum, iban)).upper()
    return int("".join(str(int(char, 36)) for char in compact[4:] + compact[:4])) % 97 == 1
