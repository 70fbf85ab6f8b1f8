"""Files of another user of the machine, whether or not the tests run as root."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

OTHER = 65534
"""The user id that plants files, where the tests run as root."""


def give_away(monkeypatch: pytest.MonkeyPatch, *paths: Path) -> None:
    """Make *paths* belong to another user than the process; a link itself, not what it points to.

    Root may change the owner. Any other user cannot; there the process seems to run as another user than it does.
    """
    if os.getuid() == 0:
        for path in paths:
            os.lchown(path, OTHER, OTHER)
    else:
        user = os.getuid() + 1
        monkeypatch.setattr(os, "geteuid", lambda: user)
