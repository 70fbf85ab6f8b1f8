"""What a simulated provider can do with a request: one frozen class for each behaviour.

A behaviour is chosen for each request. Wherever one is accepted, a callable is too: it gets the `Request` and returns a
behaviour.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import KW_ONLY, dataclass
from typing import Any, Literal, TypeAlias, get_args

from resilience import validation
from resilience.testing.provider_errors import ErrorKind
from resilience.testing.request import Request

When: TypeAlias = Literal["before", "headers", "body"]
"""How much of a good answer is sent before the fault: nothing; the status line and the headers; the headers and half of the
body."""
StreamPlace: TypeAlias = Literal["head", "headers", "opening", "content", "event", "finish", "mark", "end"]
"""How much of a stream is sent before its fault: half of the headers; the headers; the opening events too; half of the content;
half of an event more; all content; the finish reason too; everything."""
StreamFault: TypeAlias = Literal[
    "cut", "close", "end", "stall", "heartbeats", "malformed", "finish", "thinking", "refusal"
]
"""What goes wrong with a stream: its connection is reset; it closes without an end of the body; the body ends as HTTP wants it;
silence; only what keeps the connection alive; the next event is no JSON; the finish reason arrives here already; the model's
thinking; the model or the provider refuses to go on. After a malformed event, a finish reason and thinking the stream goes on."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A good answer: status 200 in the provider's protocol.

    Attributes:
        content: the text of the answer, or an object that is sent as JSON text. None sends an answer that fits the
            co-scientist function of the prompt, or `{"ok": true}` for another prompt.
        delay: seconds before the first byte.
        headers: response headers to add.

    Raises:
        ValueError: *delay* is negative.
    """

    content: Any = None
    _: KW_ONLY
    delay: float = 0.0
    headers: Mapping[str, str] | None = None

    def __post_init__(self) -> None:
        validation.number("Answer", "delay", self.delay)

    # The demo counts every other name as a failed request: see demo/summary.py.
    def __str__(self) -> str:
        return "200"


def Slow(seconds: float) -> Answer:  # noqa: N802 - named like the classes it stands beside
    """Return a good answer whose first byte comes after *seconds*."""
    return Answer(delay=seconds)


@dataclass(frozen=True, slots=True)
class Status:
    """A response with a given HTTP status.

    Attributes:
        code: the status, 200 to 599.
        body: a text that is sent as it is, such as a gateway's HTML page, or an object that is sent as JSON. None sends
            the body that the provider of the request's protocol sends with this status.
        headers: response headers to add.
        delay: seconds before the first byte.
        retry_after: the wait that is stated: seconds, or a text such as an HTTP date. It is the value of the
            `Retry-After` header. Only Google states seconds in `RetryInfo`, a part of the body. None states none.

    Raises:
        ValueError: *code* is out of range or *delay* is negative.
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
        seconds: seconds until the connection is closed; None to wait until the client leaves or the simulator closes.
        when: how much of a good answer is sent before the silence.

    Raises:
        ValueError: *seconds* is not positive, or *when* is not a `When`.
    """

    seconds: float | None = None
    _: KW_ONLY
    when: When = "before"

    def __post_init__(self) -> None:
        validation.optional_number("Hang", "seconds", self.seconds)
        _check_word("Hang", "when", self.when, When)

    def __str__(self) -> str:
        return "hang" if self.when == "before" else f"hang:{self.when}"


@dataclass(frozen=True, slots=True)
class Reset:
    """A connection that breaks, with a TCP reset or an early close.

    Attributes:
        when: how much of a good answer is sent before the break.
        orderly: whether to close with FIN instead of RST, as a provider does that is being restarted.

    Raises:
        ValueError: *when* is not a `When`.
    """

    when: When = "before"
    _: KW_ONLY
    orderly: bool = False

    def __post_init__(self) -> None:
        _check_word("Reset", "when", self.when, When)

    def __str__(self) -> str:
        return f"{'close' if self.orderly else 'reset'}:{self.when}"


@dataclass(frozen=True, slots=True)
class Truncate:
    """A good answer whose connection closes in the middle of the body.

    Attributes:
        size: bytes of the body that are sent, always fewer than it has.

    Raises:
        ValueError: *size* is negative.
    """

    size: int = 40

    def __post_init__(self) -> None:
        validation.integer("Truncate", "size", self.size)

    def __str__(self) -> str:
        return "truncate"


@dataclass(frozen=True, slots=True)
class Malformed:
    """Status 200 with a body that is not the provider's protocol.

    Attributes:
        body: the body, sent as it is.
    """

    body: str = "<html><body>Welcome to the captive portal</body></html>"

    def __str__(self) -> str:
        return "malformed"


@dataclass(frozen=True, slots=True)
class WrongSchema:
    """A good answer by the protocol, whose JSON does not fit the return type of the function."""

    def __str__(self) -> str:
        return "wrong_schema"


@dataclass(frozen=True, slots=True)
class Empty:
    """A good answer by the protocol, whose content is the empty text."""

    def __str__(self) -> str:
        return "empty"


@dataclass(frozen=True, slots=True)
class Finish:
    """An answer that ended before it was complete.

    Attributes:
        reason: the finish reason, in the field in which the provider has it. `length` and `content_filter` become
            the provider's own words, such as Anthropic's `max_tokens`; every other word is sent as it is.
        text: the text until then; None sends the first part of an answer that fits.
    """

    reason: str = "length"
    text: str | None = None

    def __str__(self) -> str:
        return f"finish:{self.reason}"


@dataclass(frozen=True, slots=True)
class ErrorInBody:
    """Status 200 with an `error` object instead of an answer, as OpenRouter sends it.

    Attributes:
        error: the value of `error`; None sends a rate limit of the provider behind the gateway, in the request's protocol.
    """

    error: Mapping[str, Any] | str | None = None

    def __str__(self) -> str:
        return "error_in_body"


@dataclass(frozen=True, slots=True)
class Stream:
    """A streamed answer that breaks at one place. A request for a whole answer gets the same text without the fault.

    `Stream(fault="stall", at="content")` is silent after half of the content. `Stream(error="overloaded")` sends an error
    there and ends. `Stream(fault="stall", at="end")` leaves the connection open after a good answer.

    Attributes:
        content: as in `Answer`.
        fault: what goes wrong; None for nothing.
        at: how much is sent before that.
        error: an error that is sent at this place, as an event of the provider: its kind, or the provider's error object.
            In place of the finish reason some providers have another form for it.
        goes_on: whether the stream goes on after the error; else its body ends.
        finish: the finish reason, as in `Finish`; None sends none.
        seconds: seconds until the stream goes on after a silence or heartbeats; None for never.
        interval: seconds before each event; 0 sends all at once.
        delay: seconds before the first byte.

    Raises:
        ValueError: a value is not one of those above.
    """

    content: Any = None
    _: KW_ONLY
    fault: StreamFault | None = None
    at: StreamPlace = "content"
    error: ErrorKind | Mapping[str, Any] | None = None
    goes_on: bool = False
    finish: str | None = "stop"
    seconds: float | None = None
    interval: float = 0.0
    delay: float = 0.0

    def __post_init__(self) -> None:
        _check_word("Stream", "at", self.at, StreamPlace)
        if self.fault is not None:
            _check_word("Stream", "fault", self.fault, StreamFault)
        if isinstance(self.error, str):
            _check_word("Stream", "error", self.error, ErrorKind)
        validation.optional_number("Stream", "seconds", self.seconds)
        validation.number("Stream", "interval", self.interval)
        validation.number("Stream", "delay", self.delay)

    def __str__(self) -> str:
        error = "error" if isinstance(self.error, Mapping) else self.error
        name = "+".join(word for word in (error, self.fault) if word)
        return f"stream:{name}@{self.at}" if name else "stream"


# A new behaviour needs a `render` in wire.py, and a name in notation.py to be usable on a command line.
Behaviour: TypeAlias = (
    Answer
    | Status
    | Hang
    | Reset
    | Truncate
    | Malformed
    | WrongSchema
    | Empty
    | Finish
    | ErrorInBody
    | Stream
)
"""What a simulated client can do with a request. `str()` of it is its name in the log and in the counts."""
Choice: TypeAlias = Behaviour | Callable[[Request], Behaviour]
"""A behaviour, or a callable that chooses one for a request."""


def _check_word(owner: str, field: str, word: str, allowed: object) -> None:
    if word not in get_args(allowed):
        msg = f"{owner}.{field}={word!r}: give one of {', '.join(get_args(allowed))}"
        raise ValueError(msg)
