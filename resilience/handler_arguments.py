"""What a handler does with arguments that are code of the application: its exception classes and its fingerprint function."""

from __future__ import annotations

import logging

_log = logging.getLogger("resilience")


def exception_classes(value: object) -> tuple[type[BaseException], ...]:
    """Return *value*, the argument `pass_through`, if it is a tuple of exception classes.

    Raises:
        TypeError: it is not; the text says what to give.
    """
    if not isinstance(value, tuple) or not all(map(_is_exception_class, value)):
        msg = f"BAMLErrorHandler.pass_through={value!r}: give a tuple of exception classes, such as (MyInterrupt,)"
        raise TypeError(msg)
    if {Exception, BaseException}.intersection(value):
        msg = "BAMLErrorHandler.pass_through has Exception itself, so that nothing would be a failure: name your own classes"
        raise TypeError(msg)
    return value


def warn_about_fingerprint(exc: Exception) -> None:
    """Log that the application's fingerprint function failed."""
    _log.warning("the fingerprint function failed (%s); errors are grouped without it", type(exc).__name__)


def warn_about_classify(exc: Exception) -> None:
    """Log that the application's classify function failed. By class: its text may quote a prompt."""
    _log.warning("the classify function failed (%s); errors keep the built-in category", type(exc).__name__)


def _is_exception_class(item: object) -> bool:
    return isinstance(item, type) and issubclass(item, BaseException)
