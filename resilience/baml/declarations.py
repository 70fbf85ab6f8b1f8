"""What a BAML project declares: its clients, its strategies and retry policies, and the client of each function."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from resilience.baml.syntax import Block, Unquoted, Value, blocks

FALLBACK: Final = "fallback"
ROUND_ROBIN: Final = "round-robin"
_VARIABLE = re.compile(r"\benv\.(\w+)")
_DIGITS: Final = 9
"""Digits of a number that is read. Python itself refuses to read numbers of thousands of digits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Client:
    """One `client<llm>` of a project.

    Attributes:
        name: its name.
        provider: the provider in BAML's words, without the old prefix `baml-`; empty if it is not declared.
        members: the clients that a strategy chooses among, in order; empty for a leaf client.
        start: the index of the member that a round-robin strategy asks first; None if BAML chooses it at random.
        retry_policy: the name of its `retry_policy`; empty without one.
        max_retries: retries that BAML makes by that policy; 0 without one.
        variables: the environment variables it reads.
        options: its options as written, for building the same client again.
    """

    name: str
    provider: str = ""
    members: tuple[str, ...] = ()
    start: int | None = None
    retry_policy: str = ""
    max_retries: int = 0
    variables: tuple[str, ...] = ()
    options: Mapping[str, Value] = field(default_factory=dict, repr=False, compare=False)

    @property
    def is_strategy(self) -> bool:
        """Whether it chooses among other clients instead of asking a provider."""
        return self.provider in {FALLBACK, ROUND_ROBIN}

    @property
    def multiplies(self) -> bool:
        """Whether one attempt on it can be several requests."""
        return self.is_strategy or self.max_retries > 0


@dataclass(frozen=True, slots=True)
class Declarations:
    """What the `.baml` files of a project declare.

    Attributes:
        clients: every declared client by name, in the order of the files.
        functions: the client of each function, where it is known. A function is missing here when its client cannot be
            read; its calls then go where BAML sends them.
    """

    clients: Mapping[str, Client] = field(default_factory=dict)
    functions: Mapping[str, str] = field(default_factory=dict)

    def leaves(self, client: str) -> tuple[str, ...]:
        """Return the leaf clients behind *client* in the order of its strategies; *client* itself if it is a leaf."""
        return tuple(dict.fromkeys(self._leaves(client, set())))

    def _leaves(self, client: str, expanded: set[str]) -> Iterator[str]:
        declared = self.clients.get(client)
        if declared is None or not declared.is_strategy:
            yield client
        elif client not in expanded:
            # Each strategy once: a second look finds no new leaf, and one that contains itself has no end.
            expanded.add(client)
            for member in declared.members:
                yield from self._leaves(member, expanded)


def read_declarations(files: Iterable[str]) -> Declarations:
    """Read the text of all `.baml` *files* of a project."""
    # All files before any client: a client may name a retry_policy that another file declares.
    parsed = [block for text in files for block in blocks(text)]
    retries = {
        block.name: _integer(block.entries.get("max_retries")) for block in _declared(parsed, "retry_policy")
    }
    clients = {block.name: _client(block, retries) for block in _declared(parsed, "client")}
    # A function whose client cannot be read is left out. A guess would name a wrong circuit.
    read = {block.name: _text(block.entries.get("client")) for block in _declared(parsed, "function")}
    return Declarations(clients, {name: client for name, client in read.items() if client})


def _declared(parsed: Iterable[Block], keyword: str) -> Iterator[Block]:
    return (block for block in parsed if block.keyword == keyword)


def _client(block: Block, retries: Mapping[str, int]) -> Client:
    # The reader is lenient, so values may have any shape here. What is not the expected one counts as not declared.
    options = block.entries.get("options")
    options = options if isinstance(options, dict) else {}
    strategy, policy = options.get("strategy"), _text(block.entries.get("retry_policy"))
    return Client(
        name=block.name,
        provider=_text(block.entries.get("provider")).removeprefix("baml-"),
        members=tuple(_text(member) for member in strategy) if isinstance(strategy, list) else (),
        # Without `start` BAML draws the first member at random, so a missing one is not the same as 0.
        start=_integer(options["start"]) if "start" in options else None,
        retry_policy=policy,
        max_retries=retries.get(policy, 0),
        variables=tuple(dict.fromkeys(_variables(block.entries))),
        options=options,
    )


def _text(value: Value | None) -> str:
    return value if isinstance(value, str) else ""


def _integer(value: Value | None) -> int:
    text = _text(value)
    return int(text) if text.isdecimal() and len(text) <= _DIGITS else 0


def _variables(value: Value | Mapping[str, Value]) -> Iterator[str]:
    """Yield the variables that a value reads: `env.NAME` outside quotes, also inside a jinja expression."""
    if isinstance(value, Mapping):
        for nested in value.values():
            yield from _variables(nested)
    elif isinstance(value, list):
        for nested in value:
            yield from _variables(nested)
    elif isinstance(value, Unquoted):
        yield from _VARIABLE.findall(value)
