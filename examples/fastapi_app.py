"""A FastAPI application with guarded BAML calls.

    uvicorn fastapi_app:app
    gunicorn -c gunicorn.conf.py

One handler lives as long as the process that serves. It is opened in the lifespan, so after a fork, and closed by it, so SIGTERM loses no row.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

from baml_client.async_client import b
from baml_client.types import ParsedResearchGoal
from fastapi import FastAPI, Header, Request
from fastapi.responses import JSONResponse

import resilience
from resilience import AllClientsFailedError, CircuitOpenError, FallbackPolicy, RetryPolicy, protect


@asynccontextmanager
async def lifespan(application: FastAPI) -> AsyncIterator[None]:
    """Open the handler, which reads every circuit of the fleet before the first request."""
    handler = resilience.connect(
        retry=RetryPolicy(attempt_timeout=30.0, deadline=60.0),
        fallback=FallbackPolicy(clients=("Secondary", "Tertiary")),
    )
    async with handler:
        application.state.baml = protect(b, handler)
        yield


app = FastAPI(lifespan=lifespan)


@app.post("/goals")
async def parse_goal(
    request: Request, goal: str, x_request_id: Annotated[str | None, Header()] = None
) -> ParsedResearchGoal:
    """Parse a research goal. The caller's request id is on every row and log line of the call."""
    with resilience.request_id(x_request_id):
        return await request.app.state.baml.ParseResearchGoal(goal)


@app.exception_handler(CircuitOpenError)
@app.exception_handler(AllClientsFailedError)
async def no_client_answered(
    request: Request, error: CircuitOpenError | AllClientsFailedError
) -> JSONResponse:
    """Tell the caller when to ask again. The text names clients and categories, no content."""
    seconds = max(1, round(error.retry_after or 1))
    return JSONResponse({"detail": str(error)}, status_code=503, headers={"Retry-After": str(seconds)})


@app.get("/livez")
async def alive() -> dict[str, str]:
    """Answer the liveness probe. It asks no provider and no store: restarting this process would mend neither."""
    return {"status": "ok"}


@app.get("/readyz")
async def ready(request: Request) -> dict[str, bool]:
    """Answer the readiness probe. A process whose store is away goes on with circuits of its own, so it stays ready."""
    return {"degraded": request.app.state.baml.resilience_handler.degraded}
