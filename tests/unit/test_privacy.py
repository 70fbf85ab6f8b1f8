"""What each privacy level records of a prompt and an answer, and the key of its hashes."""

from __future__ import annotations

import json
import logging
import pickle
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from resilience.config import settings
from resilience.config.hash_key import shared_key
from resilience.config.settings import Settings
from resilience.errors import ConfigurationError
from resilience.privacy import FULL_LIMIT, MASKED_LIMIT, Content, DeferredText, Level, Privacy, key_of
from resilience.redaction import CUT, FAILED, REDACTED, Redactor, path_of

SAID = "ask jane@mail.example about sk-abcdefghijklmnop"
REQUEST = json.dumps(
    {
        "model": "gpt",
        "user": "u-1",
        "messages": [
            {"role": "system", "content": "be kind"},
            {"role": "user", "content": [{"type": "text", "text": f'say "\n{SAID}"'}], "password": "hunter2"},
        ],
    }
)


def recorded(content: Content, **privacy: Any) -> dict[str, str | None]:
    texts = Privacy(**{"key": b"k" * 16, **privacy}).defer(content)
    return {name: None if text is None else text() for name, text in texts.items()}


def test_masked_keeps_the_messages_with_every_rule_applied() -> None:
    """Only the fields with the prompt are recorded; each text in them is redacted, behind escapes too."""
    texts = recorded(Content(request=REQUEST, output=f"answer: {SAID}"), level=Level.MASKED)

    assert {
        "messages": [
            {"role": "system", "content": "be kind"},
            {
                "role": "user",
                "content": [{"type": "text", "text": 'say "\nask [email] about [key]"'}],
                "password": "[secret]",
            },
        ]
    } == json.loads(str(texts["prompt"]))
    assert "answer: ask [email] about [key]" == texts["raw_output"]


def test_full_keeps_people_and_no_secrets() -> None:
    """At `full` addresses stay; keys, tokens and passwords are masked."""
    texts = recorded(Content(request=REQUEST, output=SAID), level=Level.FULL)

    assert "jane@mail.example" in str(texts["prompt"])
    assert "sk-abc" not in str(texts["prompt"])
    assert "hunter2" not in str(texts["prompt"])
    assert "ask jane@mail.example about [key]" == texts["raw_output"]


def test_hashed_keeps_hashes_alone() -> None:
    """At `hashed` equal prompts and answers have equal hashes with one key, and others with another key."""
    content = Content(request=REQUEST, output="answer")
    texts = recorded(content, level=Level.HASHED)

    assert (None, None) == (texts["prompt"], texts["raw_output"])
    assert texts == recorded(content, level=Level.HASHED)
    assert texts["prompt_hash"] != recorded(content, level=Level.HASHED, key=b"other")["prompt_hash"]
    assert texts["output_hash"] == recorded(content, level=Level.FULL)["output_hash"]
    assert 32 == len(str(texts["prompt_hash"]))


def test_what_else_a_request_holds_does_not_change_its_hash() -> None:
    """The hash covers the messages, and not the model or the user."""
    first = {"model": "a", "messages": [{"content": "x"}]}
    same = {"messages": [{"content": "x"}], "model": "b", "user": "u"}
    other = {"model": "a", "messages": [{"content": "y"}]}
    hashes = [
        recorded(Content(request=json.dumps(each)), level=Level.HASHED)["prompt_hash"]
        for each in (first, same, other)
    ]

    assert hashes[0] == hashes[1] != hashes[2]


FORMS = [
    ({"system": "s", "messages": ["m"], "max_tokens": 1}, {"system": "s", "messages": ["m"]}),
    (
        {"contents": ["c"], "systemInstruction": {"parts": ["p"]}},
        {"systemInstruction": {"parts": ["p"]}, "contents": ["c"]},
    ),
    ({"input": "i", "instructions": "n"}, {"instructions": "n", "input": "i"}),
    ({"prompt": "p"}, {"prompt": "p"}),
]


@pytest.mark.parametrize(
    ("request_", "expected"), FORMS, ids=["anthropic", "google", "responses", "completions"]
)
def test_the_prompt_is_found_in_every_protocol(request_: Mapping[str, Any], expected: dict[str, Any]) -> None:
    """The prompt is found in the protocols of OpenAI, Anthropic and Google, in responses and in completions."""
    assert expected == json.loads(
        str(recorded(Content(request=json.dumps(request_)), level=Level.FULL)["prompt"])
    )


def test_a_request_that_cannot_be_read_is_not_shown() -> None:
    """Of a request in an unknown form only the hash is recorded; if BAML's prompt is known, that."""
    unknown = Content(request='{"text": "secret plans"}')
    rendered = Content(request="not JSON", prompt=f"system: {SAID}")
    huge = Content(request='{"messages": "' + "x" * FULL_LIMIT + '"}')

    assert "[a request of a form that is not known]" == recorded(unknown, level=Level.FULL)["prompt"]
    assert (
        recorded(unknown, level=Level.FULL)["prompt_hash"] != recorded(huge, level=Level.FULL)["prompt_hash"]
    )
    assert "system: ask [email] about [key]" == recorded(rendered, level=Level.MASKED)["prompt"]
    assert "not known" in str(recorded(huge, level=Level.MASKED)["prompt"])


def test_nothing_that_is_not_there_is_kept() -> None:
    """Without a prompt or an answer there is no text and no hash of one."""
    assert {"prompt": None, "raw_output": None, "prompt_hash": None, "output_hash": None} == recorded(
        Content(), level=Level.FULL
    )


def test_masked_keeps_the_beginning_and_no_half_a_secret() -> None:
    """At `masked` 8192 characters are recorded; the rules also see what follows the cut."""
    before = "." * (MASKED_LIMIT - 10) + " "
    texts = recorded(Content(output=f"{before}sk-abcdefghijklmnop and {'.' * 5000}"), level=Level.MASKED)

    assert str(texts["raw_output"]).endswith(CUT)
    assert len(str(texts["raw_output"])) <= MASKED_LIMIT + len(CUT)
    assert "sk-" not in str(texts["raw_output"])


def test_paths_lead_into_prompts_and_answers() -> None:
    """Fields at `prompt.messages.content` and `raw_output.user` are left out, also at `full`."""
    redactor = Redactor(paths=(path_of("prompt.messages.content"), path_of("raw_output.user")))
    texts = recorded(
        Content(request='{"messages": [{"role": "user", "content": "x"}]}', output='{"user": "j", "n": 1}'),
        level=Level.FULL,
        redactor=redactor,
    )

    assert '{"messages":[{"role":"user","content":"[redacted]"}]}' == texts["prompt"]
    assert '{"user":"[redacted]","n":1}' == texts["raw_output"]


def test_a_broken_answer_is_left_out_where_a_path_leads_into_it() -> None:
    """A field to leave out may stand anywhere in broken JSON: nothing of such an answer is recorded."""
    redactor = Redactor(paths=(path_of("raw_output.user"),))

    assert (
        REDACTED == recorded(Content(output='{"user": "j'), level=Level.FULL, redactor=redactor)["raw_output"]
    )
    assert "[]" == recorded(Content(output="[]"), level=Level.FULL, redactor=redactor)["raw_output"]


def test_a_hook_sees_content_and_its_failure_hides_it() -> None:
    """Content passes the hook; if the hook raises, the text is replaced."""

    def hook(field: str, text: str) -> str:
        if text == "bad":
            raise RuntimeError(text)
        return f"<{field}:{text}>"

    redactor = Redactor(hook=hook)

    assert (
        "<raw_output:fine>"
        == recorded(Content(output="fine"), level=Level.FULL, redactor=redactor)["raw_output"]
    )
    assert FAILED == recorded(Content(output="bad"), level=Level.FULL, redactor=redactor)["raw_output"]


def test_a_deferred_text_does_not_show_its_content() -> None:
    """Neither repr, nor str, nor pickle, nor an error of a rule shows the text."""
    text = DeferredText(lambda: str(1 / 0), len(SAID))
    content = Content(request=REQUEST, prompt=SAID, output=SAID)

    assert f"<unredacted text, {len(SAID)} characters>" == repr(text) == str(text)
    assert (len(SAID), True) == (len(text), bool(DeferredText(str, 0)))
    assert "Content()" == repr(content)
    with pytest.raises(TypeError, match="does not leave its process"):
        pickle.dumps(text)
    assert FAILED == text()
    assert FAILED == text()


def test_a_deferred_text_is_redacted_once() -> None:
    """The second call returns the result of the first."""
    opened: list[int] = []

    def make() -> str:
        opened.append(1)
        return "redacted"

    text = DeferredText(make, 4)

    assert ["redacted", "redacted"] == [text(), text()]
    assert [1] == opened


def test_levels_that_keep_content_say_so() -> None:
    """`off` and `metadata` record no content, so it need not be collected."""
    assert [False, False, True, True, True] == [Privacy(level=level).keeps_content for level in Level]


# --- the key ----------------------------------------------------------------------------------------------------


def test_the_key_file_is_made_once_for_all(tmp_path: Path) -> None:
    """Eight threads that start together get one key, in a file that only its owner can read, and leave no other file."""
    path = tmp_path / ".resilience" / "hash.key"
    keys: list[bytes] = []
    gate = threading.Barrier(8)

    def come() -> None:
        gate.wait()
        keys.append(shared_key(path))

    threads = [threading.Thread(target=come) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert [1, 8] == [len(set(keys)), len(keys)]
    assert 32 == len(keys[0])
    assert 0o600 == path.stat().st_mode & 0o777
    assert [path] == list(path.parent.iterdir())


@pytest.mark.parametrize("text", ["", "no hex", "abcd"])
def test_a_damaged_key_file_is_named(tmp_path: Path, caplog: pytest.LogCaptureFixture, text: str) -> None:
    """A file without a key stays unchanged; the process uses a random key and warns with a remedy."""
    path = tmp_path / "hash.key"
    path.write_text(text)

    with caplog.at_level(logging.WARNING):
        keys = [shared_key(path), shared_key(path)]

    assert 2 == len(set(keys))
    assert text == path.read_text()
    assert "RESILIENCE_HASH_KEY" in caplog.text


def test_a_folder_that_cannot_be_made_is_no_reason_to_fail(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """If the file cannot be created, the process uses a random key and logs one warning."""
    (tmp_path / "file").touch()

    with caplog.at_level(logging.WARNING):
        assert 32 == len(shared_key(tmp_path / "file" / "hash.key"))

    assert "match within this process alone" in caplog.text


def test_a_secret_of_any_length_makes_a_key() -> None:
    """A secret of any length makes a key, although BLAKE2b takes at most 64 bytes; different secrets make different keys."""
    assert 32 == len(key_of("x" * 1000))
    assert key_of("a") != key_of("b")
    assert 32 == len(Privacy(key=key_of("long " * 100)).digest("text"))


# --- settings ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("level", list(Level))
def test_settings_know_every_level(level: Level) -> None:
    """Each level can be set by its name."""
    assert level == Settings(privacy=level.value).privacy


def test_rules_come_from_the_environment(tmp_path: Path) -> None:
    """In variables fields are comma-separated, patterns are JSON, a hook is `module:function`; keywords take precedence."""
    environ = {
        "RESILIENCE_REDACT_FIELDS": "detail.user.email, tags.*",
        "RESILIENCE_REDACT_PATTERNS": '[["employee", "EMP-[0-9]{1,9}", "[employee]"]]',
        "RESILIENCE_REDACT_HOOK": "textwrap:indent",
        "RESILIENCE_HASH_KEY": "0123456789abcdef",
    }

    found = Settings().complete(environ, tmp_path)
    redactor = found.redactor()

    assert ("detail.user.email", "tags.*") == found.redact_fields
    assert (("detail", "user", "email"), ("tags", "*")) == redactor.paths
    assert "[employee] left" == redactor.patterns[0].mask("EMP-12 left")
    assert found.redact_hook is not None
    assert "0123456789abcdef" == found.hash_key
    assert "0123456789abcdef" not in repr(found)
    assert ("message",) == Settings(redact_fields=("message",)).complete(environ, tmp_path).redact_fields


def test_settings_with_rules_can_be_compared() -> None:
    """Lists, as in TOML, become tuples: settings are hashable, and handlers with equal settings share connections."""
    listed: Any = [["it", "EMP", "[it]"]]
    one = Settings(redact_patterns=listed, redact_fields=("a", "b"))
    two = Settings(redact_patterns=(("it", "EMP", "[it]"),), redact_fields=("a", "b"))

    assert one == two
    assert hash(one) == hash(two)
    assert ("a",) == Settings(redact_fields="a").redact_fields  # type: ignore[arg-type]  # a slip that means one thing


WRONG: list[tuple[str, Any, str]] = [
    ("redact_patterns", [("it", "(a+)+b", "")], "upper bound"),
    ("redact_patterns", [("it", "a")], "(name, regex, replacement)"),
    ("redact_patterns", ["it"], "(name, regex, replacement)"),
    ("redact_fields", ("request_id",), "joined by it"),
    ("redact_hook", "print", "give a function"),
    ("hash_key", "short", "at least 16"),
    ("privacy", "loud", "off, metadata, hashed, masked, full"),
]


@pytest.mark.parametrize(
    ("field", "value", "remedy"), WRONG, ids=[f"{name}-{say[:9]}" for name, _, say in WRONG]
)
def test_rules_that_cannot_work_are_refused_at_once(field: str, value: Any, remedy: str) -> None:
    """An invalid rule is an error at construction, with field and remedy; a short key is not repeated."""
    with pytest.raises(ValueError, match=rf"Settings\.{field}=") as caught:
        Settings(**{field: value})

    assert remedy in str(caught.value)
    assert "short" not in str(caught.value)


@pytest.mark.parametrize(
    ("variable", "text", "remedy"),
    [
        ("RESILIENCE_REDACT_PATTERNS", "[[", "a JSON list"),
        ("RESILIENCE_REDACT_PATTERNS", '[["it", "a*", ""]]', "at least one character"),
        ("RESILIENCE_REDACT_HOOK", "nothing", "module:function"),
        ("RESILIENCE_REDACT_HOOK", "os:nothing", "module:function"),
        ("RESILIENCE_REDACT_FIELDS", "a..b", "names with dots"),
    ],
)
def test_a_wrong_rule_of_the_environment_names_its_variable(
    tmp_path: Path, variable: str, text: str, remedy: str
) -> None:
    """An invalid rule in a source is an error that names its origin."""
    with pytest.raises(ConfigurationError, match=variable) as caught:
        Settings().complete({variable: text}, tmp_path)

    assert remedy in str(caught.value)


def test_every_rule_can_be_written_down() -> None:
    """The settings of privacy have variables, like all others."""
    names = {"PRIVACY", "HASH_KEY", "REDACT_PATTERNS", "REDACT_FIELDS", "REDACT_HOOK"}

    assert {f"RESILIENCE_{name}" for name in names} <= set(settings.all_settings())
