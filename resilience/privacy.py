"""How much of a call is kept: the levels, and what each makes of a prompt and an answer."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from functools import partial
from typing import Any, Final, Literal

from resilience.redaction import FAILED, REDACTED, Redactor, cut, redact, redact_mapping, redact_secrets

__all__ = ["FULL_LIMIT", "KEEPING_CONTENT", "MASKED_LIMIT", "Content", "Level", "Privacy", "Sealed", "key_of"]


class Level(StrEnum):
    """What of a call is kept."""

    OFF = "off"
    """Nothing: no history and no logs."""
    METADATA = "metadata"
    """What happened, with redacted messages; no content."""
    HASHED = "hashed"
    """And keyed hashes of prompt and answer of failed attempts, so that repeats can be matched."""
    MASKED = "masked"
    """And their beginnings, with every rule applied."""
    FULL = "full"
    """And all of them as they were, less keys, tokens, passwords and credentials."""


KEEPING_CONTENT: Final = frozenset({Level.HASHED, Level.MASKED, Level.FULL})
"""The levels at which failed attempts leave something of their content."""
MASKED_LIMIT: Final = 8192
"""Characters of a prompt or an answer kept at `masked`."""
FULL_LIMIT: Final = 1024 * 1024
"""Characters of a prompt or an answer kept at `full`, and of a request that is looked into at all."""

_ASKED: Final = ("system", "systemInstruction", "instructions", "messages", "contents", "input", "prompt")
"""Where the providers' protocols have the prompt. Whatever else a request holds (model, tools, user) is not kept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """What a failed attempt asked and was answered, as it was: never shown, logged or compared.

    Attributes:
        request: the body of the request; no headers, for these carry the key.
        prompt: the prompt as BAML rendered it, for attempts whose request is not known.
        output: the answer of the model.
    """

    request: str | None = field(default=None, repr=False)
    prompt: str | None = field(default=None, repr=False)
    output: str | None = field(default=None, repr=False)


class Sealed:
    """A text nobody has redacted yet. Calling it, on the writer thread, gives what may be kept; nothing else shows it.

    It is opened once: the text it was made from is let go.
    """

    __slots__ = ("_kept", "_make", "_size")

    def __init__(self, make: Callable[[], str | None], size: int) -> None:
        self._make: Callable[[], str | None] | None = make
        self._kept: str | None = None
        self._size = size

    def __call__(self) -> str | None:
        """What may be kept of it."""
        make, self._make = self._make, None
        if make is not None:
            try:
                self._kept = make()
            except Exception:  # noqa: BLE001 - whatever a text does to a rule, it is not shown for it
                self._kept = FAILED
        return self._kept

    def __len__(self) -> int:
        return self._size

    def __bool__(self) -> Literal[True]:
        return True

    def __repr__(self) -> str:
        return f"<sealed, {self._size} characters>"

    def __reduce__(self) -> str | tuple[Any, ...]:
        msg = "sealed content does not leave its process"
        raise TypeError(msg)


@dataclass(frozen=True, slots=True, kw_only=True)
class Privacy:
    """A level, with the rules and the key of a project.

    Attributes:
        level: what is kept.
        redactor: the project's own rules.
        key: of the hashes; the same in all processes of a project.
    """

    level: Level = Level.METADATA
    redactor: Redactor = field(default_factory=Redactor)
    key: bytes = field(default=b"", repr=False)

    @property
    def keeps_content(self) -> bool:
        """Does a failed attempt leave something of its content?"""
        return self.level in KEEPING_CONTENT

    def seal(self, content: Content) -> dict[str, Sealed | None]:
        """`prompt, raw_output, prompt_hash, output_hash` as far as the level keeps them, to be opened on another thread."""
        asked, shown = content.request or content.prompt, self.level is not Level.HASHED
        return {
            "prompt": _sealed(partial(self._prompt, content), asked if shown else None),
            "raw_output": _sealed(partial(self._output, content), content.output if shown else None),
            "prompt_hash": _sealed(lambda: self.digest(_spelled(_asked(content) or asked)), asked),
            "output_hash": _sealed(lambda: self.digest(content.output or ""), content.output),
        }

    def digest(self, text: str) -> str:
        """32 hex digits that are equal for equal texts, and tell nothing to those without the key."""
        return hashlib.blake2b(
            text.encode("utf-8", "surrogatepass"), key=self.key, digest_size=16
        ).hexdigest()

    def _prompt(self, content: Content) -> str:
        """Redacted leaf by leaf, so that no rule has to see through the quotes and escapes of JSON."""
        asked = _asked(content)
        if isinstance(asked, str):
            return self._text("prompt", asked)
        if asked is None:
            return "[a request of a form that is not known]"
        kept = redact_mapping(asked, partial(self._text, "prompt"))
        return cut(_spelled(self.redactor.without({"prompt": kept})["prompt"]), self._limit, str)

    def _output(self, content: Content) -> str:
        text = content.output or ""
        if self.redactor.looks_into("raw_output"):
            found = _read(text)
            if isinstance(found, str):  # broken, and what is not to be kept may stand anywhere in it
                return REDACTED
            text = _spelled(self.redactor.without({"raw_output": found})["raw_output"])
        return self._text("raw_output", text)

    def _text(self, name: str, text: str) -> str:
        built_in = redact_secrets if self.level is Level.FULL else redact
        return cut(text, self._limit, lambda text: self.redactor.text(name, built_in(text)))

    @property
    def _limit(self) -> int:
        return FULL_LIMIT if self.level is Level.FULL else MASKED_LIMIT


def key_of(text: str) -> bytes:
    """The key of the hashes for a secret *text* of any length."""
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=32).digest()


def _sealed(make: Callable[[], str], raw: str | None) -> Sealed | None:
    return None if raw is None else Sealed(make, len(raw))


def _asked(content: Content) -> Any:
    """What of the request is the prompt, else the prompt as BAML told it; None where neither can be read."""
    request = _read(content.request or "")
    asked = {name: request[name] for name in _ASKED if name in request} if isinstance(request, dict) else {}
    return asked or content.prompt


def _read(text: str) -> Any:
    """*text* as JSON where it is an object or a list; itself where not, or too long to look into."""
    if len(text) > FULL_LIMIT or not text.lstrip().startswith(("{", "[")):
        return text
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _spelled(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, separators=(",", ":"))
