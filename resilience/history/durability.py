"""How safely a transaction of the history is kept."""

from __future__ import annotations

from typing import Final, Literal, get_args

Durability = Literal["normal", "full"]
"""`full` waits for the disk at every commit. `normal` may lose the last commits in a power cut, but never damages the database."""
DURABILITIES: Final[tuple[Durability, ...]] = get_args(Durability)
