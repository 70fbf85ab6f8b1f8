"""A project's own redaction rules: dangerous patterns are refused, fields left out, hooks contained."""

from __future__ import annotations

import itertools
import time
from datetime import UTC, datetime
from typing import Any

import pytest

from resilience.failure import ErrorCategory
from resilience.history import CallOutcome, CallRecord, ErrorRecord, FallbackRecord
from resilience.redaction import (
    FAILED,
    Pattern,
    Redactor,
    check_pattern,
    path_of,
    redact,
    redact_secrets,
    remember_secrets,
)

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def pattern(regex: str, replacement: str = "[it]") -> Pattern:
    return check_pattern("it", regex, replacement, clock=time.thread_time)


def error(**values: Any) -> ErrorRecord:
    given: dict[str, Any] = {
        "event_id": "0" * 32,
        "occurred_at": NOW,
        "request_id": "EMP-1",
        "function": "F",
        "client": "C",
        "attempt": 1,
        "category": ErrorCategory.UNKNOWN,
        "recoverable": True,
    }
    return ErrorRecord(**{**given, **values})


GOOD = [
    (r"EMP-\d{1,9}", "call EMP-4711 now", "call [it] now"),
    (r"EMP-\d+", "call EMP-4711", "call [it]"),
    (r"(?i)project (?:apollo|zeus)", "Project Zeus, zeus", "[it], zeus"),
    (r"\b[A-Z]{2}\d{6}\b", "AB123456 and ABC123456", "[it] and ABC123456"),
    (r"(?:\d[ -]?+){13,16}", "4111-1111-1111-1111", "[it]"),
    (r"(?<=id=)\w{1,64}", "id=abc", "id=[it]"),
    (r"x(?>a{1,9})y(?!z)", "xaay", "[it]"),
    (r"[^ ]{3,20}@corp", "me jane@corp", "me [it]"),
    (r"(a)?(?(1)b|cd)", "ab cd", "[it] [it]"),
    (r"(?:a{1,4}+){2,3}", "aaaaaaaa", "[it]"),
    (r"q.[^x][^yz][\W]", "qabc-", "[it]"),
    (r"EMP-\d+X", "EMP-4711X EMP-1", "[it] EMP-1"),
    (r"EMP-\d+\b", "call EMP-4711.", "call [it]."),
    (r"(?i)emp-([a-z]+)\d", "EMP-ab1", "[it]"),
    (r"(?:ab+)+", "abbab", "[it]"),
    (r"(?:-\d+){2,3}X", "-1-22X", "[it]"),
    (r"\b\w+@corp", "to José@corp", "to [it]"),
    (r"\b[A-Z0-9_]+-\d{1,3}", "AB_1-2", "[it]"),
    (r"(?<![\w.])[\w.]+@corp\.example", "to j.doe@corp.example", "to [it]"),
    (r'"[^"]+" wrote', '"J. Doe" wrote', "[it]"),
    (r"x=\d*;", "x=1;", "[it]"),
]


@pytest.mark.parametrize(("regex", "text", "expected"), GOOD, ids=[regex for regex, _, _ in GOOD])
def test_a_safe_pattern_is_accepted(regex: str, text: str, expected: str) -> None:
    """Patterns of all common forms are accepted, and mask what they match."""
    assert expected == pattern(regex).mask(text)


DANGEROUS = {
    r"(a+)+$": "upper bound",
    r"([a-z]+)*@": "upper bound",
    r"(?:\w+\s?)*x": "upper bound",
    r"(?:(?:ab){1,9}){9}": "ways",
    r"(?:a|b(?:c{2,5})){40,}": "ways",
    r"(?:\d[ -]?){13,16}": "such as ?+",
    r"(?:a?){30}a{30}": "ways",
    "a?" * 30 + "a" * 30: "ways",
    r"(?:a|aa){1,60}b": "ways",
    r"E(?:\d|\d\d|\d\d\d){1,40}F": "ways",
    r"[a-z]{1,900}[a-y]{1,900}\d": "ways",
    r"\w+@corp": "upper bound",
    r".*secret": "upper bound",
    r"a{2,}b": "upper bound",
    r"\w++x": "upper bound",
    r"(?=.*x)y": "upper bound",
    r"[\w.]+@corp\.example": "upper bound",
    r"\b[\w.]+@corp": "upper bound",
    r"\b[^x]+@corp": "upper bound",
    r"\b[A-z]+@corp": "upper bound",
    r"(?i)E[a-z]+X": "upper bound",
    r"1\d+X": "upper bound",
    r"(?<!\d)\w+X": "upper bound",
    r"(?!\w)\w+X": "upper bound",
    r"-(\d+)\1X": "upper bound",
    r"-(?:\d|ab)+X": "upper bound",
    r"-(?:a\d*)*X": "upper bound",
    r"x\D+X": "upper bound",
    r"x=[^\s;]*;": "upper bound",
    r"_[^\d]+X": "upper bound",
    r"<!--.*?-->": "upper bound",
    r"[a-z]{1,300}[a-y]{1,300}\d": "takes over",
    r"(x{1,200})\1z": "takes over",
    r"\d*": "where nothing stands",
    r"": "where nothing stands",
    r"(?<=a)": "where nothing stands",
    r"(unclosed": "cannot be read",
    "a" * 1001: "at most 1000",
}


@pytest.mark.parametrize(("regex", "why"), DANGEROUS.items(), ids=[regex[:30] for regex in DANGEROUS])
def test_a_dangerous_pattern_is_refused_with_a_remedy(regex: str, why: str) -> None:
    """A pattern that can backtrack without limit, take long, or match the empty text is refused at construction."""
    with pytest.raises(ValueError, match=r"Settings\.redact_patterns='it'") as caught:
        pattern(regex)

    assert why in str(caught.value)


def test_a_pattern_that_is_no_text_is_refused() -> None:
    """A pattern that is not a text is named in the error."""
    with pytest.raises(ValueError, match="give a text"):
        check_pattern("it", 3, "", clock=time.thread_time)


def test_a_busy_machine_refuses_no_pattern() -> None:
    """A probe that was slow is repeated; only a pattern that is slow twice is refused."""
    slow_once = itertools.chain([0.0, 1.0], itertools.count(2.0, 0.0001))
    always_slow = itertools.count(0.0, 1.0)

    assert "it" == check_pattern("it", "EMP", "", clock=lambda: next(slow_once)).name
    with pytest.raises(ValueError, match="takes over 20 ms"):
        check_pattern("it", "EMP", "", clock=lambda: next(always_slow))


def test_a_replacement_is_taken_literally() -> None:
    r"""A backslash or group reference in a replacement has no meaning: `\1` stays `\1`."""
    assert r"a \1 \g<0> b" == pattern("(x)", r"\1 \g<0>").mask("a x b")


def test_only_free_texts_of_a_record_are_masked() -> None:
    """Patterns see message, codes, details and tags, after the built-in rules; ids and names, which join rows, stay."""
    redactor = Redactor(patterns=(pattern(r"EMP-\d{1,9}"),))
    record = error(
        client="EMP-2",
        message="EMP-3 failed",
        provider_code="EMP-4",
        detail={"who": ["EMP-5", "a@b.example"], "password": "x", "count": 6},
    )

    kept = redactor.record(record)

    assert ("EMP-1", "EMP-2") == (kept.request_id, kept.client)
    assert ("[it] failed", "[it]") == (kept.message, kept.provider_code)
    assert {"who": ["[it]", "[email]"], "password": "[secret]", "count": 6} == kept.detail


def test_without_rules_a_record_stays_the_very_same() -> None:
    """A record without changes is returned itself, and an enum is not a free text."""
    plain = Redactor()
    fallback = FallbackRecord(
        event_id="1",
        occurred_at=NOW,
        request_id="r",
        call_id="c",
        function="F",
        from_client="A",
        to_client="B",
        reason=ErrorCategory.TIMEOUT,
    )
    record = error(message="m", detail={"n": 1})

    assert plain.record(record) is record
    assert Redactor(hook=lambda _, text: text.upper()).record(fallback) is fallback


def test_details_pass_the_built_in_rules_whoever_made_them() -> None:
    """Tags and details are redacted also in a project without its own rules."""
    record = CallRecord(
        call_id="c",
        request_id="r",
        started_at=NOW,
        duration=0.1,
        function="F",
        client="A",
        client_final="A",
        outcome=CallOutcome.OK,
        attempts=1,
        retries=0,
        fallbacks=0,
        tags={"api_key": "hunter2", "user": "jane@mail.example"},
    )

    assert {"api_key": "[secret]", "user": "[email]"} == Redactor().record(record).tags


PATHS = [
    ("detail.user.email", {"detail": {"user": {"email": "[redacted]", "name": "J"}, "email": "x"}}),
    ("detail.*.email", {"detail": {"user": {"email": "[redacted]", "name": "J"}, "email": "x"}}),
    ("detail.user", {"detail": {"user": "[redacted]", "email": "x"}}),
    ("DETAIL.User.Name", {"detail": {"user": {"email": "e", "name": "[redacted]"}, "email": "x"}}),
    ("detail.email.deeper", {"detail": {"user": {"email": "e", "name": "J"}, "email": "x"}}),
    ("*", {"detail": "[redacted]"}),
    ("headers.*", {"detail": {"user": {"email": "e", "name": "J"}, "email": "x"}}),
]


@pytest.mark.parametrize(("path", "expected"), PATHS, ids=[path for path, _ in PATHS])
def test_a_path_leads_to_what_is_left_out(path: str, expected: dict[str, Any]) -> None:
    """Paths name fields from the outside in, in any case; `*` matches any name; a missing field is no error."""
    given = {"detail": {"user": {"email": "e", "name": "J"}, "email": "x"}}

    assert expected == Redactor(paths=(path_of(path),)).without(given)


def test_a_path_looks_through_lists_and_reaches_any_field() -> None:
    """A path leads through each item of a list; a plain field of a record is replaced too."""
    redactor = Redactor(paths=(path_of("detail.users.email"), path_of("client"), path_of("message")))

    kept = redactor.record(error(message="m", detail={"users": [{"email": "a"}, {"email": "b", "n": 1}]}))

    assert {"users": [{"email": "[redacted]"}, {"email": "[redacted]", "n": 1}]} == kept.detail
    assert ("[redacted]", "[redacted]") == (kept.client, kept.message)


@pytest.mark.parametrize("path", ["", ".", "a..b", " a", 3, "request_id", "event_id.x"])
def test_a_path_that_leads_nowhere_is_refused(path: Any) -> None:
    """A text that is not a path, or a path to a field that joins rows, is refused with a remedy."""
    with pytest.raises(ValueError, match=r"Settings\.redact_fields=.*give"):
        path_of(path)


def test_a_hook_has_the_last_word_on_what_the_rules_left() -> None:
    """The hook gets the field's name and the redacted text; its result is cut to 300 characters in a message."""
    seen: list[tuple[str, str]] = []

    def hook(field: str, text: str) -> str:
        seen.append((field, text))
        return "y" * 400

    redactor = Redactor(patterns=(pattern(r"EMP-\d{1,9}"),), hook=hook)

    assert "y" * 300 == redactor.record(error(message="EMP-7 of jane@mail.example")).message
    assert [("message", "[it] of jane@mail.example")] == seen  # messages come redacted from `classify`
    assert "y" * 300 == redactor.record(error(message="EMP-7 of jane@mail.example")).message
    assert 1 == len(seen)  # asked once for the same message


def raising(field: str, text: str) -> str:
    raise RuntimeError(field + text)


def answering_nothing(field: str, text: str) -> Any:
    return None


@pytest.mark.parametrize("hook", [raising, answering_nothing])
def test_a_hook_that_fails_costs_the_text_and_nothing_else(hook: Any) -> None:
    """If the hook raises or returns no text, the whole field is replaced, and the call goes on."""
    kept = Redactor(hook=hook).record(error(message="secret plans", detail={"a": "secret plans", "n": 1}))

    assert FAILED == kept.message
    assert {"a": FAILED, "n": 1} == kept.detail


def test_secrets_alone_leave_people_in() -> None:
    """`redact_secrets` masks keys and credentials in a text of any length, and leaves addresses and numbers."""
    text = "jane@mail.example 4111111111111111 sk-abcdefghijklmnop " + "x " * 20_000 + "password=hunter2"

    kept = redact_secrets(text)

    assert kept.startswith("jane@mail.example 4111111111111111 [key] x")
    assert kept.endswith("password=[secret]")


NEW = {
    "Azure": "8Dk2" * 13 + "JQQJ99BEACYeBjFXJ3w3AAABACOGabcd",
    "AWS Bedrock": "ABSKQmVkcm9ja0FQSUtleS1hYmNkZWZn",
    "Google OAuth secret": "GOCSPX-abcdefghijklmnop",
    "Gemini": "AQ.Ab8RN6abcdefghijklmnop",
    "Stripe webhook": "whsec_abcdefghijklmnop",
    "Slack app": "xapp-1-A012-abcdefghijkl",
    "SendGrid": "SG.abcdefghijklmnopqrst.uvwxyzabcdefghijkl",
    "Databricks": "dapi0123456789abcdef0123456789abcdef",
    "Vault": "hvs.CAESIabcdefghijklmnop",
    "PyPI": "pypi-AgEIcHlwaS5vcmcabcdefgh",
    "ElevenLabs": "sk_0a1b2c3d4e5f0a1b2c3d4e5f0a1b2c3d",
    "Vercel": "vck_abcdefghijkl1234",
    "LlamaCloud": "llx-abcdef1234567890",
    "Modal": "ak-AbCdEf1234567890xyz",
    "Modal secret": "as-AbCdEf1234567890xyz",
    "Baidu": "bce-v3/ALTAK-AbCd1234efgh/0123456789abcdef0123",
    "OpenPipe": "opk_abcdef1234567890",
    "Zhipu": "0123456789abcdef0123456789abcdef.AbCdEf1234567890",
    "Telegram": "123456789:AAabcdefghijklmnopqrstuvwxyz0123456789",
    "Doppler": "dp.pt.abcdefghij1234567890",
    "Netlify": "nfp_abcdefghijkl1234",
    "Square": "sq0atp-abcdefghijkl",
    "Mailgun": "key-0123456789abcdef0123456789abcdef",
    "Twilio": "SK0123456789abcdef0123456789abcdef",
    "age": "AGE-SECRET-KEY-1QQQQQQQQQQQQQQQQQQQQQQQQ",
    "Sentry": "sntryu_0123456789abcdef",
    "Airtable": "pat12345678901234.0123456789abcdef0123456789abcdef",
    "Fly": "fm2_lJPECAAAAAAABcdefghijkl",
    "Postman": "PMAK-0123456789abcdef-0123",
    "Terraform": "xyz0123456789.atlasv1.abcdefghijklmnopqrstuv",
}


@pytest.mark.parametrize("secret", NEW.values(), ids=NEW)
@pytest.mark.parametrize("frame", ["{}", '{{"k": "{}"}}', "said:\\n{} and", "({})"])
def test_keys_of_more_services_are_known(secret: str, frame: str) -> None:
    """Keys with a known format become `[key]`, also behind an escaped line break of JSON."""
    assert frame.format("[key]") == redact(frame.format(secret))


ESCAPED = [
    ("to:\\nsk-abcdefghijklmnop", "to:\\n[key]"),
    ("to:\\n4111111111111111", "to:\\n[card]"),
    ("to:\\t536-90-4399", "to:\\t[ssn]"),
    ("to:\\nDE89370400440532013000", "to:\\n[iban]"),
    ("to:\\n+49 30 1234567", "to:\\n[phone]"),
    ("to:\\nBearer abcdefgh12345678", "to:\\nBearer [token]"),
    ("Incorrect API key provided: 0123456789abcdef", "Incorrect API key provided: [secret]"),
    ('invalid api key "0123456789abcdef"', 'invalid api key "[secret]"'),
    ("Ocp-Apim-Subscription-Key: 0123456789abcdef", "Ocp-Apim-Subscription-Key: [secret]"),
    ("AccountKey=abc==;x=1", "AccountKey=[secret];x=1"),
    ("?sv=1&sig=abc%2Bd&x=1", "?sv=1&sig=[secret]&x=1"),
    ("https://hooks.slack.com/services/T0/B0/abcdef", "https://hooks.slack.com/[key]"),
    ("Unexpected token 'x' in JSON at position 3", "Unexpected token 'x' in JSON at position 3"),
]


@pytest.mark.parametrize(("text", "expected"), ESCAPED, ids=[text[:20] for text, _ in ESCAPED])
def test_secrets_in_escaped_text_and_sentences(text: str, expected: str) -> None:
    """A letter of an escape does not hide a secret behind it; a key in a sentence about keys is masked."""
    assert expected == redact(text)


HARMLESS = [
    "password is required",
    "the password was incorrect",
    "Bearer authentication is required",
    "see @types/node@20.1.0",
    "clone git@github.com:team/project.git",
    "signature: (a: int, b: str)",
    "ticket 126-468-4824",
    "version 1.2.3.4 of 10.0.0.1",
    "//cdn.example.com/a@b",
]


@pytest.mark.parametrize("text", HARMLESS)
def test_ordinary_texts_stay_as_they_are(text: str) -> None:
    """Sentences about passwords and signatures, versions, repositories and numbers that no telephone has are no secrets."""
    assert text == redact(text)


JOINED = [
    ("4111_1111_1111_1111", "[card]"),
    ("4111 - 1111 - 1111 - 1111", "[card]"),
    ("3056\u20119309\u20110259\u201104", "[card]"),
    ("6304 0000 0000 0000 000", "[card]"),
    ("//user:pa55word@db.host/x", "//[credentials]@db.host/x"),
    ("token 'abc/def/ghi123456789'", "token '[secret]'"),
]


@pytest.mark.parametrize(("text", "expected"), JOINED)
def test_secrets_in_unusual_notations_are_masked(text: str, expected: str) -> None:
    """Cards with other separators or lengths, credentials without a scheme, quoted keys with a slash."""
    assert expected == redact(text)


def test_secrets_of_this_process_are_masked_wherever_they_occur(monkeypatch: pytest.MonkeyPatch) -> None:
    """The value of a variable with a secret name needs no form of a key; a word, a number or a path is no secret."""
    monkeypatch.setenv("MISTRAL_API_KEY", "Zk3j9dLwQ0pXyVbN")
    monkeypatch.setenv("SERVICE_PASSWORD", "correct horse battery")
    monkeypatch.setenv("AUTH_MODE_SECRET", "disabled")
    monkeypatch.setenv("TOKEN_FILE", "/run/secrets/token")

    assert "refused [secret] and [secret]" == redact("refused zk3j9dlwq0pxyvbn and Correct Horse Battery")
    assert "refused [secret]" == redact("refused %5Ak3j9dLwQ0pXyVbN")
    assert "disabled in /run/secrets/token" == redact("disabled in /run/secrets/token")


def test_a_key_that_a_request_was_sent_with_is_masked_later_too() -> None:
    """A key in the header of a request, which no variable names, is masked in every later text."""
    remember_secrets(["Q7wE9rT1yU3iO5p"])

    assert "the key is [secret]." == redact("the key is Q7wE9rT1yU3iO5p.")
