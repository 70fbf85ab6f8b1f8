"""Text for a terminal: what a terminal obeys or hides is shown as an escape, everything else stays."""

from __future__ import annotations

import unicodedata

import pytest

from resilience.terminal import escape, escape_controls

SHAPED = {
    0x70F,
    0x110BD,
    0x110CD,
    *range(0x13430, 0x13440),
    *range(0x1BCA0, 0x1BCA4),
    *range(0x1D173, 0x1D17B),
}
"""Format characters with a shape of their own: signs of Syriac, Kaithi, Egyptian, Duployan and musical notation, which a terminal shows or ignores alone."""


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[31mred\x07", "\\x1b[31mred\\x07"),
        ("a\x00b\x7fc", "a\\x00b\\x7fc"),
        ("\x9b31m", "\\x9b31m"),
        ("one\ntwo\tthree\r", "one\\ntwo\\tthree\\r"),
        ("user\u202etxt.exe", "user\\u202etxt.exe"),
        ("\u2066x\u2069", "\\u2066x\\u2069"),
        ("Prim\u200bary\ufeff", "Prim\\u200bary\\ufeff"),
        ("a\u2028b", "a\\u2028b"),
        ("\U000e0041", "\\U000e0041"),
        ("\udcff", "\\udcff"),
    ],
    ids=ascii,
)
def test_what_a_terminal_obeys_or_hides_is_escaped(text: str, shown: str) -> None:
    """C0, DEL, C1, bidirectional and zero-width characters, tags and lone surrogates become visible."""
    assert shown == escape(text)


@pytest.mark.parametrize(
    "text", ["plain", "Grüße, 你好, שלום, مرحبا", "2 €, “quoted”", "🙂", "\\x1b", ""], ids=ascii
)
def test_other_text_stays(text: str) -> None:
    """Letters of every script, punctuation and symbols are printed as they are."""
    assert text == escape(text) == escape_controls(text)


def test_every_invisible_format_character_is_escaped() -> None:
    """No format character of Unicode reaches a terminal, except the signs of a few scripts."""
    formatting = [
        chr(code)
        for code in range(0x110000)
        if unicodedata.category(chr(code)) == "Cf"
        and not unicodedata.name(chr(code), "").startswith("ARABIC ")
    ]

    assert [] == [f"{ord(each):x}" for each in formatting if ord(each) not in SHAPED and escape(each) == each]


def test_characters_to_keep_stay() -> None:
    """A text of several lines keeps its line feeds and loses everything else."""
    assert "a\nb\\x1b" == escape("a\nb\x1b", keep="\n")


def test_a_value_for_programs_loses_only_controls() -> None:
    """Emoji with joiners and marks of right-to-left text are data; a spreadsheet gets them exactly."""
    assert "👩\u200d💻\u200f \\x1b" == escape_controls("👩\u200d💻\u200f \x1b")
