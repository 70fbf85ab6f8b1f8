"""SQLAlchemy and the drivers are imported by the thread that makes a handler, and a program may fork at that moment."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

from support.valkey_servers import Valkey

from resilience.history.schema import migrations

FORK = """
import os, signal, sys, threading

begun, forking = threading.Event(), threading.Event()

class Stop:
    def find_spec(self, name, path=None, target=None):
        if name == "sqlalchemy.engine" and not begun.is_set():
            begun.set()
            forking.wait(60)

sys.meta_path.insert(0, Stop())
import resilience

maker = threading.Thread(target=resilience.BAMLErrorHandler)
maker.start()
assert begun.wait(60)
# Hooks run in reverse order: this one runs before those of the package, in the middle of the import.
os.register_at_fork(before=forking.set)
child = os.fork()
if not child:
    signal.alarm(60)  # a child that hangs is killed, and its parent sees it
with resilience.BAMLErrorHandler().sync as sync:
    sync.call_with_retry(lambda: "answer", "A", "Parent" if child else "Child")
if child:
    maker.join()
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""

CALL = """
import json, sys
from resilience import BAMLErrorHandler

handler = BAMLErrorHandler()
made = set(sys.modules)
assert handler.sync.call_with_retry(lambda: "answer", "A", "F") == "answer"
try:
    handler.sync.call_with_retry(lambda: 1 / 0, "A", "F")
except ZeroDivisionError:
    pass
handler.close()
print(json.dumps([sorted(made), sorted(set(sys.modules) - made)]))
"""


def test_a_fork_waits_for_the_import_on_another_thread(tmp_path: Path) -> None:
    """A child that is forked while a thread imports SQLAlchemy can import it too: it records its calls, and so does its parent."""
    program = [sys.executable, "-W", "ignore", "-c", FORK]
    done = subprocess.run(program, cwd=tmp_path, capture_output=True, text=True, check=False)

    assert (0, "") == (done.returncode, done.stderr)
    with closing(sqlite3.connect(tmp_path / ".resilience" / "resilience.db")) as connection:
        counts = connection.execute("SELECT function, count(*) FROM calls GROUP BY 1 ORDER BY 1").fetchall()
    assert [("Child", 1), ("Parent", 1)] == counts


def imported(tmp_path: Path, **environment: str) -> tuple[set[str], set[str]]:
    """Return the drivers that a process has imported when its handler is made, and the modules of drivers that it imports later."""
    program = [sys.executable, "-c", CALL]
    done = subprocess.run(
        program, cwd=tmp_path, env={**os.environ, **environment}, capture_output=True, text=True, check=True
    )
    made, later = json.loads(done.stdout)
    drivers = {"sqlalchemy", "psycopg", "redis", "sqlite3", "aiosqlite", "tenacity"}
    return drivers.intersection(made), {name for name in later if name.partition(".")[0] in drivers}


def test_no_background_thread_imports_sqlalchemy(tmp_path: Path) -> None:
    """After a handler was made no part of SQLAlchemy is imported: the application may import another part at the same moment."""
    assert ({"sqlalchemy", "sqlite3", "tenacity"}, set()) == imported(tmp_path)


def test_no_background_thread_imports_a_driver(tmp_path: Path, postgres_url: str) -> None:
    """The same with circuits in Redis and a history in PostgreSQL."""
    migrations.upgrade(postgres_url)
    with Valkey() as valkey:
        made, later = imported(
            tmp_path, RESILIENCE_DATABASE_URL=postgres_url, RESILIENCE_STORE_URL=valkey.url
        )

    assert {"sqlalchemy", "psycopg", "redis"} <= made
    assert set() == later
