"""What each privacy level keeps of a prompt and an answer, and the key its hashes are made with."""

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
from resilience.privacy import FULL_LIMIT, MASKED_LIMIT, Content, Level, Privacy, Sealed, key_of
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


def kept(content: Content, **privacy: Any) -> dict[str, str | None]:
    sealed = Privacy(**{"key": b"k" * 16, **privacy}).seal(content)
    return {name: None if seal is None else seal() for name, seal in sealed.items()}


def test_masked_keeps_the_messages_with_every_rule_applied() -> None:
    """Only the prompt's own fields are kept; each text in them loses its secrets, behind escapes too."""
    told = kept(Content(request=REQUEST, output=f"answer: {SAID}"), level=Level.MASKED)

    assert {
        "messages": [
            {"role": "system", "content": "be kind"},
            {
                "role": "user",
                "content": [{"type": "text", "text": 'say "\nask [email] about [key]"'}],
                "password": "[secret]",
            },
        ]
    } == json.loads(str(told["prompt"]))
    assert "answer: ask [email] about [key]" == told["raw_output"]


def test_full_keeps_people_and_no_secrets() -> None:
    """At `full` addresses stay; keys, tokens and passwords go all the same."""
    told = kept(Content(request=REQUEST, output=SAID), level=Level.FULL)

    assert "jane@mail.example" in str(told["prompt"])
    assert "sk-abc" not in str(told["prompt"])
    assert "hunter2" not in str(told["prompt"])
    assert "ask jane@mail.example about [key]" == told["raw_output"]


def test_hashed_keeps_hashes_alone() -> None:
    """At `hashed` the same prompt and answer have the same hashes under one key, and others under another."""
    content = Content(request=REQUEST, output="answer")
    told = kept(content, level=Level.HASHED)

    assert (None, None) == (told["prompt"], told["raw_output"])
    assert told == kept(content, level=Level.HASHED)
    assert told["prompt_hash"] != kept(content, level=Level.HASHED, key=b"other")["prompt_hash"]
    assert told["output_hash"] == kept(content, level=Level.FULL)["output_hash"]
    assert 32 == len(str(told["prompt_hash"]))


def test_what_else_a_request_holds_does_not_change_its_hash() -> None:
    """Another model or user with the same messages is a repeat; other messages are none."""
    first = {"model": "a", "messages": [{"content": "x"}]}
    same = {"messages": [{"content": "x"}], "model": "b", "user": "u"}
    other = {"model": "a", "messages": [{"content": "y"}]}
    hashes = [
        kept(Content(request=json.dumps(each)), level=Level.HASHED)["prompt_hash"]
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
    """OpenAI, Anthropic, Google, the responses protocol and completions have it in different places."""
    assert expected == json.loads(
        str(kept(Content(request=json.dumps(request_)), level=Level.FULL)["prompt"])
    )


def test_a_request_that_cannot_be_read_is_not_shown() -> None:
    """Of a form nobody knows only the hash is kept; with the prompt as BAML rendered it, that."""
    unknown = Content(request='{"text": "secret plans"}')
    rendered = Content(request="not JSON", prompt=f"system: {SAID}")
    huge = Content(request='{"messages": "' + "x" * FULL_LIMIT + '"}')

    assert "[a request of a form that is not known]" == kept(unknown, level=Level.FULL)["prompt"]
    assert kept(unknown, level=Level.FULL)["prompt_hash"] != kept(huge, level=Level.FULL)["prompt_hash"]
    assert "system: ask [email] about [key]" == kept(rendered, level=Level.MASKED)["prompt"]
    assert "not known" in str(kept(huge, level=Level.MASKED)["prompt"])


def test_nothing_that_is_not_there_is_kept() -> None:
    """Without a prompt or an answer there is no text and no hash of one."""
    assert {"prompt": None, "raw_output": None, "prompt_hash": None, "output_hash": None} == kept(
        Content(), level=Level.FULL
    )


def test_masked_keeps_the_beginning_and_no_half_a_secret() -> None:
    """At `masked` 8192 characters stay, cut after the rules have seen what lies beyond."""
    before = "." * (MASKED_LIMIT - 10) + " "
    told = kept(Content(output=f"{before}sk-abcdefghijklmnop and {'.' * 5000}"), level=Level.MASKED)

    assert str(told["raw_output"]).endswith(CUT)
    assert len(str(told["raw_output"])) <= MASKED_LIMIT + len(CUT)
    assert "sk-" not in str(told["raw_output"])


def test_paths_lead_into_prompts_and_answers() -> None:
    """`prompt.messages.content` and `raw_output.user` are left out, at `full` too."""
    redactor = Redactor(paths=(path_of("prompt.messages.content"), path_of("raw_output.user")))
    told = kept(
        Content(request='{"messages": [{"role": "user", "content": "x"}]}', output='{"user": "j", "n": 1}'),
        level=Level.FULL,
        redactor=redactor,
    )

    assert '{"messages":[{"role":"user","content":"[redacted]"}]}' == told["prompt"]
    assert '{"user":"[redacted]","n":1}' == told["raw_output"]


def test_a_broken_answer_is_left_out_where_a_path_leads_into_it() -> None:
    """What is not to be kept may stand anywhere in JSON that cannot be read: nothing of it is kept."""
    redactor = Redactor(paths=(path_of("raw_output.user"),))

    assert REDACTED == kept(Content(output='{"user": "j'), level=Level.FULL, redactor=redactor)["raw_output"]
    assert "[]" == kept(Content(output="[]"), level=Level.FULL, redactor=redactor)["raw_output"]


def test_a_hook_sees_content_and_its_failure_hides_it() -> None:
    """Content passes the hook on the way to the database; a hook that raises costs the text."""

    def hook(field: str, text: str) -> str:
        if text == "bad":
            raise RuntimeError(text)
        return f"<{field}:{text}>"

    redactor = Redactor(hook=hook)

    assert (
        "<raw_output:fine>" == kept(Content(output="fine"), level=Level.FULL, redactor=redactor)["raw_output"]
    )
    assert FAILED == kept(Content(output="bad"), level=Level.FULL, redactor=redactor)["raw_output"]


def test_sealed_content_shows_nothing_of_itself() -> None:
    """Neither repr, nor str, nor pickle, nor an error on opening shows a sealed text; it opens once and lets go."""
    seal = Sealed(lambda: str(1 / 0), len(SAID))
    content = Content(request=REQUEST, prompt=SAID, output=SAID)

    assert f"<sealed, {len(SAID)} characters>" == repr(seal) == str(seal)
    assert (len(SAID), True) == (len(seal), bool(Sealed(str, 0)))
    assert "Content()" == repr(content)
    with pytest.raises(TypeError, match="does not leave its process"):
        pickle.dumps(seal)
    assert FAILED == seal()
    assert FAILED == seal()


def test_a_seal_is_opened_once() -> None:
    """The second opening gives what the first one made."""
    opened: list[int] = []

    def make() -> str:
        opened.append(1)
        return "told"

    seal = Sealed(make, 4)

    assert ["told", "told"] == [seal(), seal()]
    assert [1] == opened


def test_levels_that_keep_content_say_so() -> None:
    """`off` and `metadata` keep nothing of a call's content, so that nobody has to collect it."""
    assert [False, False, True, True, True] == [Privacy(level=level).keeps_content for level in Level]


# --- the key ----------------------------------------------------------------------------------------------------


def test_the_key_file_is_made_once_for_all(tmp_path: Path) -> None:
    """Eight that come at once agree on one key, in a file only its owner can read, and leave nothing else behind."""
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
    """A file that holds no key is left as it is; the process has a key of its own, and says what to do."""
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
    """Where no key file can be, calls go on with a key of this process and one warning."""
    (tmp_path / "file").touch()

    with caplog.at_level(logging.WARNING):
        assert 32 == len(shared_key(tmp_path / "file" / "hash.key"))

    assert "match within this process alone" in caplog.text


def test_a_secret_of_any_length_makes_a_key() -> None:
    """BLAKE2b takes keys of up to 64 bytes: a longer secret is no error, and different secrets are different keys."""
    assert 32 == len(key_of("x" * 1000))
    assert key_of("a") != key_of("b")
    assert 32 == len(Privacy(key=key_of("long " * 100)).digest("text"))


# --- settings ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("level", list(Level))
def test_settings_know_every_level(level: Level) -> None:
    """Each level can be given by its word."""
    assert level == Settings(privacy=level.value).privacy


def test_rules_come_from_the_environment(tmp_path: Path) -> None:
    """Fields are separated by commas, patterns are JSON, a hook is named by its module; keywords win."""
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
    """Lists, as TOML has them, are kept as tuples: handlers with equal settings share their connections."""
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
    """A wrong rule is an error where it is given, naming the field and the remedy; a short key is not repeated."""
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
    """A rule that was written down wrongly is told with the place it stands in."""
    with pytest.raises(ConfigurationError, match=variable) as caught:
        Settings().complete({variable: text}, tmp_path)

    assert remedy in str(caught.value)


def test_every_rule_can_be_written_down() -> None:
    """The settings of this room have their variables, like all others."""
    names = {"PRIVACY", "HASH_KEY", "REDACT_PATTERNS", "REDACT_FIELDS", "REDACT_HOOK"}

    assert {f"RESILIENCE_{name}" for name in names} <= set(settings.all_settings())
