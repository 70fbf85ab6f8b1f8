"""What a provider repeats of a prompt: found in any spelling, in messages, codes, ids and class names; words of providers stay."""

from __future__ import annotations

import base64
import html
import json
from pathlib import Path
from urllib.parse import quote, quote_plus

import pytest

from resilience.failure import Evidence, Failure, classify, classify_evidence, sent_arguments, sent_text
from resilience.redaction import ECHO, SentText

PROMPT = "Jonas Weber Zq was admitted on Monday with pain in his left leg, ward 4711"
TELLING = ("jonas", "weber", "zq", "admitted", "monday", "pain", "leg", "ward", "4711")
CORPUS = Path(__file__).parents[1] / "data"


def sent(prompt: str, model: str = "gpt-4o") -> SentText:
    body = {"model": model, "messages": [{"role": "user", "content": prompt}]}
    return sent_text(lambda: json.dumps(body, ensure_ascii=False), ())


SPELLINGS = {
    "verbatim": PROMPT,
    "upper": PROMPT.upper(),
    "lower": PROMPT.lower(),
    "title": PROMPT.title(),
    "underscores": PROMPT.replace(" ", "_"),
    "dots": PROMPT.replace(" ", "."),
    "slashes": PROMPT.replace(" ", "/"),
    "joined": PROMPT.replace(" ", ""),
    "joined, lower": PROMPT.replace(" ", "").lower(),
    "camel": "".join(word.capitalize() for word in PROMPT.split()),
    "listed": repr(PROMPT.split()),
    "listed with words": "; ".join(f"item {number}: {word}" for number, word in enumerate(PROMPT.split())),
    "sorted": " ".join(sorted(PROMPT.split())),
    "reversed words": " ".join(reversed(PROMPT.split())),
    "cut": f"{PROMPT[:18]}...",
    "cut at both ends": PROMPT[3:40],
    "cut to three words": "input 'pain in his le...'",
    "url": quote(PROMPT),
    "url with plus": quote_plus(PROMPT),
    "url twice": quote(quote(PROMPT)),
    "json": json.dumps(PROMPT),
    "json twice": json.dumps(json.dumps(PROMPT)),
    "json escapes": "".join(f"\\u{ord(char):04x}" for char in PROMPT),
    "html": html.escape(f'"{PROMPT}"'),
    "html numbers": "".join(f"&#{ord(char)};" for char in PROMPT),
    "base64": base64.b64encode(PROMPT.encode()).decode(),
    "base64, cut": base64.b64encode(PROMPT.encode()).decode()[5:33],
    "base64 for urls": base64.urlsafe_b64encode(PROMPT.encode()).decode().rstrip("="),
    "hexadecimal": PROMPT.encode().hex(),
    "hexadecimal, apart": PROMPT.encode().hex(":"),
    "hexadecimal of UTF-16": PROMPT.encode("utf-16-le").hex(),
    "base64, twice": base64.b64encode(base64.b64encode(PROMPT.encode())).decode(),
    "octal": "".join(f"\\{byte:03o}" for byte in PROMPT.encode()),
    "braces": "".join(f"\\u{{{ord(character):x}}}" for character in PROMPT),
    "spelled": " ".join(PROMPT),
    "full width": PROMPT.translate({code: code + 0xFEE0 for code in range(33, 127)}),
    "zero width": "\u200b".join(PROMPT),
    "line breaks": PROMPT.replace(" ", "\\n"),
}


@pytest.mark.parametrize("spelled", SPELLINGS.values(), ids=SPELLINGS)
def test_a_message_loses_what_it_repeats_in_any_spelling(spelled: str) -> None:
    """Each word of the prompt that providers do not use goes; the provider's own words before and behind stay."""
    left = sent(PROMPT).without_echo(f"Invalid request: the value {spelled} is not allowed")

    assert left.startswith("Invalid request: the value")
    assert left.endswith(" is not allowed")
    assert ECHO in left
    assert not [word for word in TELLING if word in left.lower()]


CODES = {
    name: SPELLINGS[name]
    for name in (
        *("underscores", "dots", "joined", "joined, lower", "camel", "base64", "base64, cut"),
        *("base64 for urls", "hexadecimal"),
    )
}


@pytest.mark.parametrize("spelled", CODES.values(), ids=CODES)
def test_a_code_an_id_or_a_class_name_that_repeats_the_prompt_is_dropped(spelled: str) -> None:
    """A provider's code and id, and the name of a class made at run time, are not recorded if they hold the prompt."""
    failure = classify(
        type(f"E{spelled}"[:60], (ValueError,), {})(),
        evidence=Evidence(
            status=400,
            headers={"x-request-id": spelled[:100], "x-amzn-errortype": f"E{spelled}"[:60]},
            body=json.dumps({"error": {"type": f"x{spelled}"[:60], "message": "no"}, "request_id": spelled}),
        ),
        sent=sent(PROMPT),
    )

    assert (None, None, "ValueError") == (
        failure.provider_code,
        failure.provider_request_id,
        failure.exception_type,
    )


SHORT = [
    "Zq Weber",
    "zq weber",
    "ZQ_WEBER",
    "zqweber",
    "ZqWeber",
    "WnEgV2ViZXI=",
    "['Weber', 'Zq']",
    "zq%20weber",
]


@pytest.mark.parametrize("spelled", SHORT)
def test_a_short_prompt_is_found_too(spelled: str) -> None:
    """Of a prompt of two words each word counts, also within another word."""
    assert "weber" not in sent("Zq Weber").without_echo(f"bad value: {spelled}").lower()
    assert ECHO in sent("Zq Weber").without_echo(f"bad value: {spelled}")


def test_the_name_of_the_model_and_the_fields_of_the_request_may_be_repeated() -> None:
    """The model and the field names of the protocol are no content."""
    message = "messages.3.content: model claude-zx81-v2 rejects max_tokens"

    assert message == sent("nothing here", model="claude-zx81-v2").without_echo(message)


def test_the_whole_of_what_was_sent_is_read() -> None:
    """The last words of a long prompt are found as the first ones are."""
    long = f"{'lorem ipsum dolor ' * 20_000} Jonas Weber"

    assert "for [echo]" == sent(long).without_echo("for JONAS WEBER")


def test_of_a_prompt_beyond_the_limit_only_words_of_providers_pass() -> None:
    """What is too long to compare leaves no other word: in doubt a word is masked."""
    longest = "lorem " * 400_000

    assert "quota exceeded for [echo]" == sent(longest).without_echo("quota exceeded for Kowalski")


@pytest.mark.parametrize(
    "prompt",
    ["请总结病人约纳斯韦伯星期一因左腿疼痛入院的情况", "환자는 월요일에 왼쪽 다리 통증으로 입원했습니다"],
)
def test_scripts_without_spaces_are_compared_by_letters(prompt: str) -> None:
    """A part of five letters is found within a run; the words around it stay."""
    part = prompt[4:14]

    assert part not in sent(prompt).without_echo(f"输入包含{part} 请求被拒绝")
    assert "您的账户已达到速率限制" == sent(prompt).without_echo("您的账户已达到速率限制")


def corpus() -> list[dict[str, object]]:
    lines = (CORPUS / "provider_errors.jsonl").read_text().splitlines()
    lines += (CORPUS / "unseen_errors.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def failure_of(entry: dict[str, object], prompt: SentText | None) -> Failure:
    headers = {name.lower(): value for name, value in (entry["headers"] or {}).items()}  # type: ignore[attr-defined]
    body = entry["body"] or entry["transport_text"]
    status: int | None = entry["status"]  # type: ignore[assignment]
    return classify_evidence(Evidence(status=status, headers=headers, body=str(body), sent=prompt), 0.0)


SUPPORT = (
    "You are an agent of the support team. The customer says: my account has insufficient quota, the rate limit of the model "
    "is exceeded, the API key is invalid, billing is not active, the prompt is too long for the context. Answer politely."
)


@pytest.mark.parametrize("prompt", [PROMPT, SUPPORT], ids=["other words", "words of providers"])
def test_no_real_message_loses_a_word_that_its_category_needs(prompt: str) -> None:
    """Messages of providers mean the same before and after, even if the prompt is about errors; ids and codes stay."""
    compared = sent(prompt)
    lost = []
    for entry in corpus():
        before, after = failure_of(entry, None), failure_of(entry, compared)
        categories = [
            classify_evidence(
                Evidence(status=400, body=json.dumps({"error": {"message": one.message}}))
            ).category
            for one in (before, after)
        ]
        kept = [(one.category, one.provider_code, one.provider_request_id) for one in (before, after)]
        if categories[0] is not categories[1] or kept[0] != kept[1]:
            lost.append((entry["id"], before.message, after.message))

    assert [] == lost


class _Patient:
    def __init__(self) -> None:
        self.name = "Kowalski"
        self.notes = [{"text": b"grzybica stopy"}, 471_100]
        self.itself = self


def test_arguments_are_searched_wherever_their_texts_are() -> None:
    """Texts, bytes and numbers in containers and in attributes count; an object that holds itself does no harm."""
    found = sent_arguments(((_Patient(),), {"model": "zx81"}))

    assert "no [echo] for [echo] on zx81: [echo]" == found.without_echo(
        "no KOWALSKI for Grzybica stopy on zx81: 471100"
    )


def test_an_exception_of_a_plain_function_is_without_its_arguments() -> None:
    """Calls that are not BAML's have their arguments compared."""
    error = type("Refused", (Exception,), {})("no")
    error.status_code, error.body = 400, {"error": {"message": f"cannot read {PROMPT.upper()}"}}

    assert "cannot read [echo]" == classify(error, sent=sent_arguments(((PROMPT,), {}))).message
