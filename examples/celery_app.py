"""Celery tasks with guarded BAML calls, for the prefork pool.

    celery -A celery_app worker --concurrency 4

Celery forks its workers after it has imported this module. BAML cannot make blocking calls in a child of a process that had imported
its client, so the client is imported in the child. `resilience doctor` finds modules that import it too early.
"""

from __future__ import annotations

import os
from functools import cache
from typing import Any

from celery import Celery
from celery.exceptions import SoftTimeLimitExceeded

from resilience import (
    AllClientsFailedError,
    BAMLErrorHandler,
    CircuitOpenError,
    FallbackPolicy,
    RetryPolicy,
    protect,
)

BROKER = os.environ.get("CELERY_BROKER_URL", "redis://localhost:6379/1")

RESULTS = os.environ.get("CELERY_RESULT_BACKEND", BROKER)

app = Celery("celery_app", broker=BROKER, backend=RESULTS)
app.conf.update(
    task_acks_late=True,  # a task whose worker is killed is delivered again
    worker_prefetch_multiplier=1,  # a call takes seconds: other workers take what waits
    broker_connection_retry_on_startup=True,
)


@cache
def guarded() -> Any:
    """Return the guarded client of this worker. Nothing has to be closed: rows are written when the worker ends."""
    from baml_client.sync_client import b  # noqa: PLC0415 - at the first task, so after the fork

    handler = BAMLErrorHandler(
        retry=RetryPolicy(attempt_timeout=30.0, deadline=100.0),
        fallback=FallbackPolicy(clients=("Secondary", "Tertiary")),
    )
    return protect(b, handler)


@app.task(bind=True, soft_time_limit=120, time_limit=150, max_retries=5)
def parse_goal(self: Any, goal: str) -> dict[str, Any]:
    """Parse a research goal. If no client may be asked, the task comes again when one may."""
    try:
        return guarded().ParseResearchGoal(goal).model_dump(mode="json")
    except (CircuitOpenError, AllClientsFailedError) as error:
        raise self.retry(exc=error, countdown=max(1.0, error.retry_after or 1.0)) from error
    except SoftTimeLimitExceeded:
        # Ends the wait for a client at once. It is no failure of the client and opens no circuit.
        return {"stopped": goal}
