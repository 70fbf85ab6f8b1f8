"""Check for workers that are forked from a process which has imported or called BAML.

BAML's runtime has threads, and a fork copies none of them: a call in the child would wait for ever (BoundaryML/baml#2776), and a
blocking call would crash its parent as well. Workers are safe if they are spawned, or if they import BAML only after the fork.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from resilience.config.project import project_directory
from resilience.config.settings import Settings
from resilience.doctor.finding import Finding, ok, warn
from resilience.doctor.imports import ProjectSources

_FORK: Final = "fork"
_REMEDY: Final = (
    "start workers with the spawn or forkserver method, or import and call BAML only in the workers"
)
_CELERY_REMEDY: Final = "import baml_client inside the task or in a handler of worker_process_init, or run the worker with --pool=threads"
_OTHER_POOLS: Final = ("solo", "threads", "gevent", "eventlet")


def examine(settings: Settings) -> Iterator[Finding]:  # noqa: ARG001 - the signature of a check
    """Warn of processes that are forked after BAML was used.

    Args:
        settings: not used.
    """
    directory = Path.cwd()
    hazards = [(text, _REMEDY) for text in _servers(directory, dict(os.environ))]
    hazards += [(text, _CELERY_REMEDY) for text in _celery(project_directory(directory))]
    for message, remedy in hazards:
        yield warn("forks", message, remedy)
    if not hazards:
        yield ok("forks", "nothing here forks by default")


def _servers(directory: Path, environ: dict[str, str]) -> Iterator[str]:
    """Yield each sign that workers will be forked from a process that has imported the application.

    Args:
        directory: a folder of the project.
        environ: the environment of the agents.
    """
    # The first start method is the default. Asking for it with get_start_method() would fix it for this process.
    if multiprocessing.get_all_start_methods()[0] == _FORK:
        yield "multiprocessing forks by default on this Python"
    if "--preload" in environ.get("GUNICORN_CMD_ARGS", ""):
        yield "GUNICORN_CMD_ARGS has --preload"
    config = project_directory(directory) / "gunicorn.conf.py"
    # Read, not run: the file is the user's program. Spaces are removed, since both `a = True` and `a=True` are common.
    if config.is_file() and "preload_app=True" in config.read_text("utf-8", "replace").replace(" ", ""):
        yield f"{config} sets preload_app"


def _celery(directory: Path) -> Iterator[str]:
    """Yield the modules with Celery tasks that import a blocking BAML client as they load, themselves or through others.

    Celery's default pool imports them in its parent process and forks the workers afterwards. A client of async calls may be
    imported there, since such calls work in a child whose parent has only imported it.
    """
    project = ProjectSources(directory)
    if any(f"worker_pool={quote}{pool}" in project.settings for pool in _OTHER_POOLS for quote in "\"'"):
        return
    for path in project.importing("celery"):
        importer = project.importer_of_client(path)
        if importer is not None:
            through = "" if importer == path else f" through {importer.relative_to(directory)}"
            yield f"{path.relative_to(directory)} imports Celery, and baml_client as it loads{through}: its prefork workers cannot call"
