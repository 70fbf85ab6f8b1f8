"""Exceptions that steer a program: frameworks raise them to pause, stop, repeat or reschedule work. They are no failures.

An interrupt of LangGraph waits for a human; Celery's soft time limit asks the task to end; a task that raises `Retry` wants to run
later. Retrying such a call, or counting it against a client, would break what the framework is doing. So they go through at once.

They are recognised by the first part of their module and by the name of a class of theirs, so that no framework has to be installed.
A subclass of a named class is one of them as well. Exceptions that are no `Exception` (`KeyboardInterrupt`, `asyncio.CancelledError`,
signals of Prefect and Airflow) go through anyway.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from resilience.failure.safe_access import class_names

_STEERING: Final[Mapping[str, frozenset[str]]] = {
    "langgraph": frozenset({"GraphBubbleUp", "GraphInterrupt", "NodeInterrupt", "ParentCommand"}),
    # Pydantic AI: a tool asks the model to try again, or the run ends until a person or another system has decided.
    "pydantic_ai": frozenset({"ModelRetry", "ToolRetryError", "CallDeferred", "ApprovalRequired"}),
    "workflows": frozenset({"WaitingForEvent", "WorkflowCancelledByUser"}),  # LlamaIndex
    "crewai": frozenset({"HumanFeedbackPending"}),
    "haystack": frozenset({"BreakpointException"}),
    "celery": frozenset(
        {"TaskPredicate", "Retry", "Ignore", "Reject", "SoftTimeLimitExceeded", "TaskRevokedError"}
    ),
    "billiard": frozenset({"SoftTimeLimitExceeded", "Terminated"}),  # Celery's processes
    "rq": frozenset({"BaseTimeoutException", "StopRequested"}),
    "dramatiq": frozenset({"Retry", "Interrupt"}),
    "huey": frozenset({"RetryTask", "CancelExecution", "TaskLockedException"}),
    "arq": frozenset({"Retry", "RetryJob"}),
    "procrastinate": frozenset({"JobAborted"}),
    "taskiq": frozenset({"TaskRejectedError", "NoResultError"}),
    "ray": frozenset({"TaskCancelledError"}),
    "distributed": frozenset({"Reschedule"}),  # Dask
    "prefect": frozenset(
        {
            "PrefectSignal",
            "PrefectStateSignal",
            "Abort",
            "Pause",
            "CancelledRun",
            "PausedRun",
            "TerminationSignal",
        }
    ),
    "dagster": frozenset({"RetryRequested", "Failure", "DagsterExecutionInterruptedError"}),
    "airflow": frozenset(
        {
            "AirflowSkipException",
            "AirflowRescheduleException",
            "AirflowFailException",
            "AirflowTaskTimeout",
            "TaskDeferred",
        }
    ),
    "temporalio": frozenset({"CancelledError", "ContinueAsNewError"}),
    "click": frozenset({"Abort", "Exit"}),
    "streamlit": frozenset({"ScriptControlException", "RerunException", "StopException"}),
    "starlette": frozenset({"ClientDisconnect"}),  # of the request that the call is made for
    "tenacity": frozenset({"TryAgain"}),
    "unittest": frozenset({"SkipTest"}),
}
"""By the first part of the module, the classes that steer, with the bases that newer and older versions have."""
_WRAPPERS: Final[Mapping[str, frozenset[str]]] = {
    "temporalio": frozenset({"ActivityError", "ChildWorkflowError"}),
}
"""Classes that steer if their cause does: Temporal reports the cancellation of an activity inside of its error."""
_MAX_DEPTH: Final = 6


def steers(exc: BaseException, also: tuple[type[BaseException], ...] = (), depth: int = _MAX_DEPTH) -> bool:
    """Return whether *exc* steers a framework, so that it is neither a failure nor to be retried.

    A group steers if one of its members does: a task group that runs beside the interrupt may have failed as well, and repeating the
    call would repeat the interrupt.

    Args:
        exc: what a call raised.
        also: further classes that the application names.
        depth: how many levels of groups and causes to look into.
    """
    if isinstance(exc, also):
        return True
    names = list(class_names(exc))
    if _has_class(names, _STEERING):
        return True
    if depth <= 0:
        return False
    if isinstance(exc, BaseExceptionGroup):
        return any(steers(member, also, depth - 1) for member in exc.exceptions)
    cause = exc.__cause__
    return cause is not None and _has_class(names, _WRAPPERS) and steers(cause, also, depth - 1)


def _has_class(names: list[tuple[str, str]], table: Mapping[str, frozenset[str]]) -> bool:
    return any(name in table.get(module.partition(".")[0], ()) for module, name in names)
