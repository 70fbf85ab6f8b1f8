"""Records and summaries as JSON."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from datetime import datetime
from typing import Any


def to_json(value: object, *, indent: int | None = None) -> str:
    """Return records, lists of records or a summary as JSON.

    Times are ISO 8601 in UTC, categories and actions are their names. Content that only the writer thread opens is left out.

    Args:
        value: an `ErrorRecord` or another record, a list of them, or what `get_error_summary()` returned.
        indent: spaces per level; None for one line.

    Raises:
        TypeError: *value* contains something that has no form in JSON, or itself.
    """
    try:
        plain = _plain(value)
    except RecursionError:
        msg = f"a {type(value).__name__} that contains itself has no form in JSON"
        raise TypeError(msg) from None
    return json.dumps(plain, indent=indent, ensure_ascii=False)


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
        # A callable is content that is redacted on the writer thread; it has no value yet.
        return {name: _plain(field) for name, field in fields.items() if not callable(field)}
    if isinstance(value, Mapping):
        return {str(key): _plain(nested) for key, nested in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(nested) for nested in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None  # JSON has no NaN and no infinity; Python would write words that other readers refuse
    return value.isoformat() if isinstance(value, datetime) else value
