"""What can be wrong with a completion that came with a 200: cut, refused or empty."""

from __future__ import annotations

from collections.abc import Mapping

from resilience.failure.body import fold
from resilience.failure.exceptions import fields, finished
from resilience.failure.taxonomy import ErrorCategory as Kind

_REASONS = ("finish_reason", "finishReason", "stop_reason", "stopReason", "done_reason")


def spoiled(answer: Mapping[str, object]) -> Kind | None:
    """The category of a completion nobody can use; None for one that looks whole."""
    if fields(answer.get("promptFeedback")).get("blockReason"):
        return Kind.CONTENT_POLICY
    listed = next((answer[key] for key in ("choices", "candidates") if key in answer), None)
    first = fields(listed[0]) if isinstance(listed, list) and listed else {}
    ended = _ended(fields(answer)) or _ended(first)
    if ended is not None:
        return ended
    return Kind.OUTPUT_INVALID if _empty(answer, listed, first) else None


def _ended(part: Mapping[object, object]) -> Kind | None:
    inner = fields(part.get("incomplete_details")).get("reason")
    reasons = (part.get(name) for name in _REASONS)
    return next(
        (kind for reason in (*reasons, inner) if isinstance(reason, str) and (kind := finished(reason))),
        None,
    )


def _empty(answer: Mapping[str, object], listed: object, first: Mapping[object, object]) -> bool:
    if listed is not None and not first:
        return True
    message = fields(first.get("message") or first.get("content") or answer.get("message"))
    told = [
        value
        for key, value in message.items()
        if fold(str(key)) in {"content", "toolcalls", "parts", "functioncall"}
    ]
    return (
        bool(first or "message" in answer) and "delta" not in first and "text" not in first and not any(told)
    )
