"""The bytes that carry the events of a stream: server-sent events, or the binary messages of AWS."""

from __future__ import annotations

import json
import struct
import zlib

from resilience.testing.dialects import Dialect
from resilience.testing.stream_bodies import Event

LAST_CHUNK = b"0\r\n\r\n"
"""The end of a chunked body."""
_STRING = 7
"""The type of a header's value in the binary messages."""
_CHECKSUM = struct.Struct(">I")


def media_type(dialect: Dialect) -> str:
    """Return the type of the body that carries a stream."""
    return "application/vnd.amazon.eventstream" if dialect == "aws-bedrock" else "text/event-stream"


def chunk(data: bytes) -> bytes:
    """Return *data* as one chunk of a chunked body."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def frame(dialect: Dialect, event: Event, *, damaged: bool = False) -> bytes:
    """Return the bytes of *event*.

    Args:
        dialect: the protocol.
        event: the event.
        damaged: whether to send only the first half of its JSON, in a frame that is whole.
    """
    if dialect == "aws-bedrock" and isinstance(event, dict):
        ((kind, content),) = event.items()
        return _message(kind, _text(content, damaged=damaged).encode())
    text = event if isinstance(event, str) else _text(event, damaged=damaged)
    if text.startswith(":"):
        return f"{text}\n\n".encode()
    name = f"event: {event['type']}\n" if isinstance(event, dict) and "type" in event else ""
    return f"{name}data: {text}\n\n".encode()


def _text(content: object, *, damaged: bool) -> str:
    text = json.dumps(content)
    return text[: len(text) // 2] if damaged else text


def _message(kind: str, payload: bytes) -> bytes:
    """Return a message of the AWS event stream: its lengths, headers and payload, with two checksums."""
    message = "exception" if kind.endswith("Exception") else "event"
    fields = {":message-type": message, f":{message}-type": kind, ":content-type": "application/json"}
    headers = b"".join(
        bytes([len(name)]) + name.encode() + struct.pack(">BH", _STRING, len(value)) + value.encode()
        for name, value in fields.items()
    )
    prelude = struct.pack(">II", 16 + len(headers) + len(payload), len(headers))
    message_bytes = prelude + _CHECKSUM.pack(zlib.crc32(prelude)) + headers + payload
    return message_bytes + _CHECKSUM.pack(zlib.crc32(message_bytes))
