"""The simulator as an HTTP server: connections, the log, outages, threads, and many callers at once."""

from __future__ import annotations

import asyncio
import http.client
import json
import socket
import threading
import time
from typing import Any
from urllib.parse import urlsplit

import pytest

from resilience.errors import ConfigurationError
from resilience.testing import (
    Answer,
    Behaviour,
    Hang,
    LoggedRequest,
    Malformed,
    ManualClock,
    ProviderSimulator,
    Request,
    Reset,
    Status,
    Truncate,
)

QUESTION = {"model": "m", "messages": [{"role": "user", "content": "Why?"}]}


def connect(simulator: ProviderSimulator, client: str = "Primary") -> http.client.HTTPConnection:
    return http.client.HTTPConnection("127.0.0.1", urlsplit(simulator.url(client)).port, timeout=60)


def post(
    simulator: ProviderSimulator, question: Any = QUESTION, *, client: str = "Primary"
) -> tuple[int, Any]:
    connection = connect(simulator, client)
    path = f"{urlsplit(simulator.url(client)).path}/chat/completions"
    body = question if isinstance(question, bytes) else json.dumps(question)
    connection.request("POST", path, body, {"Authorization": "Bearer secret", "X-Trace": "t1"})
    response = connection.getresponse()
    text = response.read().decode()
    connection.close()
    return response.status, json.loads(text) if text.startswith("{") else text


def raw(body: bytes = b"{}", *headers: bytes) -> bytes:
    lines = [
        b"POST /primary/v1/chat/completions HTTP/1.1",
        b"host: h",
        b"content-length: %d" % len(body),
        *headers,
    ]
    return b"\r\n".join([*lines, b"", b""]) + body


def talk(simulator: ProviderSimulator, *sent: bytes) -> bytes:
    """Send raw bytes and read until the server closes or sends nothing more."""
    with socket.create_connection(
        ("127.0.0.1", urlsplit(simulator.url("Primary")).port or 0), timeout=10
    ) as wire:
        for part in sent:
            wire.sendall(part)
        wire.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: wire.recv(65536), b""))


def until(what: Any) -> None:
    """Poll until *what* is true."""
    deadline = time.monotonic() + 120
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.005)


# --- HTTP -------------------------------------------------------------------------------------------------------


def test_a_connection_serves_many_requests(provider_simulator: ProviderSimulator) -> None:
    """Without `Connection: close` a connection stays open for the next request."""
    connection = connect(provider_simulator)
    sockets = set()
    for _ in range(3):
        connection.request("POST", "/primary/v1/chat/completions", json.dumps(QUESTION))
        assert json.loads(connection.getresponse().read())["choices"][0]["finish_reason"] == "stop"
        sockets.add(connection.sock)
    connection.close()

    assert len(sockets) == 1
    assert provider_simulator.client("Primary").asked == 3


def test_a_client_that_wants_to_close_is_closed(provider_simulator: ProviderSimulator) -> None:
    """`Connection: close` and HTTP/1.0 end the connection after the answer."""
    for question in (raw(b"{}", b"connection: close"), raw().replace(b"HTTP/1.1", b"HTTP/1.0")):
        with socket.create_connection(
            ("127.0.0.1", urlsplit(provider_simulator.url("Primary")).port or 0)
        ) as wire:
            wire.settimeout(10)
            wire.sendall(question)

            assert b"".join(iter(lambda: wire.recv(65536), b"")).startswith(b"HTTP/1.1 200 OK\r\n")


def test_requests_sent_ahead_are_answered_in_order(provider_simulator: ProviderSimulator) -> None:
    """Pipelined requests are answered in order, also behind a slow answer."""
    provider_simulator.client("Primary").script([Status(501, delay=0.05), Status(502), Status(503)])

    with socket.create_connection(
        ("127.0.0.1", urlsplit(provider_simulator.url("Primary")).port or 0)
    ) as wire:
        wire.settimeout(10)
        wire.sendall(raw() + raw() + raw(b"{}", b"connection: close"))
        answered = b"".join(iter(lambda: wire.recv(65536), b""))

    assert [answered.count(code) for code in (b" 501 ", b" 502 ", b" 503 ")] == [1, 1, 1]
    assert answered.index(b" 501 ") < answered.index(b" 502 ") < answered.index(b" 503 ")


def test_expect_100_continue_is_answered(provider_simulator: ProviderSimulator) -> None:
    """`Expect: 100-continue` gets a 100, as curl needs for large bodies."""
    with socket.create_connection(
        ("127.0.0.1", urlsplit(provider_simulator.url("Primary")).port or 0)
    ) as wire:
        wire.settimeout(10)
        head, body = raw(b"{}", b"expect: 100-continue", b"connection: close")[:-2], b"{}"
        wire.sendall(head)
        assert wire.recv(65536) == b"HTTP/1.1 100 Continue\r\n\r\n"
        wire.sendall(body)

        assert b"".join(iter(lambda: wire.recv(65536), b"")).startswith(b"HTTP/1.1 200 OK\r\n")


def test_bytes_that_are_no_http_are_refused(provider_simulator: ProviderSimulator) -> None:
    """Bytes that are no request get a 400 and a closed connection, and the server goes on."""
    assert talk(provider_simulator, b"\x16\x03\x01 hello\r\n\r\n").startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert post(provider_simulator)[0] == 200


def test_half_a_request_is_dropped(provider_simulator: ProviderSimulator) -> None:
    """A client that leaves after half a request is not counted, and nothing stays in flight."""
    assert talk(provider_simulator, raw(b"{}")[:40]) == b""
    assert provider_simulator.requests == []
    assert provider_simulator.in_flight == 0


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/nobody/v1/chat/completions"),
        ("POST", "/primary/v1/models"),
        ("GET", "/primary/v1/chat/completions"),
    ],
)
def test_other_paths_are_not_found(provider_simulator: ProviderSimulator, method: str, path: str) -> None:
    """A path that the protocol does not have gets a 404 and is not logged."""
    connection = connect(provider_simulator)
    connection.request(method, path)
    response = connection.getresponse()
    error = json.loads(response.read())["error"]
    connection.close()

    assert (response.status, error["message"]) == (404, f"Invalid URL ({method} {path})")
    assert provider_simulator.requests == []


def test_a_status_without_a_body_has_none(provider_simulator: ProviderSimulator) -> None:
    """204 is sent without a body; other statuses of success carry an answer."""
    provider_simulator.client("Primary").script([Status(204), Status(201), Status(299, headers={"X-A": "b"})])

    assert post(provider_simulator) == (204, "")
    status, answer = post(provider_simulator)
    assert (status, answer["object"]) == (201, "chat.completion")
    assert post(provider_simulator)[0] == 299


def test_contents_are_sent_as_given(provider_simulator: ProviderSimulator) -> None:
    """The content of an `Answer` and the body of a `Status` are sent as text, or as JSON for an object."""
    provider_simulator.client("Primary").script(
        [
            Answer("plain"),
            Answer({"a": [1]}),
            Status(418, body={"short": "stout"}),
            Status(418, body="teapot"),
            Malformed("x"),
        ]
    )

    said = [post(provider_simulator)[1] for _ in range(5)]

    assert [answer["choices"][0]["message"]["content"] for answer in said[:2]] == ["plain", '{"a": [1]}']
    assert said[2:] == [{"short": "stout"}, "teapot", "x"]


@pytest.mark.parametrize(
    ("retry_after", "sent"), [(3, "3"), (0.5, "0.5"), ("Wed, 21 Oct 2026 07:28:00 GMT",) * 2]
)
def test_retry_after_is_a_number_or_a_date(
    provider_simulator: ProviderSimulator, retry_after: float | str, sent: str
) -> None:
    """Seconds are written without trailing zeros, texts unchanged."""
    provider_simulator.client("Primary").set(Status(503, retry_after=retry_after))

    assert f"\r\nretry-after: {sent}\r\n".encode() in talk(
        provider_simulator, raw(b"{}", b"connection: close")
    )


def test_a_reset_sends_rst_and_an_orderly_break_does_not(provider_simulator: ProviderSimulator) -> None:
    """By default the connection breaks with RST; `orderly` ends it with FIN, and so does a cut body."""
    ends: list[tuple[bytes, bool]] = []
    behaviours: list[Behaviour] = [
        Reset(),
        Reset("body"),
        Reset(orderly=True),
        Reset("headers", orderly=True),
        Truncate(5),
    ]
    provider_simulator.client("Primary").script(behaviours)
    for _ in behaviours:
        with socket.create_connection(
            ("127.0.0.1", urlsplit(provider_simulator.url("Primary")).port or 0)
        ) as wire:
            wire.settimeout(10)
            wire.sendall(raw())
            ends.append(read_to_the_end(wire))

    assert [reset for _, reset in ends] == [True, True, False, False, False]
    bodies = [got.partition(b"\r\n\r\n")[2] for got, _ in ends]
    assert [len(got) > 0 for got, _ in ends] == [False, True, False, True, True]
    assert bodies[1].startswith(b'{"id": ')
    assert (bodies[3], bodies[4]) == (b"", b'{"id"')


def read_to_the_end(wire: socket.socket) -> tuple[bytes, bool]:
    """Return the bytes received, and whether a reset ended the connection."""
    got = b""
    try:
        while part := wire.recv(65536):
            got += part
    except ConnectionResetError:
        return got, True
    return got, False


# --- the log ----------------------------------------------------------------------------------------------------


def test_the_log_holds_no_key() -> None:
    """A line has client, time, path, behaviour, model, size and headers, without the key."""
    clock = ManualClock(100.0)
    with ProviderSimulator.in_thread(clock=clock) as simulator:
        clock.advance(1.5)
        simulator.client("Secondary").set(Status(503))
        post(simulator, client="Secondary")
        line = simulator.requests[0]

    headers = dict(line.headers)
    assert headers.pop("x-trace") == "t1"
    assert "authorization" not in headers
    assert "secret" not in repr(line)
    assert "Why?" not in repr(line)
    assert line == LoggedRequest(
        client="Secondary",
        at=1.5,
        path="/secondary/v1/chat/completions",
        sent="503",
        function=None,
        model="m",
        size=len(json.dumps(QUESTION)),
        stream=False,
        headers=line.headers,
    )


def test_the_log_is_bounded_and_the_counts_are_not() -> None:
    """Only the latest requests are kept; all are counted."""
    with ProviderSimulator.in_thread(log_size=2) as simulator:
        simulator.client("Primary").script([Status(500), Status(501), Status(502), Status(502)])
        for _ in range(4):
            post(simulator)

        assert [line.sent for line in simulator.requests] == ["502", "502"]
        assert simulator.counts["Primary"] == {"500": 1, "501": 1, "502": 2}


@pytest.mark.parametrize(
    "question", [b"", b"\xff\xfe", b"[1]", b'{"messages": 3}', b'{"messages": [3, {"content": 4}]}']
)
def test_an_unreadable_body_is_answered_all_the_same(
    provider_simulator: ProviderSimulator, question: bytes
) -> None:
    """A body that cannot be parsed gets the generic answer."""
    status, answer = post(provider_simulator, question)

    assert (status, answer["choices"][0]["message"]["content"]) == (200, '{"ok": true}')


def test_a_callable_sees_the_request(provider_simulator: ProviderSimulator) -> None:
    """A callable gets number, prompt, model and body, whether the content is a text or a list of parts."""
    seen: list[Request] = []

    def choose(request: Request) -> Status:
        seen.append(request)
        return Status(500 + request.number)

    provider_simulator.client("Primary").set(choose)
    parts = [{"type": "text", "text": "Be brief."}, {"type": "text", "text": "Why?"}, "odd"]
    statuses = [
        post(
            provider_simulator,
            {"model": "m", "stream": True, "messages": [{"role": "user", "content": parts}]},
        )[0],
        post(provider_simulator, QUESTION)[0],
    ]

    assert statuses == [501, 502]
    assert [(request.prompt, request.stream) for request in seen] == [
        ("Be brief.\nWhy?", True),
        ("Why?", False),
    ]
    assert seen[1].body == QUESTION


async def test_a_callable_that_fails_is_reported(simulator: ProviderSimulator) -> None:
    """The request gets a 500 that says so, and the exception goes to the loop's exception handler."""
    reported: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context))
    simulator.client("Primary").script([lambda _: 1 / 0, lambda _: None])  # type: ignore[return-value,list-item]  # the point of the test

    answered = [await asyncio.to_thread(post, simulator) for _ in range(2)]

    assert [status for status, _ in answered] == [500, 500]
    assert "ZeroDivisionError" in answered[0][1]
    assert [type(context["exception"]) for context in reported] == [ZeroDivisionError, TypeError]


# --- time -------------------------------------------------------------------------------------------------------


def test_an_outage_comes_and_goes_by_the_clock() -> None:
    """Outages follow the clock that was passed."""
    clock = ManualClock()
    statuses = []
    with ProviderSimulator.in_thread(clock=clock) as simulator:
        simulator.client("Primary").outage(2, 7, Status(503))
        for _ in range(5):
            statuses.append(post(simulator)[0])
            clock.advance(2)

    assert statuses == [200, 503, 503, 503, 200]


def test_begin_restarts_time_log_and_counts() -> None:
    """`begin` restarts the time of outages for a fleet that needs a while to start."""
    clock = ManualClock()
    with ProviderSimulator.in_thread(clock=clock) as simulator:
        simulator.client("Primary").outage(0, 1, Status(503))
        clock.advance(5)
        post(simulator)
        simulator.begin()
        post(simulator)

        assert [(line.at, line.sent) for line in simulator.requests] == [(0.0, "503")]
        assert simulator.counts["Primary"] == {"503": 1}
        assert simulator.elapsed() == 0.0


def test_a_hang_ends_after_its_seconds(provider_simulator: ProviderSimulator) -> None:
    """A hang of limited length ends with a closed connection and without a byte."""
    provider_simulator.client("Primary").set(Hang(0.05))

    with pytest.raises(http.client.RemoteDisconnected):
        post(provider_simulator)


# --- threads, many callers, set-up ------------------------------------------------------------------------------


def test_a_thread_of_its_own_ends_with_it() -> None:
    """After the block nothing listens and the thread has ended, also with open connections."""
    with ProviderSimulator.in_thread() as simulator:
        simulator.client("Primary").set(Hang())
        caller = connect(simulator)
        caller.request("POST", "/primary/v1/chat/completions", json.dumps(QUESTION))
        until(lambda: simulator.in_flight == 1)

    with pytest.raises(OSError, match=r"."):
        caller.getresponse()
    caller.close()
    with pytest.raises(ConnectionRefusedError):
        post(simulator)
    assert "provider-simulator" not in {thread.name for thread in threading.enumerate()}


def test_a_taken_port_is_an_error() -> None:
    """A port in use raises an error, and no thread is left."""
    with ProviderSimulator.in_thread() as first:
        port = urlsplit(first.url("Primary")).port or 0
        with pytest.raises(OSError, match="in use"), ProviderSimulator.in_thread(port=port):
            pass

        assert [thread.name for thread in threading.enumerate()].count("provider-simulator") == 1


async def test_two_hundred_callers_at_once() -> None:
    """200 requests are kept waiting at the same moment; 200 others at once are all answered."""
    async with ProviderSimulator() as simulator:
        simulator.client("Primary").script([Hang()] * 200)
        port = urlsplit(simulator.url("Primary")).port

        async def caller() -> bytes:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(raw(b"{}", b"connection: close"))
            answer = await reader.read()
            writer.close()
            await writer.wait_closed()
            return answer

        kept_waiting = [asyncio.ensure_future(caller()) for _ in range(200)]
        while simulator.in_flight < len(kept_waiting):  # noqa: ASYNC110 - the simulator has counts to read, no events to wait for
            await asyncio.sleep(0.005)
        answers = await asyncio.gather(*(caller() for _ in range(200)))

        assert simulator.in_flight == 200

    assert all(answer.startswith(b"HTTP/1.1 200 OK") for answer in answers)
    dropped = await asyncio.gather(*kept_waiting, return_exceptions=True)
    assert all(end == b"" or isinstance(end, ConnectionError) for end in dropped)


def test_an_unknown_client_is_refused(provider_simulator: ProviderSimulator) -> None:
    """An unknown client is an error that lists the known ones."""
    with pytest.raises(ConfigurationError, match="no client 'Quartary'; it has Primary, Secondary, Tertiary"):
        provider_simulator.client("Quartary")
    with pytest.raises(ConfigurationError, match="none before it is started"):
        ProviderSimulator().client("Primary")


@pytest.mark.parametrize("clients", [[], ["a b"], [""], ["Same", "same"]])
def test_names_have_to_make_paths(clients: list[str]) -> None:
    """Names become URL prefixes and variables: at least one, of word characters, different in more than case."""
    with pytest.raises(ConfigurationError, match="clients="):
        ProviderSimulator(clients=clients)


def test_the_environment_points_at_every_client() -> None:
    """Each client gets a base URL, a made-up key, and a model."""
    with ProviderSimulator.in_thread(clients=["Main"]) as simulator:
        assert simulator.environment() == {
            "MAIN_BASE_URL": simulator.url("Main"),
            "MAIN_API_KEY": "sk-simulated-main",
            "MAIN_MODEL": "simulated-main",
        }
        assert urlsplit(simulator.url("Main")).path == "/main/v1"
