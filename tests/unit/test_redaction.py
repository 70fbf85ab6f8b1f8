"""What redaction masks and what it leaves; no text makes it slow or lets a secret through."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from resilience.redaction import CUT, LIMIT, OVERLAP, redact, redact_mapping

CORPUS = Path(__file__).parents[1] / "data" / "provider_errors.jsonl"

SECRETS = {
    "OpenAI": ("[key]", "sk-abcdefghijklmnopqrstuvwxyz012345"),
    "OpenAI project": ("[key]", "sk-proj-AbCd_efGh-1234567890"),
    "OpenAI as echoed": ("[key]", "sk-ab***************wxyz"),
    "Anthropic": ("[key]", "sk-ant-api03-AbCdEfGh_-1234567890"),
    "OpenRouter": ("[key]", "sk-or-v1-0123456789abcdef0123456789abcdef"),
    "Google": ("[key]", "AIzaSyA1234567890abcdefghijklmnopqrstuv"),
    "Groq": ("[key]", "gsk_1234567890abcdefghijklmnop"),
    "xAI": ("[key]", "xai-1234567890abcdefghijklmnop"),
    "Hugging Face": ("[key]", "hf_abcdefghijklmnopqrstuvwxyz"),
    "Perplexity": ("[key]", "pplx-1234567890abcdefghij"),
    "NVIDIA": ("[key]", "nvapi-1234567890abcdefghij"),
    "Replicate": ("[key]", "r8_1234567890abcdefghij"),
    "GitHub": ("[key]", "ghp_1234567890abcdefghijklmnopqrstuvwxyz"),
    "GitHub fine-grained": ("[key]", "github_pat_11AAAAAAA0abcdefghij"),
    "GitLab": ("[key]", "glpat-1234567890abcdefghij"),
    "AWS": ("[key]", "AKIAIOSFODNN7EXAMPLE"),
    "Slack": ("[key]", "xoxb-123456789012-abcdefghijkl"),
    "Stripe": ("[key]", "sk_live_1234567890abcdefghij"),
    "Google OAuth": ("[token]", "ya29.a0AfH6SMBx-1234567890"),
    "JWT": ("[token]", "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9P"),
    "e-mail": ("[email]", "jane.doe+llm@mail.example.co.uk"),
    "phone": ("[phone]", "+49 30 1234567"),
    "phone, compact": ("[phone]", "+14155552671"),
    "phone, North America": ("[phone]", "(415) 555-2671"),
    "phone, dashes": ("[phone]", "1-415-555-2671"),
    "card": ("[card]", "4111111111111111"),
    "card, grouped": ("[card]", "5500 0000 0000 0004"),
    "card, American Express": ("[card]", "3782-822463-10005"),
    "IBAN": ("[iban]", "DE89370400440532013000"),
    "IBAN, grouped": ("[iban]", "GB29 NWBK 6016 1331 9268 19"),
    "IBAN, lower case": ("[iban]", "fr1420041010050500013m02606"),
    "social security": ("[ssn]", "123-45-6789"),
}


@pytest.mark.parametrize(("mark", "secret"), SECRETS.values(), ids=SECRETS)
@pytest.mark.parametrize(
    "frame", ["{}", "it was {} there", '{{"error": "{}"}}', "({})", "{}.", "first\n{}\nlast", "é {}, é"]
)
def test_each_secret_becomes_its_mark_and_nothing_else_changes(mark: str, secret: str, frame: str) -> None:
    """A secret is masked at any position, and the text around it is unchanged."""
    assert redact(frame.format(secret)) == frame.format(mark)


NAMED = [
    ("api_key=hunter2", "api_key=[secret]"),
    ("OPENAI_API_KEY=hunter2 next", "OPENAI_API_KEY=[secret] next"),
    ("x-api-key: hunter2", "x-api-key: [secret]"),
    ("API key: hunter2", "API key: [secret]"),
    ("https://host/v1?key=hunter2&alt=json", "https://host/v1?key=[secret]&alt=json"),
    ("https://host/v1?auth[token]=hunter2&a=1", "https://host/v1?auth[token]=[secret]&a=1"),
    ("https://host/f?code=wobblyzebrasofa42&a=1", "https://host/f?code=[secret]&a=1"),
    ("params=[('key', 'wobblyzebrasofa4711abc')]", "params=[('key', '[secret]')]"),
    ("error code=invalid_value", "error code=invalid_value"),
    ("password: hunter2,", "password: [secret],"),
    ("passwd=hunter2", "passwd=[secret]"),
    ("token=hunter2;", "token=[secret];"),
    ('{"password": "correct horse battery"}', '{"password": "[secret]"}'),
    ('{"access_token":"a\\"b"}', '{"access_token":"[secret]"}'),
    ("{'secret': 'it is'}", "{'secret': '[secret]'}"),
    ('"{\\"api_key\\": \\"a b\\"}"', '"{\\"api_key\\": \\"[secret]\\"}"'),
    ("('x-api-key', 'a b')", "('x-api-key', '[secret]')"),
    ("Authorization: Bearer abc.def", "Authorization: [secret]"),
    ("authorization: Basic dXNlcjpwdw==", "authorization: [secret]"),
    ("Bearer abcdefgh12345678 was refused", "Bearer [token] was refused"),
    ("Cookie: a=b; c=d\nnext", "Cookie: [secret]\nnext"),
    ("aws_secret_access_key = abc/def+ghi", "aws_secret_access_key = [secret]"),
    ("X-Amz-Signature=0123abc&x=1", "X-Amz-Signature=[secret]&x=1"),
    ("postgres://user:p@ss@db.example.com/x", "postgres://[credentials]@db.example.com/x"),
    ("redis://:hunter2@localhost:6379/0", "redis://[credentials]@localhost:6379/0"),
    ("-----BEGIN RSA PRIVATE KEY-----\nMIIE\n-----END RSA PRIVATE KEY----- after", "[pem] after"),
    ("-----BEGIN PRIVATE KEY-----\nMIIE never ends", "[pem]"),
]


@pytest.mark.parametrize(("text", "expected"), NAMED, ids=[text[:24] for text, _ in NAMED])
def test_a_value_behind_a_secret_name_is_masked(text: str, expected: str) -> None:
    """Values behind names such as `api_key`, in headers, URLs and PEM blocks are masked in every notation."""
    assert expected == redact(text)


ORDINARY = [
    "Rate limit reached for gpt-4o in organization org-AbC123 on tokens per min (TPM): Limit 30000, Used 14567, Requested 24754.",
    "Please try again in 18.642s. Limit 200 / min, 7m12s; 4000000 of 5000000 (80.0 %)",
    "request id req_011CSHoEeqs5C35K2UUqR7Fy, chatcmpl-9aBcDeFgHiJkLmNoPqRsTuVwXyZ01",
    "This model's maximum context length is 128000 tokens. However, you requested 130012 tokens",
    "max_tokens=30000, input_tokens: 1234, tokens: 5",
    "2025-06-01T12:00:00.123456+00:00 2025-06-01 12:00:00 1748779200 1748779200000 1748779200000000000",
    "550e8400-e29b-41d4-a716-446655440000 at 10.0.0.1:8080, 192.168.100.200, 4111111111111112",
    "risk-assessment-pipeline disk-encryption-enabled task-scheduler-one",
    "see https://platform.openai.com/account/rate-limits, or user@localhost",
    "Quota exceeded: limit: 15, model: gemini-2.0-flash-exp; retryDelay: 27s; 0.0.1234; -1234567890",
    "DE12 is no account, XX00123456789012345 neither, 000-12-3456 nor 123-45-67890",
]


@pytest.mark.parametrize("text", ORDINARY, ids=[text[:24] for text in ORDINARY])
def test_what_operators_need_stays(text: str) -> None:
    """Limits, waits, times, counts, addresses and request ids are unchanged."""
    assert text == redact(text)


def test_real_provider_messages_keep_their_sense() -> None:
    """In the corpus of real provider errors only keys, tokens and addresses are masked; 95 % are unchanged."""
    bodies = [json.loads(line)["body"] or "" for line in CORPUS.read_text().splitlines()]

    changed = [body for body in bodies if redact(body) != body]

    assert len(bodies) >= 100
    assert len(changed) <= 0.05 * len(bodies)


def test_touching_rules_mask_once() -> None:
    """A key behind a name, or a card in a cookie: overlapping matches are masked as one."""
    assert redact("api_key=sk-abcdefghijklmnop rest") == "api_key=[key] rest"
    assert redact("Cookie: card=4111111111111111; x=1") == "Cookie: [secret]"


def test_a_failed_card_does_not_hide_the_next() -> None:
    """Four digits directly before a card number do not hide it."""
    assert redact("code 1000 4111 1111 1111 1111") == "code 1000 [card]"


@given(st.text(alphabet=st.characters(codec=None), max_size=200))
@example("İ api_key=hunter2")
@example('{"api_key": "sk-abcdefghijklmnop"}')
@example("\ud800 sk-abcdefghijklmnop")
def test_masking_twice_is_masking_once(text: str) -> None:
    """Any text can be redacted, and redacting it again changes nothing."""
    once = redact(text)

    assert once == redact(once)


def test_characters_that_grow_in_lower_case_do_not_shift_the_search() -> None:
    """The Turkish dotted I, which becomes two characters in lower case, does not hide a secret after it."""
    assert redact("İİİİ API_KEY=hunter2") == "İİİİ API_KEY=[secret]"


def test_a_long_text_is_cut_and_says_so() -> None:
    """Of a long text the beginning is returned."""
    cut = redact("word " * 50_000)

    assert cut.startswith("word word")
    assert cut.endswith(CUT)
    assert len(cut) <= LIMIT + len(CUT)


@pytest.mark.parametrize("secret", [secret for _, secret in SECRETS.values()], ids=SECRETS)
def test_half_a_secret_at_the_cut_does_not_show(secret: str) -> None:
    """If the cut goes through a secret, at most its first letters are left."""
    for before in range(LIMIT + OVERLAP - len(secret) - 2, LIMIT + OVERLAP + 2, 17):
        kept = redact("." * before + " " + secret + " end")

        assert secret[4:12] not in kept


HOSTILE = {
    "at signs": "@" * 200_000,
    "addresses without end": "a@" * 100_000,
    "one long word": "a" * 200_000,
    "words and an at": ("a" * 63 + "!@") * 3000,
    "keys too short": "sk-" * 70_000,
    "tokens": "eyJ" * 70_000,
    "schemes": "://" * 70_000,
    "scheme and colons": "://" + ":" * 200_000,
    "pem": "-----BEGIN A-----" * 12_000,
    "names": "api_key" * 30_000,
    "names and spaces": "token        " * 15_000,
    "quotes": "token='" * 30_000,
    "backslashes": 'token="' + "\\" * 200_000,
    "digits": "1" * 200_000,
    "grouped digits": "4111 " * 40_000,
    "parentheses": "1" + "(" * 200_000,
    "account letters": "DE89" * 50_000,
    "spaces": " " * 200_000,
    "bearer": "bearer " * 30_000,
    "cookie": "cookie:" * 30_000,
    "dots": "a@" + "b." * 100_000,
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_no_text_makes_it_slow(text: str) -> None:
    """Hostile texts of 200 kB, ten times each, finish long before a quadratic pattern would finish one."""
    for _ in range(10):
        assert len(redact(text)) <= LIMIT + len(CUT)


def test_a_mapping_loses_its_secrets_however_deep() -> None:
    """Values with secret names are masked, whatever they are; other texts are redacted; numbers and booleans stay."""
    given: dict[str, Any] = {
        "headers": {
            "Authorization": "Bearer x",
            "X-Api-Key": "k",
            "set-cookie": ["a=b"],
            "x-ratelimit-remaining-tokens": "149984",
        },
        "accessToken": "a",
        "sessionId": 7,
        "client_secret": {"nested": "x"},
        "privateKey": "k",
        "max_tokens": 30000,
        "token_count": 3,
        "token_type": "bearer",
        "ok": True,
        "none": None,
        "list": ["write to a@b.example", 1.5],
        "sk-abcdefghijklmnop": "key as a name",
    }

    assert redact_mapping(given) == {
        "headers": {
            "Authorization": "[secret]",
            "X-Api-Key": "[secret]",
            "set-cookie": "[secret]",
            "x-ratelimit-remaining-tokens": "149984",
        },
        "accessToken": "[secret]",
        "sessionId": "[secret]",
        "client_secret": "[secret]",
        "privateKey": "[secret]",
        "max_tokens": 30000,
        "token_count": 3,
        "token_type": "bearer",
        "ok": True,
        "none": None,
        "list": ["write to [email]", 1.5],
        "[key]": "key as a name",
    }


def test_an_object_is_told_by_its_type_alone() -> None:
    """Any value that is not plain becomes its type's name: the text of an exception may hold a prompt."""
    assert redact_mapping({"error": ValueError("the prompt"), "raw": b"bytes"}) == {
        "error": "[ValueError]",
        "raw": "[bytes]",
    }


def test_a_mapping_within_itself_ends() -> None:
    """A mapping that contains itself is cut at a depth."""
    loop: dict[str, Any] = {}
    loop["again"] = loop

    assert "[dict]" in str(redact_mapping(loop))
