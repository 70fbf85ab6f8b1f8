"""Secrets in every notation seen so far, and texts that resemble secrets."""

from __future__ import annotations

import hashlib
import random
import uuid
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilience.redaction import is_secret, redact, redact_secrets, redact_whole
from resilience.redaction.names import KEYS, SHORT_WORDS, WORDS
from resilience.redaction.spans import Span
from resilience.redaction.unescape import Unescaped

CANARY = "S3cr3tC4naryV4lu3"

NAMED = [
    "api_key={}",
    '{{"api_keys": ["a", "{}"]}}',
    "api_key=SecretStr('{}')",
    "api_key=b'{}'",
    "[(b'x-api-key', b'{}')]",
    "client(key='a', api_key='{}', model='m')",
    "OpenAI-Key: x\nOPENAI_KEY: {}abcd",
    '{{"key": "{}abcd"}}',
    "MISTRAL_API_KEY {}",
    "Your API key {} is invalid",
    "The API key provided ({}) is not valid",
    "api key `{}` was not found",
    "API key “{}” was not found",
    "invalid token '{}'",
    "token: `{}`",
    "the password is {}",
    "password := {}",
    "password => {}",
    "password=          {}",
    "password: [{}]",
    "password: {{{}}}",
    "password: pre,{}",
    "password: pre;{}",
    "password: pre&{}",
    "password: pre({})",
    "password: pre<{}>",
    "password: pre'{}",
    "password=pre\\{}",
    "<password>{}</password>",
    "<SecretKey>{}</SecretKey>",
    "SMTP_PASS={}",
    "db_pass: {}",
    "https://x/y?auth={}&z=1",
    "PHPSESSID={}; Path=/",
    "connect.sid={}",
    '{{"passcode": "{}"}}',
    "--api-key {}",
    "--db-password {} --verbose",
    "--token '{}'",
    '{{\\"a\\": \\"{{\\\\\\"b\\\\\\": \\\\\\"{{\\\\\\\\\\\\\\"api_key\\\\\\\\\\\\\\": \\\\\\\\\\\\\\"{}\\\\\\\\\\\\\\"}}',
    "Authorization: ApiKey {}==",
    "Authorization: SSWS {}",
    'Authorization: Digest username="jane", realm="x", response="{}"',
    "Authorization: AWS4-HMAC-SHA256 Credential=x/20250101/y, SignedHeaders=host;date, Signature={}",
    '{{"authorization": "Key {}"}}',
    "Bearer: {}",
    "bearer={}",
]


@pytest.mark.parametrize("frame", NAMED, ids=[frame[:30] for frame in NAMED])
def test_a_value_is_masked_in_every_notation(frame: str) -> None:
    """Whatever separates a name from its value, and whatever the value contains, all of the value is masked."""
    assert CANARY not in redact(frame.format(CANARY))


FORMS = {
    "OpenAI, echoed with dots": ("sk-pr...wxyz", "wxyz"),
    "Entra ID": ("1ab8Q~defghijKLMNopqrstuvwxyz01234567890", "defghijKLMN"),
    "Voyage": ("pa-AbCdEfGhIjKlMnOpQrStUvWxYz0123456789AbCdEfGh", "AbCdEfGh"),
    "Linear": ("lin_api_AbCdEfGhIjKlMnOpQrStUv", "AbCdEfGh"),
    "Discord": ("https://discord.com/api/webhooks/1234567890/AbCdEfGhIjKlMn", "AbCdEfGh"),
    "PEM in small letters": ("-----begin private key-----\nMIIEowIB", "MIIEowIB"),
    "a slash in a password": ("postgres://user:pa/ss@host/db", "pa/ss"),
    "a question mark in a password": ("postgres://user:pa?ss@host/db", "pa?ss"),
    "quoted e-mail": ('"jane doe"@example.com', "jane"),
    "e-mail of any script": ("jörg.o'brien@example.com", "rg.o"),
    "phone with a slash": ("+49 30/12345678", "12345678"),
    "phone with 00": ("0049 30 12345678", "12345678"),
    "card behind an underscore": ("card_4111111111111111", "1111"),
    "card with dots": ("4111.1111.1111.1111", "1111"),
    "card with two spaces": ("4111  1111  1111  1111", "1111"),
    "card with mixed separators": ("4111 1111-1111 1111", "1111"),
    "IBAN with dashes": ("DE89-3704-0044-0532-0130-00", "0532"),
    "IBAN with dots": ("DE89.3704.0044.0532.0130.00", "0532"),
    "social security number by name": ("SSN: 536904399", "904399"),
    "and in words": ("social security number 536904399", "904399"),
}


@pytest.mark.parametrize(("text", "canary"), FORMS.values(), ids=FORMS)
def test_more_forms_are_known(text: str, canary: str) -> None:
    """Keys, addresses and numbers in less common notations are masked."""
    assert canary not in redact(f"it says {text} there")


SPELLINGS = {
    "percent": ("url=https%3A%2F%2Fx%2Fy%3Fapi_key%3D{}%26z%3D1", CANARY),
    "percent, a header": ("Authorization%3A%20Bearer%20{}", CANARY),
    "percent before a prefix": ("%3Dsk-{}", CANARY),
    "percent in credentials": ("https%3A%2F%2Fuser%3A{}%40host%2Fx", CANARY),
    "percent in an address": ("{}%2Btag%40example.com", "jane"),
    "percent in a card": ("4111%201111%201111%20{}", "1111"),
    "percent in a phone number": ("%2B49301234{}", "5678"),
    "JSON's numbers": ('{{"api\\u005fkey": "{}"}}', CANARY),
    "JSON's ampersand": ("https://x?a=1\\u0026key\\u003d{}", CANARY),
    "JSON's slashes": ("https:\\/\\/user:{}@host\\/x", CANARY),
    "JSON's at": ("{}\\u0040example.com", "jane"),
    "hexadecimal": ("\\x22sk-{}\\x22", CANARY),
    "entities": ("{{&quot;api_key&quot;:&quot;{}&quot;}}", CANARY),
    "numbered entities": ("api_key&#61;&#x22;{}&#x22;", CANARY),
    "zero width in a name": ("api\u200b_key={}", CANARY),
    "zero width in a key": ("sk-abc\u200b{}", CANARY),
    "soft hyphen": ("sk-\u00ad{}", CANARY),
    "another hyphen": ("sk\u2011{}", CANARY),
    "wide colon": ("api_key\uff1a{}", CANARY),
    "wide letters": ("\uff53\uff4b-{}", CANARY),
    "no-break space in a phone number": ("+49\u00a030\u00a01234{}", "5678"),
    "no-break space in a card": ("4111\u00a01111\u00a01111\u00a0{}", "1111"),
    "no-break space in an IBAN": ("DE89\u00a03704\u00a00044\u00a00532\u00a00130\u00a0{}", "00"),
    "another hyphen in a social security number": ("536\u201190\u2011{}", "4399"),
    "wide at": ("{}\uff20example.com", "jane"),
}


@pytest.mark.parametrize(("frame", "canary"), SPELLINGS.values(), ids=SPELLINGS)
def test_no_spelling_hides_a_secret(frame: str, canary: str) -> None:
    """Escapes of URLs, JSON and HTML, look-alikes and invisible characters hide no secret."""
    kept = redact(f"it says {frame.format(canary)} there")

    assert canary not in kept
    assert kept.startswith("it says ")
    assert kept.endswith(" there")


@pytest.mark.parametrize("name", [*WORDS, *SHORT_WORDS, *(f"{word}_key" for word in KEYS)])
def test_mappings_and_texts_know_the_same_names(name: str) -> None:
    """A name that is secret in a mapping is secret in JSON and in a query too."""
    assert is_secret(name)
    for text in (f'{{"{name}": "{CANARY}"}}', f"https://x/y?{name}={CANARY}", f"X_{name.upper()}={CANARY}"):
        assert CANARY not in redact(text)


PLURAL = ["apiKeys", "api_keys", "passwords", "clientSecrets", "credentials", "cookies", "AWSSecretAccessKey"]


@pytest.mark.parametrize("name", PLURAL)
def test_many_of_a_kind_are_secret_too(name: str) -> None:
    """Plurals and names in camel case are secret too."""
    assert is_secret(name)


@pytest.mark.parametrize(
    "name",
    ["tokens", "max_tokens", "token_count", "author", "keys", "primary_key", "cached", "", "s", "passed"],
)
def test_other_names_are_not(name: str) -> None:
    """Counts and similar words keep their values."""
    assert not is_secret(name)


HARMLESS = [
    "Basic authentication failed; bearer of bad news",
    "token count: 12345; Invalid token limit 5; tokens > 8192; tokenizer=cl100k_base",
    '{"usage": {"prompt_tokens": 1234, "completion_tokens": 56, "prompt_tokens_details": {"cached_tokens": 0}}}',
    "key: value pairs; primary_key: id; cache_key: gpt-4o-mini-2024-07-18; monkey=5",
    "anthropic.claude-3-5-sonnet-20241022-v2:0 gemini-2.0-flash-exp-1219 gpt-4o-2024-08-06",
    "arn:aws:bedrock:us-east-1:123456789012:inference-profile/us.anthropic",
    "the session was closed; the secret sauce is patience: it works; passed: 12, pass: 5",
    "http://localhost:8080/x?email=1 100% of 20 requests; 50%25; R&D &amp; more; C:\\temp\\new",
    "0000000000000000 0000-0000-0000-0000 1111111111111111 190.7150934325982",
    "credential provider chain; author: Jane; cookie policy",
    "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01 f12d5e28-ee59-8a65-58e5-f2a2a9211ee2",
]


@pytest.mark.parametrize("text", HARMLESS, ids=[text[:30] for text in HARMLESS])
def test_what_only_looks_like_a_secret_stays(text: str) -> None:
    """Words, counts, models, traces and paths that resemble secrets are unchanged."""
    assert text == redact(text)


def test_time_stamps_and_ids_are_no_cards_and_no_accounts() -> None:
    """Of a thousand UUIDs, hashes and epoch times in three units, at most a few are mistaken for a secret."""
    chosen = random.Random(5)  # noqa: S311 - the same ids in every run
    changed = 0
    for number in range(1000):
        seconds = 1_700_000_000 + chosen.randrange(10**8)
        ids = (
            str(uuid.UUID(int=chosen.getrandbits(128))),
            hashlib.sha256(str(number).encode()).hexdigest(),
            *(str(seconds * 10**digits + chosen.randrange(10**digits)) for digits in (3, 6, 9)),
        )
        changed += sum(redact(each) != each for each in ids)

    assert changed <= 5


@given(st.text(alphabet="a%420\\ux&#;quot\u200b\uff21\u2011/", max_size=60))
def test_the_unescaped_form_maps_to_the_text(text: str) -> None:
    """Each character of the unescaped form maps to a part of the text; the parts are adjacent and cover the text."""
    unescaped = Unescaped(text)
    length = len(text if unescaped.text is None else unescaped.text)
    spans = list(unescaped.original_spans(Span(at, at + 1, "") for at in range(length)))

    assert all(one.end == other.start for one, other in pairwise(spans))
    assert all(one.start < one.end for one in spans)
    assert not spans or spans[-1].end == len(text)


HOSTILE = {
    "percent": "%41",
    "entities": "&quot;",
    "JSON's numbers": "\\u0041",
    "zero width": "a\u200b",
    "wide": "\uff21",
    "flags": "--a-",
    "keys": "_key: ",
    "words behind names": "password is ",
    "punctuation in a value": 'token=a,b"c',
    "parameters": "authorization: d a=b, ",
    "brackets": "key=[a",
    "passwords in URLs": "://a:",
    "IBANs": "DE89-",
    "quoted addresses": '"a"@',
    "addresses of any script": "é" * 63 + "@",
    "scripts of backslashes": "token" + "\\" * 7 + '"',
}


@pytest.mark.parametrize("unit", HOSTILE.values(), ids=HOSTILE)
def test_no_spelling_makes_it_slow(unit: str) -> None:
    """Hostile notations of 200 kB finish long before a quadratic pattern would finish one."""
    text = unit * (200_000 // len(unit))

    assert len(redact_whole(text)) <= 4 * len(text)
    assert len(redact_secrets(text)) <= 4 * len(text)
