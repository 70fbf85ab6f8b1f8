"""For whom a call is made."""

from __future__ import annotations

import asyncio

import pytest

import resilience
from resilience.tenant import current_tenant


def test_a_tenant_holds_within_the_block() -> None:
    """Inside the block the tenant is the given one, afterwards the previous one; None and an empty text end it."""
    with resilience.tenant("outer"):
        with resilience.tenant("Zürich & Söhne") as given:
            assert ("Zürich & Söhne", "Zürich & Söhne") == (given, current_tenant())
            resilience.set_tenant("")
            assert current_tenant() is None
        assert current_tenant() == "outer"
    assert current_tenant() is None


async def test_each_task_has_its_own() -> None:
    """Tasks inherit the tenant of the task that started them, and change it for themselves alone."""

    async def changed(name: str) -> str | None:
        before = current_tenant()
        resilience.set_tenant(name)
        await asyncio.sleep(0)
        return f"{before} {current_tenant()}"

    with resilience.tenant("outer"):
        assert list(await asyncio.gather(changed("a"), changed("b"))) == ["outer a", "outer b"]
        assert current_tenant() == "outer"


@pytest.mark.parametrize(("value", "error"), [("x" * 101, ValueError), (7, TypeError), (b"x", TypeError)])
def test_what_no_column_holds_is_refused(value: object, error: type[Exception]) -> None:
    """The error comes where the tenant is set, and names what is allowed."""
    with pytest.raises(error, match="at most 100"):
        resilience.set_tenant(value)  # type: ignore[arg-type]
    with pytest.raises(error, match="at most 100"):
        resilience.tenant(value)  # type: ignore[arg-type]
