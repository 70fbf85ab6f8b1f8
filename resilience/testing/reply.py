"""What a connection does for one request, and the head of a response."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto
from functools import lru_cache
from http import HTTPStatus

from resilience.testing.request import Request

# HTTP allows no body with these: a client would take one for the beginning of the next response.
BODILESS = frozenset({HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED})


class End(Enum):
    """What happens to the connection after the bytes are sent."""

    KEEP = auto()
    CLOSE = auto()
    RESET = auto()
    HANG = auto()


@dataclass(frozen=True, slots=True)
class Piece:
    """Bytes that are sent after a silence.

    Attributes:
        wait: seconds of silence before the bytes.
        data: the bytes.
    """

    wait: float
    data: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What a connection does for one request.

    Attributes:
        data: the bytes to send, possibly none.
        delay: seconds before the bytes.
        pieces: what is sent after them, one after the other.
        heartbeat: what is sent again and again after all that, until the client leaves; None for nothing.
        end: what happens to the connection after them.
        hold: seconds of silence between the bytes and a `CLOSE`; None closes immediately.
    """

    data: bytes = b""
    delay: float = 0.0
    pieces: tuple[Piece, ...] = ()
    heartbeat: Piece | None = None
    end: End = End.KEEP
    hold: float | None = None


def head(
    request: Request, status: int, kind: str, length: int | None, headers: Mapping[str, str] | None = None
) -> bytes:
    """Return the status line and the headers of a response.

    Args:
        request: the request that is answered.
        status: the status.
        kind: the media type of the body.
        length: bytes of the body; None for a chunked one, or for none.
        headers: headers to add or to replace, also by a wrong value.
    """
    # Without a length the body is chunked, as for streams; 204 and 304 have neither.
    framing = {"content-length": str(length)} if length is not None else {}
    if length is None and status not in BODILESS:
        framing = {"transfer-encoding": "chunked"}
    all_headers = {"content-type": kind, **framing, "x-request-id": f"req_{request.number:08d}"}
    all_headers |= {name.lower(): value for name, value in (headers or {}).items()}
    lines = "".join(f"{name}: {value}\r\n" for name, value in all_headers.items())
    return f"HTTP/1.1 {status} {_phrase(status)}\r\n{lines}\r\n".encode("latin-1")


@lru_cache(maxsize=64)
def _phrase(status: int) -> str:
    return HTTPStatus(status).phrase if status in set(HTTPStatus) else "Unknown"
