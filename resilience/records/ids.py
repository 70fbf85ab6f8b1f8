"""Ids that sort by time: UUIDv7, RFC 9562."""

from __future__ import annotations

from uuid_utils import uuid7


def new_id() -> str:
    """Return a new UUIDv7 as 32 hex digits. The ids of one process sort in the order they were made.

    Safe in any thread and in a forked child: uuid-utils reseeds its generator after a fork, from version 0.14 on. With an
    earlier version parent and child would make the same ids, so `pyproject.toml` must not allow one.
    """
    return uuid7().hex
