"""Canaries in everything that is sent to and by a provider, and a search for them in every place that stores something."""

from __future__ import annotations

import base64
import gzip
import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import pytest

from resilience.testing import (
    Answer,
    Behaviour,
    ErrorInBody,
    Finish,
    Hang,
    Malformed,
    ProviderSimulator,
    Reset,
    Status,
    Truncate,
)

pytestmark = pytest.mark.baml

CHILD = Path(__file__).parents[1] / "support" / "leaks.py"

SECRETS = {
    "secret_key": "sk-canaryQ7w8e9R0t1Y2u3I4o5P6",
    "secret_named": "password=canaryPass8842",
    "secret_plain": "canaryplainkey31415926",
    "secret_url": "postgres://canaryuser:canarypw@db.example.com/x",
    "secret_jwt": "eyJhbGciOiJIUzI1NiJ9.eyJjYW5hcnkiOiIxIn0.canarySignature_x9",
}
PERSONAL = {
    "person_mail": "canary.jane@mail.example.org",
    "person_card": "4111 1111 1111 1111",
    "person_iban": "DE89370400440532013000",
    "person_ssn": "536-90-4399",
    "person_phone": "+49 30 90182554",
}
CONTENT = {
    "prompt": "the violet armadillo canary sings at dawn over Lisbon",
    "prompt_json": "the turquoise pelican canary was not found in the attic",
    "prompt_code": "crimson_walrus_canary",
    "output": "the orange hedgehog canary answers from the cellar",
}
NOWHERE = {
    "tag": "tagged-canary-heron",
    "argument": "argued-canary-lemur",
    "header": "canary-header-ibis",
    "body": "canary-body-marmot",
}
CANARIES = {**SECRETS, **PERSONAL, **CONTENT, **NOWHERE}
SECRET_PARTS = {  # the part of a canary that must not be found, where the rest of it is harmless
    "secret_named": "canaryPass8842",
    "secret_url": "canarypw",
    "secret_jwt": "canarySignature",
}
KEY = SECRETS["secret_plain"]


def leaky_message() -> str:
    """Return a provider's message that repeats everything it should not."""
    return (
        f"You sent '{CONTENT['prompt']}' with {SECRETS['secret_key']} and {KEY} for {PERSONAL['person_mail']}"
    )


HEADERS = {"x-debug": NOWHERE["header"], "x-request-id": f"req-{SECRETS['secret_key']}"}
ECHO = {
    "error": {
        "message": leaky_message(),
        "code": SECRETS["secret_key"],
        "failed_generation": CONTENT["output"],
    },
    "request": {"input": CONTENT["prompt"], "note": NOWHERE["body"]},
}
SPELLINGS = {
    "verbatim": CONTENT["prompt"],
    "upper": CONTENT["prompt"].upper(),
    "joined": CONTENT["prompt"].replace(" ", "_"),
    "camel": CONTENT["prompt"].title().replace(" ", ""),
    "listed": repr(CONTENT["prompt"].split()),
    "cut": f"{CONTENT['prompt'][4:24]}...",
    "url": quote(CONTENT["prompt"]),
    "html": "".join(f"&#{ord(char)};" for char in CONTENT["prompt"]),
    "json": "".join(f"\\u{ord(char):04x}" for char in CONTENT["prompt"]),
    "base64": base64.b64encode(CONTENT["prompt"].encode()).decode(),
    "hexadecimal": CONTENT["prompt"].encode().hex(),
}
TRACES = (
    b"violet",
    b"armadillo",
    b"lisbon",
    b"YXJtYWRpbGxv",
    b"FybWFkaWxsb",
    b"hcm1hZGlsbG",
    b"61726d6164696c6c6f",
    b"%20arma",
)
"""Parts of the prompt in every one of these spellings. Base64 has three, by the position of the word."""


def planted(spelled: str) -> Behaviour:
    """Return a refusal that has the prompt in every field and header that a provider controls."""
    fields = (
        "code",
        "type",
        "param",
        "status",
        "reason",
        "title",
        "request_id",
        "kind",
        "errorType",
        "requestId",
    )
    headers = (
        "x-request-id",
        "request-id",
        "x-amzn-requestid",
        "apim-request-id",
        "cf-ray",
        "x-amzn-errortype",
    )
    hints = (
        "retry-after",
        "retry-after-ms",
        "x-should-retry",
        "x-ratelimit-reset-requests",
        "server",
        "x-ms-error-code",
    )
    body = {
        "error": {"message": f"Invalid value {spelled} in request", **dict.fromkeys(fields, spelled)},
        **dict.fromkeys(fields, spelled),
    }
    return Status(400, body=body, headers=dict.fromkeys((*headers, *hints), spelled))


SCRIPT: list[Behaviour] = [
    Answer(
        json.dumps({"unexpected": f"{CONTENT['output']}\n{SECRETS['secret_key']} {PERSONAL['person_mail']}"})
    ),
    Answer(f"{CONTENT['output']}: no JSON at all"),
    Status(400, body=ECHO, headers=HEADERS),
    Status(401, body={"error": {"message": f"Incorrect API key provided: {KEY}."}}, headers=HEADERS),
    Status(403, body=f"{KEY} may not: {leaky_message()}"),
    Status(429, body=ECHO, retry_after=0),
    Status(502, body=f"<html><title>{leaky_message()}</title>{NOWHERE['body']}</html>"),
    Status(503, body=""),
    Status(
        422, body={"detail": [{"msg": "Input should be a list", "input": CONTENT["prompt"], "loc": ["body"]}]}
    ),
    Malformed(leaky_message()),
    ErrorInBody({"message": leaky_message(), "code": 502}),
    Finish("length", CONTENT["output"]),
    Finish("content_filter", CONTENT["output"]),
    *map(planted, SPELLINGS.values()),
    Reset(),
    Truncate(),
]


@dataclass(frozen=True)
class Run:
    """The files and streams that a process left behind."""

    folder: Path
    stdout: bytes
    stderr: bytes

    def sinks(self) -> dict[str, bytes]:
        """Return the content of every file and stream, by name."""
        files = {
            str(path.relative_to(self.folder)): path for path in self.folder.rglob("*") if path.is_file()
        }
        found = {name: _bytes(path) for name, path in files.items()}
        return {"stdout": self.stdout, "stderr": self.stderr, **found}

    def rows(self, query: str) -> list[tuple[object, ...]]:
        """Return the rows of a query to the history."""
        with closing(sqlite3.connect(self.folder / ".resilience" / "resilience.db")) as connection:
            return connection.execute(query).fetchall()

    def places(self, names: Iterable[str]) -> set[str]:
        """Return the names of the files and streams that contain any of these canaries."""
        found = self.found()
        return {place for name in names for place in found.get(name, ())}

    def found(self) -> dict[str, set[str]]:
        """Return the names of the files and streams that contain each canary, for canaries that were found."""
        sinks = self.sinks()
        places = {
            name: {
                sink for sink, content in sinks.items() if SECRET_PARTS.get(name, canary).encode() in content
            }
            for name, canary in CANARIES.items()
        }
        return {name: where for name, where in places.items() if where}


def _bytes(path: Path) -> bytes:
    return gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()


def run(simulator: ProviderSimulator, folder: Path, privacy: str, client: Path) -> Run:
    """Run one process at a privacy level, from the first failure to its abrupt end."""
    (folder / "pyproject.toml").touch()
    simulator.client("Primary").heal()
    simulator.client("Primary").script(SCRIPT)
    simulator.client("Primary").set(Hang())
    environment = {
        **{name: value for name, value in os.environ.items() if name != "BAML_LOG"},
        **simulator.environment(),
        "PRIMARY_API_KEY": KEY,
        "SECONDARY_API_KEY": KEY,
        "SECONDARY_BASE_URL": simulator.refused_url(),
        "PYTHONPATH": os.pathsep.join([str(client), *sys.path]),
        "RESILIENCE_PRIVACY": privacy,
        "RESILIENCE_LOG_DIR": str(folder / "logs"),
        "CANARIES": json.dumps(CANARIES),
        "CALLS": str(len(SCRIPT)),
    }
    done = subprocess.run(
        [sys.executable, str(CHILD)],
        env=environment,
        cwd=folder,
        capture_output=True,
        timeout=250,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()[-3000:]
    return Run(folder, done.stdout, done.stderr)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, baml_client_path: Path) -> dict[str, Run]:
    """Run one process for each privacy level, two at a time, before anything opens the files they leave."""

    def at(level: str) -> Run:
        with ProviderSimulator.in_thread() as simulator:
            return run(simulator, folders[level], level, baml_client_path)

    folders = {
        level: tmp_path_factory.mktemp(level) for level in ("off", "metadata", "hashed", "masked", "full")
    }
    with ThreadPoolExecutor(2) as pool:
        return dict(zip(folders, pool.map(at, folders), strict=True))


def test_off_puts_no_text_on_spans(runs: dict[str, Run]) -> None:
    """At `off` spans have categories and numbers, and no message, class name or request id; at `metadata` they have them."""
    names = (b"exception.message", b"exception.type", b"request_id")

    assert [True] * 3 == [name in runs["metadata"].sinks()["spans.json"] for name in names]
    assert [False] * 3 == [name in runs["off"].sinks()["spans.json"] for name in names]


HISTORY = {".resilience/resilience.db", ".resilience/resilience.db-wal"}


@pytest.mark.parametrize("level", ["off", "metadata", "hashed"])
def test_no_spelling_of_the_prompt_is_anywhere(runs: dict[str, Run], level: str) -> None:
    """Planted in every field and header of a response, in every spelling, and in class names: no sink has a word of the prompt."""
    sinks = runs[level].sinks()

    assert {} == {
        name: found
        for name, content in sinks.items()
        if (found := [part for part in TRACES if part in _lowered(content)])
    }


def _lowered(content: bytes) -> bytes:
    """Return the content as it is and in lower case: base64 is case-sensitive, words are not."""
    return content + content.lower()


@pytest.mark.parametrize("level", ["off", "metadata", "hashed"])
def test_nothing_of_what_was_said_is_anywhere(runs: dict[str, Run], level: str) -> None:
    """Prompt, answer, key, header, error body, exception chain, tag: no file and no stream has any of them."""
    assert {} == runs[level].found()


def test_masked_keeps_content_in_the_history_alone_and_no_secret(runs: dict[str, Run]) -> None:
    """At `masked` prompt and answer are in SQL and nowhere else; keys and personal numbers within them are masked."""
    found = runs["masked"].found()

    assert set(CONTENT) == set(found)
    assert runs["masked"].places(CONTENT) <= HISTORY


def test_full_keeps_everything_but_secrets(runs: dict[str, Run]) -> None:
    """At `full` the content has personal numbers, in SQL and nowhere else, but no keys, passwords and tokens."""
    found = runs["full"].found()

    assert {*CONTENT, *PERSONAL} == set(found)
    assert runs["full"].places([*CONTENT, *PERSONAL]) <= HISTORY


def test_the_search_looks_where_things_are_kept(runs: dict[str, Run]) -> None:
    """The search covers three logs and the history with its -wal, with all failures in both; `off` has neither."""
    names = set(runs["metadata"].sinks())
    left = {name.rpartition("/")[2] for name in runs["off"].sinks()}

    assert {
        "stdout",
        "stderr",
        "logs/errors.jsonl",
        "logs/operations.jsonl",
        "logs/performance.jsonl",
    } < names
    assert names > HISTORY
    assert b"resilience_errors_total" in runs["metadata"].sinks()["metrics.txt"]
    assert runs["metadata"].sinks()["logs/errors.jsonl"].count(b"attempt.failed") >= len(SCRIPT)
    assert runs["metadata"].sinks()["spans.json"].count(b'"name": "chat simulated-primary"') >= len(SCRIPT)
    assert b"AllClientsFailedError" not in runs["metadata"].stdout
    assert b"no client answered" in runs["metadata"].stderr
    assert not {name for name in left if name.startswith(("resilience.db", "hash")) or name.endswith("jsonl")}


def test_baml_itself_prints_nothing(runs: dict[str, Run]) -> None:
    """BAML prints whole prompts to stdout by default. Without BAML_LOG in the environment our process prints none."""
    assert [b""] * 5 == [each.stdout for each in runs.values()]


def test_hashes_match_repeats(runs: dict[str, Run]) -> None:
    """At `hashed` no content is stored; equal prompts have equal hashes in every failed attempt, and so have answers."""
    rows = runs["hashed"].rows("SELECT prompt, raw_output, prompt_hash, output_hash, privacy FROM payloads")
    errors = runs["hashed"].rows(
        "SELECT COUNT(*) FROM errors e JOIN payloads p USING (event_id, request_id, occurred_at)"
    )

    assert len(rows) >= len(SCRIPT)
    assert [(len(rows),)] == errors
    assert {(None, None, "hashed")} == {(row[0], row[1], row[4]) for row in rows}
    assert 1 == len({row[2] for row in rows})
    assert 32 == len(str(rows[0][2]))
    assert {None} < {row[3] for row in rows}


def test_hashes_of_different_projects_do_not_match(runs: dict[str, Run]) -> None:
    """Each project has its own key, readable by its owner alone: hashes cannot be compared between histories."""
    keys = [runs[level].folder / ".resilience" / "hash.key" for level in ("hashed", "masked")]
    hashes = [runs[level].rows("SELECT DISTINCT prompt_hash FROM payloads") for level in ("hashed", "masked")]

    assert [0o600, 0o600] == [key.stat().st_mode & 0o777 for key in keys]
    assert hashes[0] != hashes[1]


def test_content_is_kept_as_it_was_asked(runs: dict[str, Run]) -> None:
    """At `full` the prompt is the messages of the request and nothing else; an answer that did not parse is complete."""
    prompts = {row[0] for row in runs["full"].rows("SELECT prompt FROM payloads")}
    answers = {row[0] for row in runs["full"].rows("SELECT raw_output FROM payloads")}
    asked = json.loads(str(prompts.pop()))

    assert set() == prompts
    assert ["messages"] == list(asked)
    assert CONTENT["prompt"] in asked["messages"][-1]["content"]
    assert f"{CONTENT['output']}: no JSON at all" in answers
