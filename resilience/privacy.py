"""The privacy levels: how much of a call is recorded, and what each level makes of a prompt and an answer."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from functools import partial
from typing import Any, Final, Literal

from resilience.redaction import FAILED, REDACTED, Redactor, cut, redact, redact_mapping, redact_secrets

__all__ = [
    "CONTENT_LEVELS",
    "FULL_LIMIT",
    "MASKED_LIMIT",
    "Content",
    "DeferredText",
    "Level",
    "Privacy",
    "key_of",
]


class Level(StrEnum):
    """How much of a call is recorded. Each level adds to the one before."""

    OFF = "off"
    """Nothing: no history and no logs."""
    METADATA = "metadata"
    """What happened, with redacted messages, and no content."""
    HASHED = "hashed"
    """Keyed hashes of prompt and answer of failed attempts, so that repetitions can be found."""
    MASKED = "masked"
    """The beginnings of both, with every redaction rule applied."""
    FULL = "full"
    """Both in full, without keys, tokens, passwords and credentials."""


CONTENT_LEVELS: Final = frozenset({Level.HASHED, Level.MASKED, Level.FULL})
"""The levels that record something of the content of failed attempts."""
MASKED_LIMIT: Final = 8192
"""Characters of a prompt or an answer that `masked` records."""
FULL_LIMIT: Final = 1024 * 1024
"""Characters of a prompt or an answer that `full` records, and of the largest request that is parsed."""

_PROMPT_FIELDS: Final = (
    "system",
    "systemInstruction",
    "instructions",
    "messages",
    "contents",
    "input",
    "prompt",
)
"""The fields of requests that hold the prompt, in the providers' protocols. Others (model, tools, user) are not recorded."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """Prompt and answer of a failed attempt, unredacted: not in any repr, log or comparison.

    Attributes:
        request: body of the request. Headers are left out, since they carry the key.
        prompt: prompt as rendered by BAML, for attempts whose request is unknown.
        output: answer of the model.
    """

    request: str | None = field(default=None, repr=False)
    prompt: str | None = field(default=None, repr=False)
    output: str | None = field(default=None, repr=False)


class DeferredText:
    """A text to be redacted on the writer thread. Calling it returns the redacted text; nothing else shows the text.

    To redact a prompt takes milliseconds, which the caller's event loop must not spend. The result is made once, and the
    original text is released.

    Args:
        factory: returns the text that may be recorded.
        size: characters of the original text, for the size limits of the writer's queue.
    """

    __slots__ = ("_factory", "_redacted", "_size")

    def __init__(self, factory: Callable[[], str | None], size: int) -> None:
        self._factory: Callable[[], str | None] | None = factory
        self._redacted: str | None = None
        self._size = size

    def __call__(self) -> str | None:
        """Return the text that may be recorded, and `[redactor-failed]` if a rule raised."""
        factory, self._factory = self._factory, None
        if factory is not None:
            try:
                self._redacted = factory()
            except Exception:  # noqa: BLE001 - a failing rule must neither stop the writer nor let the text through
                self._redacted = FAILED
        return self._redacted

    def __len__(self) -> int:
        return self._size

    def __bool__(self) -> Literal[True]:
        return True  # an empty answer is content too

    def __repr__(self) -> str:
        return f"<unredacted text, {self._size} characters>"

    # Pickled, the text would leave the process unredacted: to another process, a cache, a task queue.
    def __reduce__(self) -> str | tuple[Any, ...]:
        msg = "unredacted content does not leave its process"
        raise TypeError(msg)


@dataclass(frozen=True, slots=True, kw_only=True)
class Privacy:
    """A privacy level, with the redaction rules and the hash key of a project.

    Attributes:
        level: how much is recorded.
        redactor: the project's own rules.
        key: key of the hashes; the same in all processes of a project.
    """

    level: Level = Level.METADATA
    redactor: Redactor = field(default_factory=Redactor)
    key: bytes = field(default=b"", repr=False)

    @property
    def keeps_texts(self) -> bool:
        """Whether a text that a provider or the application wrote is recorded at all, spans included."""
        return self.level is not Level.OFF

    @property
    def keeps_content(self) -> bool:
        """Whether something of the content of failed attempts is recorded."""
        return self.level in CONTENT_LEVELS

    def defer(self, content: Content) -> dict[str, DeferredText | None]:
        """Return `prompt, raw_output, prompt_hash, output_hash` as far as the level records them, redacted when called."""
        asked, has_text = content.request or content.prompt, self.level is not Level.HASHED
        return {
            "prompt": _deferred(partial(self._prompt, content), asked if has_text else None),
            "raw_output": _deferred(partial(self._output, content), content.output if has_text else None),
            "prompt_hash": _deferred(lambda: self.digest(_as_text(_prompt_of(content) or asked)), asked),
            "output_hash": _deferred(lambda: self.digest(content.output or ""), content.output),
        }

    def digest(self, text: str) -> str:
        """Return the keyed hash of *text*, 32 hex digits. Without the key a guessed text cannot be confirmed."""
        return hashlib.blake2b(
            text.encode("utf-8", "surrogatepass"), key=self.key, digest_size=16
        ).hexdigest()

    def _prompt(self, content: Content) -> str:
        prompt = _prompt_of(content)
        if isinstance(prompt, str):
            return self._text("prompt", prompt)
        if prompt is None:
            return "[a request of a form that is not known]"
        # Text by text, so that no rule has to see through the quotes and escapes of JSON.
        redacted = redact_mapping(prompt, partial(self._text, "prompt"))
        return cut(_as_text(self.redactor.without({"prompt": redacted})["prompt"]), self._limit, str)

    def _output(self, content: Content) -> str:
        text = content.output or ""
        if self.redactor.looks_into("raw_output"):
            answer = _parsed(text)
            if isinstance(answer, str):  # not JSON: the field to leave out may stand anywhere in it
                return REDACTED
            text = _as_text(self.redactor.without({"raw_output": answer})["raw_output"])
        return self._text("raw_output", text)

    def _text(self, name: str, text: str) -> str:
        built_in = redact_secrets if self.level is Level.FULL else redact
        return cut(text, self._limit, lambda text: self.redactor.text(name, built_in(text)))

    @property
    def _limit(self) -> int:
        return FULL_LIMIT if self.level is Level.FULL else MASKED_LIMIT


def key_of(text: str) -> bytes:
    """Return the hash key for a secret *text* of any length: BLAKE2b takes at most 64 bytes."""
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=32).digest()


def _deferred(redact_text: Callable[[], str], original: str | None) -> DeferredText | None:
    return None if original is None else DeferredText(redact_text, len(original))


def _prompt_of(content: Content) -> Any:
    """Return the fields of the request with the prompt, else the prompt as rendered by BAML; None without either."""
    request = _parsed(content.request or "")
    fields = (
        {name: request[name] for name in _PROMPT_FIELDS if name in request}
        if isinstance(request, dict)
        else {}
    )
    return fields or content.prompt


def _parsed(text: str) -> Any:
    """Return the JSON object or list in *text*; *text* itself if it is none, or too long to parse."""
    if len(text) > FULL_LIMIT or not text.lstrip().startswith(("{", "[")):
        return text
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _as_text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, separators=(",", ":"))
