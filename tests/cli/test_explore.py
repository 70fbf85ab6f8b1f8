"""`resilience explore`: Datasette on the history, on loopback, read-only."""

from __future__ import annotations

import importlib
import json
import os
import re
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, closing, suppress
from datetime import UTC, datetime
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest
from support.history_records import eventually
from support.history_table_rows import HOUR, keep
from typer.testing import CliRunner

from resilience.cli import app, explore_server
from resilience.history import SyncHistory
from resilience.history.schema import migrations
from resilience.history.schema.views import VIEWS

explore = importlib.import_module("resilience.cli.explore")  # the package has the command by that name
START = [sys.executable, "-c", "from resilience.cli import app; app()", "explore", "--port", "0"]


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> str:
    url = f"sqlite:///{tmp_path_factory.mktemp('explore')}/my history.db"
    migrations.upgrade(url)
    keep(url, "errors", {"occurred_at": HOUR})
    return url


class Server:
    """A running `resilience explore`."""

    def __init__(self, url: str, output: Path) -> None:
        self.output = output
        with output.open("w") as file:
            self.process = subprocess.Popen(
                START, env=os.environ | {"RESILIENCE_DATABASE_URL": url}, stdout=file, stderr=file
            )
        assert eventually(lambda: self._listens() or self.process.poll() is not None, within=60), (
            output.read_text()
        )

    @property
    def address(self) -> str:
        match = re.search(r"(http://[^/]+)/", self.output.read_text())
        return match[1] if match else ""

    def _listens(self) -> bool:
        port = int(self.address.rpartition(":")[2] or 1)
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=60):
            return True
        return False

    def get(self, path: str) -> Any:
        headers = {"Authorization": f"Bearer {self.token}"}
        request = urllib.request.Request(f"{self.address}/{path}", headers=headers)  # noqa: S310 - our own server
        with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310 - as above
            return json.load(answer)

    @property
    def token(self) -> str:
        match = re.search(r"[?]_token=(\S+)", self.output.read_text())
        return match[1] if match else ""

    def ask(self, path: str, **headers: str) -> tuple[int, Any, str]:
        """Return the status, the headers and the body of an answer. No redirection is followed."""
        with closing(
            HTTPConnection("127.0.0.1", int(self.address.rpartition(":")[2]), timeout=60)
        ) as connection:
            connection.request("GET", path, headers=headers)
            answer = connection.getresponse()
            return answer.status, answer.headers, answer.read().decode()


@pytest.fixture(scope="module")
def server(url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(url, tmp_path_factory.mktemp("server") / "output")
    yield server
    server.process.send_signal(signal.SIGTERM)
    assert server.process.wait(240) == 0


DATABASE = "my~20history"


def test_it_listens_on_loopback_alone(server: Server) -> None:
    """The server is not reachable from the network."""
    assert server.address.startswith("http://127.0.0.1:")


def test_only_the_token_opens_it(server: Server) -> None:
    """Without the printed token nothing is answered, whatever the path; the token becomes a cookie that scripts of pages cannot read."""
    status, headers, _ = server.ask(f"/{DATABASE}?x=1&_token={server.token}")
    cookie = headers["set-cookie"].partition(";")[0]

    assert (200, f"0; url=/{DATABASE}?x=1") == (status, headers["refresh"])
    assert "HttpOnly; SameSite=Strict" in headers["set-cookie"]
    assert 200 == server.ask(f"/{DATABASE}.json", Cookie=cookie)[0]
    assert [403] * 3 == [server.ask(path)[0] for path in ("/", f"/{DATABASE}.json", "/-/metadata.json")]
    assert 403 == server.ask("/?_token=wrong", Cookie="resilience_explore=wrong")[0]


def test_the_printed_address_has_the_questions(server: Server) -> None:
    """It is the only line on the terminal, and opens the page with the canned queries, without a red bar."""
    path = f"/{DATABASE}?_token={server.token}"
    page = server.ask(f"/{DATABASE}", Authorization=f"Bearer {server.token}")[2]

    assert [f"{server.address}{path}"] == server.output.read_text().splitlines()
    assert "Which errors are most frequent" in page
    assert "%232b6cb0" in page


def test_the_page_of_a_view_draws_charts(server: Server) -> None:
    """Its rows can be drawn: the script that does it comes from this server, and its data is that of the page."""
    bearer = f"Bearer {server.token}"
    page = server.ask(f"/{DATABASE}/v_error_rate_hourly", Authorization=bearer)[2]
    script = re.search(r'src="(/-/static-plugins/datasette_vega/[^"]+[.]js)"', page)

    assert script is not None
    assert 200 == server.ask(script[1], Authorization=bearer)[0]
    assert 403 == server.ask(script[1])[0]
    assert 200 == server.ask(f"/{DATABASE}/v_error_rate_hourly.json?_shape=array", Authorization=bearer)[0]


def test_a_page_of_another_name_reads_nothing(server: Server) -> None:
    """A name that leads to 127.0.0.1 is refused, even with the token."""
    bearer = f"Bearer {server.token}"

    assert 421 == server.ask("/", Host="evil.example", Authorization=bearer)[0]
    assert 421 == server.ask(f"/?_token={server.token}", Host="127.0.0.1.evil.example:80")[0]


async def test_the_metadata_asks_for_the_guard(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A Datasette with our metadata checks the Host wherever it runs; one without it is not ours to guard."""
    monkeypatch.delenv("RESILIENCE_EXPLORE_TOKEN", raising=False)
    evil, found = {"host": "evil.example"}, []
    plain: dict[str, Any] = {}
    for metadata in (explore.datasette_metadata("x"), plain):
        server = importlib.import_module("datasette.app").Datasette(
            [url.removeprefix("sqlite:///")], metadata=metadata
        )
        await server.invoke_startup()
        found += [(await server.client.get("/", headers=headers)).status_code for headers in (evil, {})]

    assert [421, 200, 200, 200] == found


async def test_bytes_in_a_column_of_texts_are_shown(tmp_path: Path) -> None:
    """Each page of a table, a view and a question shows a row that another program damaged, with its bytes as text; so does its CSV."""
    file = tmp_path / "h.db"
    migrations.upgrade(f"sqlite:///{file}")
    now = datetime.now(UTC)
    keep(f"sqlite:///{file}", "errors", {"occurred_at": now})
    keep(f"sqlite:///{file}", "calls", {"started_at": now})
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute("UPDATE errors SET client = ?1, message = ?1, fingerprint = ?1", (b"\xff<b>",))
        connection.execute("UPDATE calls SET client = ?1, client_final = ?1, tenant = ?1", (b"\xff<b>",))
    datasette = importlib.import_module("datasette.app").Datasette(
        [str(file)], metadata=explore.datasette_metadata("h")
    )
    await datasette.invoke_startup()
    names = ["errors", "calls", *(view.name for view in VIEWS)]
    paths = [*names, *(f"{view.name.removeprefix('v_')}?request_id=request-1" for view in VIEWS)]
    pages = [await datasette.client.get(f"/h/{path}") for path in paths]

    assert [200] * len(paths) == [page.status_code for page in pages]
    assert all(r"\xff&lt;b&gt;" in page.text for page in pages[:2])
    assert r"\xff&lt;b&gt;" in pages[paths.index("v_request_timeline")].text
    assert r"\xff<b>" in (await datasette.client.get("/h/v_request_timeline.csv")).text


def test_prompts_are_not_listed_unless_asked_for(server: Server) -> None:
    """The table of prompts and answers has no page."""
    bearer = f"Bearer {server.token}"

    assert 403 == server.ask(f"/{DATABASE}/payloads.json", Authorization=bearer)[0]
    assert {} == explore.datasette_metadata("x", payloads=True)["databases"]["x"]["tables"].get(
        "payloads", {}
    )


@pytest.mark.parametrize("view", VIEWS, ids=lambda view: view.name)
def test_every_view_is_shown_with_its_question(server: Server, view: Any) -> None:
    """Each view has its columns and a canned query that runs."""
    table = server.get(f"{DATABASE}/{view.name}.json")
    canned = server.get(f"{DATABASE}/{view.name.removeprefix('v_')}.json?_shape=array&request_id=request-1")

    assert table["columns"] == list(view.columns)
    assert isinstance(canned, list)
    if view.name in {"v_top_errors_24h", "v_request_timeline"}:
        assert len(canned) == 1


@pytest.mark.parametrize("text", ["DELETE FROM errors", "PRAGMA user_version=7", "ATTACH 'x' AS y"])
def test_nothing_can_be_changed(server: Server, url: str, text: str) -> None:
    """Datasette refuses to write, also through its SQL box."""
    with pytest.raises(urllib.error.HTTPError) as caught:
        server.get(f"{DATABASE}.json?sql={urllib.parse.quote(text)}")
    caught.value.close()

    assert caught.value.code in {400, 403}
    assert SyncHistory(url).sql("SELECT COUNT(*) FROM errors WHERE client = 'A'").rows == ((1,),)


def test_the_agents_go_on_writing(server: Server, url: str) -> None:
    """Datasette sees rows that agents write while it runs, and its connection blocks no writer."""
    keep(url, "errors", {"client": "New", "occurred_at": HOUR})

    rows = server.get(f"{DATABASE}/errors.json?_shape=array&client=New")
    assert [row["client"] for row in rows] == ["New"]
    assert SyncHistory(url).sql("SELECT client FROM errors WHERE client = 'New'").rows == (("New",),)


def test_it_is_started_read_only_with_a_limit() -> None:
    """A query may take one second; the file cannot be downloaded; the server is the one with limits, on loopback."""
    command = explore.command(Path("/x/history.db"), Path("/x/metadata.json"), 8001)

    assert ["-m", "resilience.cli.explore_server", "/x/history.db", "/x/metadata.json"] == command[1:5]
    assert ["127.0.0.1", "8001"] == command[5:]
    assert (1000, False) == (
        explore_server.SETTINGS["sql_time_limit_ms"],
        explore_server.SETTINGS["allow_download"],
    )


@pytest.fixture
def limited(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """Serve an application that answers all requests, with a short time limit; yield its port."""
    monkeypatch.setattr(explore_server, "_TIMEOUT", 0.3)
    monkeypatch.setattr(explore_server, "_MAX_CONNECTIONS", 4)

    async def answer(_scope: Any, receive: Any, send: Any) -> None:
        while (await receive()).get("more_body"):
            continue
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"ok"})

    uvicorn = importlib.import_module("uvicorn")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        config = uvicorn.Config(answer, http=explore_server.LimitedProtocol, ws="none", log_level="error")
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        yield listener.getsockname()[1]
        server.should_exit = True
        thread.join()


HALF_SENT = {
    "nothing": b"",
    "head": b"GET / HT",
    "header": b"GET / HTTP/1.1\r\nHost: localhost\r\nX-",
    "body": b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\nx",
    "second request": b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\nGET / HT",
}


def test_half_sent_requests_are_ended(limited: int) -> None:
    """A connection whose request is never whole ends, as do those beyond the number; a whole request is answered."""
    ends = {}
    for name, sent in HALF_SENT.items():
        with socket.create_connection(("127.0.0.1", limited), timeout=60) as slow:
            slow.sendall(sent)
            received = b""
            with suppress(ConnectionResetError):
                while part := slow.recv(1000):
                    received += part
            ends[name] = received.endswith(b"ok")
    with ExitStack() as stack:
        many = [
            stack.enter_context(socket.create_connection(("127.0.0.1", limited), timeout=60))
            for _ in range(20)
        ]
        for each in many:
            with suppress(ConnectionResetError):
                assert b"" == each.recv(1)

    with closing(HTTPConnection("127.0.0.1", limited, timeout=60)) as whole:
        whole.request("GET", "/")
        assert b"ok" == whole.getresponse().read()
    assert {name: name == "second request" for name in HALF_SENT} == ends


def test_without_datasette_the_extra_is_named(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The exit code is 2, and the message has the command that installs it."""
    monkeypatch.setenv("RESILIENCE_DATABASE_URL", url)
    monkeypatch.setattr(explore, "find_spec", lambda _: None)
    done = CliRunner().invoke(app, ["explore"])

    assert done.exit_code == 2
    assert "pip install 'baml-resilience[explore]'" in done.stderr


def test_on_postgresql_the_alternatives_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Datasette reads only SQLite. The message names other tools, and no password."""
    monkeypatch.setenv("RESILIENCE_DATABASE_URL", "postgresql+psycopg://me:secret@host/history")
    done = CliRunner().invoke(app, ["explore"])

    assert done.exit_code == 2
    assert "resilience sql" in done.stderr
    assert "secret" not in done.stderr


def test_the_exit_code_is_datasettes(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """If Datasette cannot start, the command exits with the same code."""
    monkeypatch.setenv("RESILIENCE_DATABASE_URL", url)
    monkeypatch.setattr(explore, "command", lambda *_: [sys.executable, "-c", "raise SystemExit(3)"])

    assert CliRunner().invoke(app, ["explore", "--open"]).exit_code == 3
