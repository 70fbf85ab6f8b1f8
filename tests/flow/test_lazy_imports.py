"""SQLAlchemy is imported by the thread that writes, and a program may fork at that moment."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

FORK = """
import os, signal, sys, threading

begun, forking = threading.Event(), threading.Event()

class Stop:
    def find_spec(self, name, path=None, target=None):
        if name == "sqlalchemy.engine" and not begun.is_set():
            begun.set()
            forking.wait()

sys.meta_path.insert(0, Stop())
import resilience

handler = resilience.BAMLErrorHandler()
call = handler.sync.call_with_retry
call(lambda: "answer", "A", "Parent")
begun.wait()
# Hooks run in reverse order: this one runs before those of the package, in the middle of the import.
os.register_at_fork(before=forking.set)
child = os.fork()
if not child:
    signal.alarm(60)  # a child that hangs is killed, and its parent sees it
call(lambda: "answer", "A", "Parent" if child else "Child")
handler.close()
if child:
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def test_a_fork_waits_for_the_import_of_the_writer(tmp_path: Path) -> None:
    """A child that is forked while SQLAlchemy is imported can import it too: it records its calls, and so does its parent."""
    program = [sys.executable, "-W", "ignore", "-c", FORK]
    done = subprocess.run(program, cwd=tmp_path, capture_output=True, text=True, check=False)

    assert (0, "") == (done.returncode, done.stderr)
    with closing(sqlite3.connect(tmp_path / ".resilience" / "resilience.db")) as connection:
        counts = connection.execute("SELECT function, count(*) FROM calls GROUP BY 1 ORDER BY 1").fetchall()
    assert [("Child", 1), ("Parent", 2)] == counts
