"""What an exception's class says by itself, found by name, so that no library has to be imported or installed."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping

from resilience import errors
from resilience.failure.codes import DECISIVE, FIRM, WEAK, meaning
from resilience.failure.safe_access import classes, peek, text_of
from resilience.failure.taxonomy import ErrorCategory as Kind

STEPS = 6
"""How many causes are followed."""

_OURS: tuple[tuple[type[BaseException], Kind], ...] = (
    (errors.CircuitOpenError, Kind.CIRCUIT_OPEN),
    (errors.AttemptTimeoutError, Kind.TIMEOUT),
    (errors.DeadlineExceededError, Kind.CANCELLED),
    (errors.OutputTruncatedError, Kind.OUTPUT_TRUNCATED),
    (errors.EmptyAnswerError, Kind.OUTPUT_INVALID),
    (errors.ContentRefusedError, Kind.CONTENT_POLICY),
    (errors.AnswerError, Kind.OUTPUT_INVALID),
    (errors.ForkedRuntimeError, Kind.INVALID_REQUEST),
    (errors.ConfigurationError, Kind.INVALID_REQUEST),
)
_STOPS = (KeyboardInterrupt, SystemExit, GeneratorExit)

_PYTHON: tuple[tuple[type[BaseException], Kind], ...] = (
    (TimeoutError, Kind.TIMEOUT),
    (ConnectionError, Kind.NETWORK),
    (FileNotFoundError, Kind.INVALID_REQUEST),
    (PermissionError, Kind.INVALID_REQUEST),
    (IsADirectoryError, Kind.INVALID_REQUEST),
    (NotADirectoryError, Kind.INVALID_REQUEST),
    (OSError, Kind.NETWORK),
    (EOFError, Kind.NETWORK),
    (json.JSONDecodeError, Kind.NETWORK),  # a 200 that is not the protocol
    (UnicodeDecodeError, Kind.NETWORK),
)
_PROGRAMMING = (TypeError, ValueError)
"""The caller's own mistake; but libraries also dress transport faults in them, so a cause may say better."""

_NAMES = {**WEAK, **FIRM, **DECISIVE}
"""One table, so that the most derived class decides."""

_BAML = "baml_py"
_TRUNCATED = frozenset(
    {"length", "max_tokens", "max_output_tokens", "model_length", "model_context_window_exceeded"}
)
_REFUSED = frozenset(
    [
        "content_filter",
        "content_filtered",
        "refusal",
        "safety",
        "prohibited_content",
        "blocklist",
        "recitation",
        "spii",
        "guardrail_intervened",
        "image_safety",
    ]
)


def is_baml(exc: BaseException | None) -> bool:
    """Is this an exception of BAML's own?"""
    return exc is not None and any(module.split(".")[0] == _BAML for module, _ in classes(exc))


def chain(exc: BaseException) -> Iterator[BaseException]:
    """The exception and what it was raised from, outermost first, a few steps at most.

    A stated cause is always followed; what was merely being handled, only where the outer class is a mere wrapper.
    """
    seen: set[int] = set()
    here: BaseException | None = exc
    while here is not None and id(here) not in seen and len(seen) < STEPS:
        seen.add(id(here))
        yield here
        here = _inner(here)


def decided(exc: BaseException) -> Kind | None:
    """The category of an exception that needs no other evidence: a cancellation, or one of our own."""
    if isinstance(exc, _STOPS) or _named(exc, "CancelledError") or _baml(exc) == "BamlAbortError":
        return Kind.CANCELLED
    return next((kind for cls, kind in _OURS if isinstance(exc, cls)), None)


def kind_of(exc: BaseException) -> Kind | None:
    """The category the class of *exc*, or of what it was raised from, stands for; None if it says nothing."""
    for here in chain(exc):
        kind = decided(here) or _own_kind(here)
        if kind is not None:
            return kind
    return Kind.INVALID_REQUEST if isinstance(exc, _PROGRAMMING) else None


def settled(exc: BaseException) -> bool:
    """Does the class leave no room for its text?

    So with transport faults and with the caller's own mistakes, whose texts may quote anything. BAML's classes stand for
    too much, and their text holds the provider's answer.
    """
    for here in chain(exc):
        kind = _own_kind(here)
        if kind is not None:
            return not is_baml(here) and (kind in {Kind.NETWORK, Kind.TIMEOUT} or isinstance(here, OSError))
    return isinstance(exc, _PROGRAMMING)


def names(exc: BaseException | None) -> list[str]:
    """The class names of *exc* that are a library's: `ContextWindowExceededError` says more than the 400 it comes with."""
    if exc is None or is_baml(exc):
        return []
    return [name for module, name in classes(exc) if module != "builtins"]


def finished(reason: str | None) -> Kind | None:
    """What a finish reason means for an answer nobody can use; None for an ordinary one."""
    name = (reason or "").lower()
    if name in _TRUNCATED:
        return Kind.OUTPUT_TRUNCATED
    return Kind.CONTENT_POLICY if name in _REFUSED else None


def says_transport(exc: BaseException | None) -> bool:
    """BAML before 0.218 reports a transport fault as a validation error whose message begins so."""
    return _baml(exc) == "BamlValidationError" and text_of(peek(exc, "message") or exc).lstrip().startswith(
        "LLM Failure"
    )


def unusable(exc: BaseException | None) -> bool:
    """Did the answer arrive, and only its content was not what the function promised?"""
    if exc is None:
        return False
    name = _baml(exc)
    if name in {"BamlValidationError", "BamlClientFinishReasonError"}:
        return not says_transport(exc)
    return is_pydantic(exc)


def is_pydantic(exc: BaseException) -> bool:
    """A value that pydantic found not to fit its type."""
    return any(
        name == "ValidationError" and module.split(".")[0].startswith("pydantic")
        for module, name in classes(exc)
    )


def configuration(exc: BaseException | None) -> bool:
    """BAML raises its base class itself, and nothing else does, when a call cannot even be built."""
    return _baml(exc) in {"BamlError", "BamlInvalidArgumentError"}


def _inner(exc: BaseException) -> BaseException | None:
    if isinstance(exc, errors.AllClientsFailedError):
        return exc.last
    if isinstance(exc, BaseExceptionGroup):
        return exc.exceptions[0]
    cause = exc.__cause__
    if cause is None and not exc.__suppress_context__ and _is_wrapper(exc):
        return exc.__context__
    return cause


def _is_wrapper(exc: BaseException) -> bool:
    """Does the class say nothing itself? Otherwise what was being handled may be an earlier attempt's failure."""
    return not isinstance(exc, _PROGRAMMING) and _own_kind(exc) is None


def _own_kind(exc: BaseException) -> Kind | None:
    if is_pydantic(exc):
        return Kind.OUTPUT_INVALID
    if _baml(exc) is not None:
        return _baml_kind(exc)
    found = meaning(names(exc), _NAMES)
    if found is not None:
        return found[0]
    return next((kind for cls, kind in _PYTHON if isinstance(exc, cls)), None)


def _baml_kind(exc: BaseException) -> Kind | None:
    if configuration(exc):
        return Kind.INVALID_REQUEST
    if says_transport(exc):
        return Kind.NETWORK
    if unusable(exc):
        return finished(text_of(peek(exc, "finish_reason"))) or Kind.OUTPUT_INVALID
    return Kind.TIMEOUT if _baml(exc) == "BamlTimeoutError" else Kind.NETWORK


def _baml(exc: BaseException | None) -> str | None:
    """The name of BAML's class, the most derived one, if it is one of BAML's."""
    if exc is None:
        return None
    return next((name for module, name in classes(exc) if module.split(".")[0] == _BAML), None)


def _named(exc: BaseException, wanted: str) -> bool:
    return any(name == wanted for _, name in classes(exc))


def fields(value: object) -> Mapping[object, object]:
    """*value* if it is a mapping, else an empty one."""
    return value if isinstance(value, Mapping) else {}
