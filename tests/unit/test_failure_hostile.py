"""No exception, header or body makes classification raise, run without end, or reveal what it must not."""

from __future__ import annotations

import json
from typing import Any, NoReturn

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilience.failure import CATEGORY_RULES, ErrorCategory, Evidence, Failure, classify, classify_evidence
from resilience.failure.body import unwrap
from resilience.failure.literals import split
from resilience.failure.safe_access import bounded

CANARY = "zx9canaryq7"
BAML = "baml_py.internal_monkeypatch"
LONG = 200_000

BamlError: Any = type("BamlError", (Exception,), {"__module__": "baml_py"})


class Trap(Exception):  # noqa: N818 - it is no error, it is a trap
    """An exception that raises at every access."""

    def __str__(self) -> str:
        raise RuntimeError(CANARY)

    def __getattribute__(self, name: str) -> Any:
        if name.startswith("__") and name != "__class__":
            return super().__getattribute__(name)
        raise RuntimeError(CANARY)


class Traps:
    """A response, headers or a body that raises at every access."""

    def __getattr__(self, name: str) -> NoReturn:
        raise RuntimeError(CANARY)

    def __str__(self) -> str:
        raise RuntimeError(CANARY)


class Crooked:
    """Headers whose items are not pairs."""

    def items(self) -> Any:
        return [1, 2]


class Endless:
    """Headers that never end."""

    def items(self) -> Any:
        while True:
            yield "retry-after", "x" * LONG


def carrying(**attributes: Any) -> Exception:
    exc = Exception(CANARY)
    for name, value in attributes.items():
        setattr(exc, name, value)
    return exc


CYCLE: dict[str, Any] = {}
CYCLE["error"] = CYCLE

HOSTILE = [
    Trap(),
    carrying(response=Traps(), headers=Traps(), body=Traps(), status_code=Traps()),
    carrying(response=Traps(), status_code=429),
    carrying(headers=Endless(), status=429),
    carrying(headers={Traps(): Traps()}, status=429),
    carrying(headers=[1, 2], status=429),
    carrying(headers=Crooked(), status=429),
    carrying(body=CYCLE),
    carrying(body={"error": {"message": Traps()}}),
    carrying(body=b"\xff\xfe{", status_code=500),
    carrying(status_code=True),
    carrying(status_code=10**30),
    carrying(code="429"),
    carrying(response={"Error": Traps(), "ResponseMetadata": 3}),
    carrying(message="\ud800 lone", status_code=400, body="\ud800 lone"),
    Exception("\x00" * LONG),
]


@pytest.mark.parametrize("number", range(len(HOSTILE)))
def test_hostile_exceptions(number: int) -> None:
    """Properties that raise, headers without end and bodies that contain themselves still give a Failure."""
    failure = classify(HOSTILE[number])

    assert isinstance(failure, Failure)
    assert CANARY not in failure.message
    assert failure.message.encode()
    assert failure.message.isprintable()


def test_the_last_resort() -> None:
    """Evidence whose own fields raise gives a Failure that says so."""
    failure = classify(ValueError(), evidence=Evidence(headers=Traps()))  # type: ignore[arg-type]  # that is the point

    assert failure.category in {ErrorCategory.INVALID_REQUEST, ErrorCategory.UNKNOWN}


PIECES = [
    "{", "[{", "(", '"', "'", "\\", '\\\\"', '{"a":', "{'", "b'", "[ ", "<", "<a ", "</", '{\\"', "&", "\uff1a\uff5b",
    "try again in ", "try again in 1s ", "1s", "retry after 9", "limit 1 requested ", "limit: 9 ", "model ", "context window ",
    "rate limit would exceed your ", "<title>", "AaAa", "a_", "data: {}\n", "\n", " ", "9", '{"error":"', '{"message":{"error":',
    "add 1 credit", "error code: ", 'message: "', "LLMErrorResponse {",
]  # fmt: skip


@pytest.mark.parametrize("piece", PIECES)
def test_long_texts_come_back(piece: str) -> None:
    """Two hundred thousand characters of the worst input for a parser are read within the test's time limit."""
    text = (piece * LONG)[:LONG]

    for status in (None, 200, 429, 500):
        assert isinstance(classify_evidence(Evidence(status=status, body=text)), Failure)
    assert isinstance(classify(Exception(text)), Failure)


def test_the_end_of_a_long_stream_is_read() -> None:
    """A stream's error is read at its end, behind any amount of answer."""
    chunk = 'data: {"choices":[{"delta":{"content":"rate limit exceeded"}}]}\n'
    stream = (
        chunk * 5000 + 'event: error\ndata: {"error":{"type":"overloaded_error","message":"Overloaded"}}\n'
    )

    assert classify_evidence(Evidence(status=200, body=stream)).category is ErrorCategory.OVERLOADED


def test_deep_nesting_is_cut() -> None:
    """Bodies inside bodies are read a few levels deep, containers forty deep."""
    deep = '{"error":' * 5000 + '"x y"' + "}" * 5000

    assert len(unwrap(deep).objects) <= 300


def test_the_models_words_are_no_evidence() -> None:
    """An answer that talks about quotas and time-outs is still an answer."""
    words = "insufficient_quota, rate limit exceeded, please try again in 20s, context_length_exceeded"
    body = f'{{"choices":[{{"message":{{"role":"assistant","content":"{words}"}},"finish_reason":"stop"}}]}}'
    failure = classify_evidence(Evidence(status=200, body=body))

    assert (failure.category, failure.retry_after) == (ErrorCategory.NETWORK, None)


def test_echoed_input_is_no_evidence() -> None:
    """Input that FastAPI echoes when it refuses it is not read as an error."""
    body = (
        '{"detail":[{"msg":"Field required","input":{"messages":"rate limit exceeded, insufficient_quota"}}]}'
    )
    failure = classify_evidence(Evidence(status=422, body=body))

    assert (failure.category, failure.message) == (ErrorCategory.INVALID_REQUEST, "Field required")


def test_keys_are_masked_in_messages() -> None:
    """A key that a provider repeats in its refusal is masked."""
    key = "sk-proj-" + "a1B2" * 10
    failure = classify_evidence(
        Evidence(status=401, body=f'{{"error":{{"message":"Incorrect API key provided: {key}."}}}}')
    )

    assert "Incorrect API key provided" in failure.message
    assert key not in failure.message


def test_messages_are_one_short_line() -> None:
    """A message has at most 300 characters, no line break, and an ellipsis where it was cut."""
    failure = classify_evidence(
        Evidence(status=400, body='{"error":{"message":"' + "so\\nlong " * 200 + '"}}')
    )

    assert len(failure.message) == 300
    assert failure.message.startswith("so long so long")
    assert failure.message.endswith("…")


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        ("<html><title> </title><h1>502 Bad Gateway</h1>", 502, "502 Bad Gateway"),
        ("<html><body>x</body>", 502, "a page, not an answer"),
        ("upstream connect error", 503, "upstream connect error"),
        ('{"error":{"message":"Provider returned error","metadata":{"raw":"{\\"message\\":\\"No GPU left\\"}"}}}', 502, "No GPU left"),
        ('{"error":{"message":"Provider returned error"}}', 502, "Provider returned error"),
        ("", 502, "the provider failed (HTTP 502)"),
        ("42 is the answer", 200, "the connection failed (HTTP 200)"),
    ],
)  # fmt: skip
def test_messages(body: str, status: int, message: str) -> None:
    """The message is the provider's own sentence, a page's title, or else our stock text."""
    assert classify_evidence(Evidence(status=status, body=body)).message == message


SECRETS = st.sampled_from(
    [CANARY, f"prompt {CANARY}", f'{{"error":{{"message":"{CANARY}"}}}}', f"'{CANARY}'"]
)
NAMES = [
    "BamlValidationError",
    "BamlClientFinishReasonError",
    "BamlError",
    "BamlInvalidArgumentError",
    "BamlTimeoutError",
    "BamlAbortError",
]


@given(
    name=st.sampled_from(NAMES), prompt=SECRETS, output=SECRETS, text=SECRETS, status=st.none() | st.just(200)
)
def test_baml_errors_reveal_nothing(
    name: str, prompt: str, output: str, text: str, status: int | None
) -> None:
    """Neither the prompt nor the answer nor the text of a BAML exception gets into the message."""
    bases = (Exception,) if name == "BamlError" else (BamlError,)
    exc = type(name, bases, {"__module__": BAML})(text)
    for attribute, value in {
        "prompt": prompt,
        "raw_output": output,
        "message": text,
        "detailed_message": text,
    }.items():
        setattr(exc, attribute, value)

    for failure in (classify(exc), classify(exc, evidence=Evidence(status=status))):
        assert CANARY not in repr(failure)


@given(before=SECRETS, status=st.sampled_from([2, 200, 400, 502, 503]))
def test_rust_dumps_reveal_nothing(before: str, status: int) -> None:
    """The prompt inside a Rust dump never gets into the message."""
    text = (
        f'LLM call failed: LLMErrorResponse {{ prompt: Chat([Text("{before}")]), message: "boom", code: 1 }}'
    )
    exc = type("BamlClientHttpError", (BamlError,), {"__module__": BAML})(text)
    exc.status_code, exc.message = status, text

    assert CANARY not in repr(classify(exc))


@given(text=st.text(max_size=60) | SECRETS)
def test_plain_errors_reveal_nothing(text: str) -> None:
    """The text of an unknown exception may hold anything, so none of it is shown."""
    for kind in (ValueError, TypeError, KeyError, RuntimeError):
        said = classify(kind(text)).message

        assert said.removesuffix(f" ({kind.__name__})") in {
            rules.message for rules in CATEGORY_RULES.values()
        }


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(
                [
                    "error",
                    "message",
                    "code",
                    "type",
                    "status",
                    "details",
                    "choices",
                    "metadata",
                    "headers",
                    "raw",
                    "x",
                ]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(
    body=st.text(max_size=200) | JSON.map(str),
    status=st.none() | st.integers(0, 1000),
    headers=st.dictionaries(
        st.sampled_from(["retry-after", "retry-after-ms", "date", "x-should-retry", "x-ratelimit-remaining-tokens", "x-ratelimit-reset-tokens"]),
        st.text(max_size=30) | st.sampled_from(["0", "-1", "1e999", "nan", "inf", "20s", "Tue, 26 Mar 2024 20:00:00 GMT", "2024-03-26T20:00:00Z"]),
    ),
    now=st.none() | st.floats(),
)  # fmt: skip
def test_classification_is_total(
    body: str, status: int | None, headers: dict[str, str], now: float | None
) -> None:
    """Any evidence is classified, and the result keeps the promises of Failure."""
    failure = classify_evidence(Evidence(status=status, headers=headers, body=body), now)

    assert failure.retry_after is None or 0 < failure.retry_after <= 90 * 86_400
    assert 0 < len(failure.message) <= 300
    assert "\n" not in failure.message
    assert failure.message.encode()


class _Leaves(Exception):  # noqa: N818 - a trap, too
    """An exception whose text and attributes end the process."""

    def __str__(self) -> str:
        raise SystemExit(3)

    @property
    def status_code(self) -> int:
        raise KeyboardInterrupt

    @property
    def headers(self) -> dict[str, str]:
        raise GeneratorExit


def test_an_exception_that_would_end_the_process_is_classified() -> None:
    """What reading an exception raises never passes through, also where it is no Exception."""
    assert "_Leaves" == classify(_Leaves()).exception_type


def test_of_a_large_parsed_body_only_the_beginning_is_written() -> None:
    """A body that a library has parsed is copied up to a limit before it is written as JSON; a cycle ends."""
    cycle: dict[str, object] = {"error": {"message": "quota exceeded", "code": "insufficient_quota"}}
    cycle |= {"again": cycle, "long": "x" * 10_000_000, "many": ["y" * 100] * 100_000}
    copy = bounded(cycle)

    assert ["error", "again"] == list(copy)  # type: ignore[call-overload]  # a mapping
    assert len(json.dumps(copy)) < 300_000


def test_the_literals_of_a_text_are_read_at_both_ends() -> None:
    """A text of very many objects costs as much as a few: those at its beginning and at its end are read."""
    values, _ = split('{"a":1} ' * 20_000 + '{"error": 2}')

    assert len(values) < 2500
    assert ({"a": 1}, {"error": 2}) == (values[0], values[-1])


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=12,
)


@given(st.dictionaries(st.text(max_size=8), JSON_VALUES, max_size=4), st.booleans())
def test_well_formed_json_is_read_as_by_the_tolerant_reader(body: dict[str, Any], escaped: bool) -> None:  # noqa: FBT001 - Hypothesis draws it
    """The short way for well-formed JSON finds what the reader of broken JSON finds in the same text."""
    text = json.dumps(body, ensure_ascii=escaped)

    values, prose = split(text)
    tolerant, words = split(f". {text}")

    assert repr(values) == repr(tolerant)
    assert (prose, words) == ("", ". ")
