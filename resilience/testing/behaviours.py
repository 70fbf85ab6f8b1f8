"""What a simulated provider can do with a request: one frozen value a behaviour.

A behaviour is chosen per request. Wherever one is accepted, a callable that gets the `Request` and returns a
behaviour is accepted too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import KW_ONLY, dataclass
from typing import Any, Literal, TypeAlias, get_args

from resilience import validation
from resilience.testing.request import Request

When: TypeAlias = Literal["before", "headers", "body"]
"""How much of a good answer is sent before something goes wrong: nothing at all; the status line and all headers; the
headers and half of the body."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A good answer: status 200 in the provider's protocol.

    Attributes:
        content: the text of the answer, or an object to be sent as JSON text. None is an answer that fits the
            co-scientist function that was asked, or `{"ok": true}` for a prompt that is none of theirs.
        delay: seconds before the first byte.
        headers: response headers to add.
    """

    content: Any = None
    _: KW_ONLY
    delay: float = 0.0
    headers: Mapping[str, str] | None = None

    def __post_init__(self) -> None:
        validation.number("Answer", "delay", self.delay)

    def __str__(self) -> str:
        return "200"


def Slow(seconds: float) -> Answer:  # noqa: N802 - reads as the behaviour it makes, beside the others
    """A good answer whose first byte comes after *seconds*."""
    return Answer(delay=seconds)


@dataclass(frozen=True, slots=True)
class Status:
    """An answer with this HTTP status.

    Attributes:
        code: the status, 200 to 599.
        body: a text sent as it is (a gateway's HTML page, say), or an object sent as JSON. None is the body a
            provider of the OpenAI protocol sends with this status.
        headers: response headers to add.
        delay: seconds before the first byte.
        retry_after: what to put into the `Retry-After` header: seconds, or a text such as an HTTP date.
    """

    code: int
    _: KW_ONLY
    body: Any = None
    headers: Mapping[str, str] | None = None
    delay: float = 0.0
    retry_after: float | str | None = None

    def __post_init__(self) -> None:
        validation.integer("Status", "code", self.code, low=200, high=599)
        validation.number("Status", "delay", self.delay)

    def __str__(self) -> str:
        return str(self.code)


@dataclass(frozen=True, slots=True)
class Hang:
    """Silence on an open connection.

    Attributes:
        seconds: after which the connection is closed; None is until the client goes away or the simulator closes.
        when: how much of a good answer comes before the silence.
    """

    seconds: float | None = None
    _: KW_ONLY
    when: When = "before"

    def __post_init__(self) -> None:
        validation.optional_number("Hang", "seconds", self.seconds)
        _known("Hang", self.when)

    def __str__(self) -> str:
        return "hang" if self.when == "before" else f"hang:{self.when}"


@dataclass(frozen=True, slots=True)
class Reset:
    """A connection that breaks: with a TCP reset, or with an early but orderly close.

    Attributes:
        when: how much of a good answer comes before the break.
        orderly: close with FIN instead of RST, as a provider does that is being restarted.
    """

    when: When = "before"
    _: KW_ONLY
    orderly: bool = False

    def __post_init__(self) -> None:
        _known("Reset", self.when)

    def __str__(self) -> str:
        return f"{'close' if self.orderly else 'reset'}:{self.when}"


@dataclass(frozen=True, slots=True)
class Truncate:
    """A good answer of which only the first *size* bytes of the body arrive before the connection is closed."""

    size: int = 40

    def __post_init__(self) -> None:
        validation.integer("Truncate", "size", self.size)

    def __str__(self) -> str:
        return "truncate"


@dataclass(frozen=True, slots=True)
class Malformed:
    """Status 200 with a *body* that is not the provider's protocol."""

    body: str = "<html><body>Welcome to the captive portal</body></html>"

    def __str__(self) -> str:
        return "malformed"


@dataclass(frozen=True, slots=True)
class WrongSchema:
    """A good answer as far as the protocol goes, whose JSON does not fit the type the function returns."""

    def __str__(self) -> str:
        return "wrong_schema"


@dataclass(frozen=True, slots=True)
class Empty:
    """A good answer with no content."""

    def __str__(self) -> str:
        return "empty"


@dataclass(frozen=True, slots=True)
class Finish:
    """An answer that ended for another reason than being complete.

    Attributes:
        reason: the `finish_reason`, such as `length` or `content_filter`.
        text: what was answered until then; None is the first part of an answer that fits.
    """

    reason: str = "length"
    text: str | None = None

    def __str__(self) -> str:
        return f"finish:{self.reason}"


@dataclass(frozen=True, slots=True)
class ErrorInBody:
    """Status 200 with an `error` object in place of an answer, as OpenRouter sends it.

    Attributes:
        error: the value of `error`; None is a rate limit of the provider behind the gateway.
    """

    error: Mapping[str, Any] | str | None = None

    def __str__(self) -> str:
        return "error_in_body"


Behaviour: TypeAlias = (
    Answer | Status | Hang | Reset | Truncate | Malformed | WrongSchema | Empty | Finish | ErrorInBody
)
Choice: TypeAlias = Behaviour | Callable[[Request], Behaviour]


def _known(owner: str, when: str) -> None:
    if when not in get_args(When):
        msg = f"{owner}.when={when!r}: give one of {', '.join(get_args(When))}"
        raise ValueError(msg)
