"""What the class of an exception says by itself.

Classes of libraries are recognised by name, so that no library has to be imported or installed. Names of BAML classes are
only trusted where the module is baml_py's.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Final

from resilience import errors
from resilience.failure.codes import DECISIVE, FIRM, WEAK, category_of_codes
from resilience.failure.control_flow import steers
from resilience.failure.finish_reasons import category_of_reason
from resilience.failure.safe_access import class_names, get_attribute, text_of
from resilience.failure.taxonomy import ErrorCategory as Category

MAX_CAUSES: Final = 6
"""How many exceptions of a chain are looked at."""

_OURS: tuple[tuple[type[BaseException], Category], ...] = (
    (errors.CircuitOpenError, Category.CIRCUIT_OPEN),
    (errors.AttemptTimeoutError, Category.TIMEOUT),
    (errors.DeadlineExceededError, Category.CANCELLED),
    (errors.OutputTruncatedError, Category.OUTPUT_TRUNCATED),
    (errors.EmptyAnswerError, Category.OUTPUT_INVALID),
    (errors.ContentRefusedError, Category.CONTENT_POLICY),
    (errors.AnswerError, Category.OUTPUT_INVALID),  # the base of the three above, so it comes after them
    (errors.ForkedRuntimeError, Category.INVALID_REQUEST),
    (errors.ConfigurationError, Category.INVALID_REQUEST),
)
_INTERRUPTS = (KeyboardInterrupt, SystemExit, GeneratorExit)

# Order matters: the first class that matches decides. An OSError is a network failure unless it is a file that is missing
# or not readable, which is the caller's own mistake.
_PYTHON: tuple[tuple[type[BaseException], Category], ...] = (
    (TimeoutError, Category.TIMEOUT),
    (ConnectionError, Category.NETWORK),
    (FileNotFoundError, Category.INVALID_REQUEST),
    (PermissionError, Category.INVALID_REQUEST),
    (IsADirectoryError, Category.INVALID_REQUEST),
    (NotADirectoryError, Category.INVALID_REQUEST),
    (OSError, Category.NETWORK),
    (EOFError, Category.NETWORK),
    (json.JSONDecodeError, Category.NETWORK),  # a 200 that is not the protocol
    (UnicodeDecodeError, Category.NETWORK),
)
_PROGRAMMING = (TypeError, ValueError)
"""Mistakes of the caller. Libraries also wrap transport faults in them, so a cause is looked at first."""

_CLASS_NAMES = {**WEAK, **FIRM, **DECISIVE}
"""All ranks in one table: for classes the most derived one decides, not the rank."""

_BAML = "baml_py"


def is_baml(exc: BaseException | None) -> bool:
    """Return whether *exc* is an exception of BAML's own."""
    return exc is not None and any(module.split(".")[0] == _BAML for module, _ in class_names(exc))


def chain(exc: BaseException) -> Iterator[BaseException]:
    """Yield *exc* and what it was raised from, outermost first, at most `MAX_CAUSES`.

    An explicit cause (`raise ... from`) is always followed. The implicit context is followed only where the outer class
    says nothing itself; otherwise it may be the failure of an earlier attempt.
    """
    seen: set[int] = set()  # a cause may lead back to an exception of the chain
    current: BaseException | None = exc
    while current is not None and id(current) not in seen and len(seen) < MAX_CAUSES:
        seen.add(id(current))
        yield current
        current = _inner(current)


def members(group: BaseExceptionGroup[BaseException]) -> Iterator[BaseException]:
    """Yield the exceptions of *group* and of the groups in it. A loop: nested groups must not exhaust the stack."""
    pending: list[BaseException] = [group]
    while pending:
        current = pending.pop(0)
        if isinstance(current, BaseExceptionGroup) and not isinstance(current, errors.AllClientsFailedError):
            pending[:0] = current.exceptions
        else:
            yield current


def conclusive_category(exc: BaseException) -> Category | None:
    """Return the category of a cancellation, of control flow or of an exception of ours; None for any other, which needs evidence."""
    if (
        isinstance(exc, _INTERRUPTS)
        or _has_class(exc, "CancelledError")
        or steers(exc)
        or _baml_class(exc) == "BamlAbortError"
    ):
        return Category.CANCELLED
    return next((category for cls, category in _OURS if isinstance(exc, cls)), None)


def category_of_class(exc: BaseException) -> Category | None:
    """Return the category that the class of *exc*, or of what it was raised from, stands for; None if none does."""
    for link in chain(exc):
        category = conclusive_category(link) or _own_category(link)
        if category is not None:
            return category
    return Category.INVALID_REQUEST if isinstance(exc, _PROGRAMMING) else None


def class_outranks_text(exc: BaseException) -> bool:
    """Return whether the class of *exc* decides, whatever its text says.

    It does for transport faults and for mistakes of the caller, whose texts may quote anything. It does not for BAML's
    classes: they stand for too many faults, and their text holds the provider's response.
    """
    for link in chain(exc):
        category = _own_category(link)
        if category is not None:
            transport = category in {Category.NETWORK, Category.TIMEOUT} or isinstance(link, OSError)
            return transport and not is_baml(link)
    return isinstance(exc, _PROGRAMMING)


def library_class_names(exc: BaseException | None) -> list[str]:
    """Return the names of those classes of *exc* that a library defines, the most derived first.

    `ContextWindowExceededError` says more than the 400 that it comes with. BAML's own classes say less than their
    response and are left out.
    """
    if exc is None or is_baml(exc):
        return []
    return [name for module, name in class_names(exc) if module != "builtins"]


def is_transport_fault_of_old_baml(exc: BaseException | None) -> bool:
    """Return whether *exc* is a transport fault that BAML before 0.218 reported as a validation error."""
    if _baml_class(exc) != "BamlValidationError":
        return False
    return text_of(get_attribute(exc, "message") or exc).lstrip().startswith("LLM Failure")


def is_unusable_answer(exc: BaseException | None) -> bool:
    """Return whether an answer arrived whose content is not what the function returns."""
    if exc is None:
        return False
    if _baml_class(exc) in {"BamlValidationError", "BamlClientFinishReasonError"}:
        return not is_transport_fault_of_old_baml(exc)
    return is_pydantic(exc)


def is_pydantic(exc: BaseException) -> bool:
    """Return whether *exc* is pydantic's error for a value that does not fit its type."""
    return any(
        name == "ValidationError" and module.split(".")[0].startswith("pydantic")
        for module, name in class_names(exc)
    )


def is_configuration_error(exc: BaseException | None) -> bool:
    """Return whether BAML could not even build the call.

    BAML raises its base class `BamlError` itself for this, and for nothing else.
    """
    return _baml_class(exc) in {"BamlError", "BamlInvalidArgumentError"}


def _inner(exc: BaseException) -> BaseException | None:
    """Return what *exc* was raised from: the last client's error of a call, the first error of a group, or its cause."""
    if isinstance(exc, errors.AllClientsFailedError):
        return exc.last
    if isinstance(exc, BaseExceptionGroup):
        return exc.exceptions[0]
    cause = exc.__cause__
    if cause is None and not exc.__suppress_context__ and _is_wrapper(exc):
        return exc.__context__
    return cause


def _is_wrapper(exc: BaseException) -> bool:
    """Return whether the class of *exc* says nothing itself."""
    return not isinstance(exc, _PROGRAMMING) and _own_category(exc) is None


def _own_category(exc: BaseException) -> Category | None:
    """Return what the class of *exc* alone says, without its causes."""
    if is_pydantic(exc):
        return Category.OUTPUT_INVALID
    if _baml_class(exc) is not None:
        return _baml_category(exc)
    known = category_of_codes(library_class_names(exc), _CLASS_NAMES)
    if known is not None:
        return known[0]
    return next((category for cls, category in _PYTHON if isinstance(exc, cls)), None)


def _baml_category(exc: BaseException) -> Category | None:
    """Return what a BAML class says alone. Evidence of a real response outranks it."""
    if is_configuration_error(exc):
        return Category.INVALID_REQUEST
    if is_transport_fault_of_old_baml(exc):
        return Category.NETWORK
    if is_unusable_answer(exc):
        reason = text_of(get_attribute(exc, "finish_reason"))
        return category_of_reason(reason) or Category.OUTPUT_INVALID
    # BamlClientHttpError also stands for a response; where one came, its status and body have decided before.
    return Category.TIMEOUT if _baml_class(exc) == "BamlTimeoutError" else Category.NETWORK


def _baml_class(exc: BaseException | None) -> str | None:
    """Return the name of the most derived class that is BAML's; None for exceptions of others."""
    if exc is None:
        return None
    return next((name for module, name in class_names(exc) if module.split(".")[0] == _BAML), None)


def _has_class(exc: BaseException, class_name: str) -> bool:
    return any(name == class_name for _, name in class_names(exc))
