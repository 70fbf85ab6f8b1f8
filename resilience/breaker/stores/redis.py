"""Circuits in Redis or Valkey: what the processes of many machines share.

One hash and one capped stream a circuit, `<namespace>:{<client>}` and `<namespace>:{<client>}:log`, changed by one script; and a set
of the clients' names, `<namespace>:circuits`, because in a cluster no script reaches more than one circuit.
"""

from __future__ import annotations

import heapq
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from hashlib import sha1
from importlib import resources
from typing import Any, Final

from redis.exceptions import MovedError, NoScriptError

from resilience.breaker.messages import StepReply, StepRequest, Transition
from resilience.breaker.policy import BreakerPolicy
from resilience.breaker.stores.redis_connection import Link, connect
from resilience.breaker.stores.redis_protocol import reply_of, telling, thresholds, transition_of
from resilience.breaker.stores.redis_url import NAMESPACE, Address, parse

LEAST_RIGHTS: Final = (
    "+evalsha +script|load +time +hmget +hset +hdel +pexpire +persist +xadd +xrange +sadd +smembers +set"
)
"""What a Redis user must be allowed, beside keys: `ACL SETUSER agents on >secret ~resilience:* <these>`.

A cluster wants `+cluster|slots +command` too. `CLIENT SETINFO` is asked for politely and not missed."""

LOG_LENGTH: Final = 1000
"""How many transitions the stream of one circuit keeps."""

SCRIPT: Final = resources.files("resilience.breaker.stores").joinpath("step.lua").read_text("utf-8")
"""`circuit.step`, as Redis runs it."""

_ESCAPES: Final = str.maketrans({"%": "%25", "{": "%7B", "}": "%7D"})
_NEUTRAL: Final = BreakerPolicy()  # whose window a look without a policy adds up, as in circuit.py
_PROOF_MS: Final = 60_000

Command = tuple[str, ...]


class RedisStore:
    """One hash a client, changed by a script at the server's own time. One connection, made when it is first needed.

    What has results in it is sent once: after a timeout nobody knows whether they were counted. A server that does not know the
    script has counted nothing, so it is told the script and asked again. While keys move between the nodes of a cluster, their
    circuits count as away.

    Args:
        address: the URL that `open_redis` reads, or what `redis_url.parse` made of it.
        namespace: what every key begins with.
        log_length: how many transitions of a circuit are kept.

    Raises:
        ConfigurationError: the URL cannot be understood.
    """

    def __init__(
        self, address: str | Address, *, namespace: str = NAMESPACE, log_length: int = LOG_LENGTH
    ) -> None:
        self._address = parse(address) if isinstance(address, str) else address
        self._namespace = namespace.translate(_ESCAPES)
        self._registry = f"{self._namespace}:circuits"
        self._log_length = log_length
        self._script = SCRIPT
        self._sha = sha1(SCRIPT.encode(), usedforsecurity=False).hexdigest()
        self._link: Link | None = None
        self._pid = 0
        self._registered: set[str] = set()
        self._doubtful = False

    # -- the verbs of a store ---------------------------------------------------------------------------------------------------

    def step(self, requests: Sequence[StepRequest]) -> Sequence[StepReply | Exception]:
        """Run each request through the script, in one round trip.

        Raises:
            redis.RedisError: Redis cannot be used now.
        """
        told = {each.client for each in requests if each.tells} - self._registered
        before = [*self._proof(), *(("SADD", self._registry, client) for client in sorted(told))]
        self._doubtful = True
        replies = self._send([*before, *map(self._command, requests)])
        for reply in replies[: len(before)]:
            if isinstance(reply, Exception):
                raise reply
        self._registered |= told
        self._doubtful = any(isinstance(reply, Exception) for reply in replies)
        return [self._read(*each) for each in zip(requests, replies[len(before) :], strict=True)]

    def transitions(self, after: str = "") -> list[Transition]:
        """The logged transitions after this cursor, oldest first; a cursor of another store counts as none.

        The cursor says for each circuit how far it was read: between the streams of a cluster there is no other order.
        """
        read = _positions(after)
        clients = self.names()
        streams = self._send(
            [
                ("XRANGE", self._key(each, ":log"), f"({read[each]}" if each in read else "-", "+")
                for each in clients
            ]
        )
        found = []
        for ms, client, number, fields in heapq.merge(*map(_entries, clients, streams)):
            read[client] = f"{ms}-{number}"
            with suppress(KeyError, ValueError):  # in words of newer code, which tells it itself
                found.append(transition_of(client, fields, json.dumps(read, sort_keys=True)))
        return found

    def names(self) -> list[str]:
        """The clients of whom anything was ever told, sorted."""
        (found,) = self._send([("SMEMBERS", self._registry)])
        if isinstance(found, Exception):
            raise found
        return sorted(found)

    def park(self) -> None:
        """Hang up: two processes on one connection would read each other's replies."""
        link, self._link = self._link, None
        if link is not None and self._pid == os.getpid():
            link.close()

    def close(self) -> None:
        """Hang up."""
        self.park()

    # -- requests ---------------------------------------------------------------------------------------------------------------

    def _proof(self) -> Iterator[Command]:
        """After a failure, ask for leave to write: a server that is full or a replica answers looks as if all were well."""
        if self._doubtful:
            yield "SET", f"{self._namespace}:writable", "1", "PX", str(_PROOF_MS)

    def _command(self, request: StepRequest) -> Command:
        keys = self._key(request.client), self._key(request.client, ":log")
        return ("EVALSHA", self._sha, "2", *keys, *self._arguments(request))

    def _arguments(self, request: StepRequest) -> Command:
        return thresholds(request.policy or _NEUTRAL), telling(request), str(self._log_length)

    def _key(self, client: str, suffix: str = "") -> str:
        return f"{self._namespace}:{{{client.translate(_ESCAPES)}}}{suffix}"

    def _read(self, request: StepRequest, reply: Any) -> StepReply | Exception:
        if isinstance(reply, Exception):
            return reply
        if reply[14]:
            self._registered.discard(request.client)  # it was not there: perhaps nothing is any more
        return reply_of(request.client, reply)

    # -- the line ---------------------------------------------------------------------------------------------------------------

    def _send(self, commands: Sequence[Command]) -> list[Any]:
        """Send each command to the server of its key, all of a server at once; an error stands where the reply would be.

        Raises:
            redis.RedisError: a server cannot be reached, or did not answer in time.
        """
        try:
            replies = self._exchange(commands)
            unknown = [n for n, reply in enumerate(replies) if isinstance(reply, NoScriptError | MovedError)]
            if unknown:  # these were not carried out
                self._prepare(moved=any(isinstance(replies[n], MovedError) for n in unknown))
                for n, reply in zip(unknown, self._exchange([commands[n] for n in unknown]), strict=True):
                    replies[n] = reply
        except BaseException:
            self.park()  # what is still on the line belongs to nobody, and a cluster may have changed
            raise
        return replies

    def _prepare(self, *, moved: bool) -> None:
        if moved:
            self.park()
        self._connected().load(self._script)

    def _exchange(self, commands: Sequence[Command]) -> list[Any]:
        link = self._connected()
        ways: dict[int, tuple[Any, list[int]]] = {}
        for place, command in enumerate(commands):
            server = link.server(command[3] if command[0] == "EVALSHA" else command[1])
            ways.setdefault(id(server), (server, []))[1].append(place)
        replies: list[Any] = [None] * len(commands)
        for server, places in ways.values():
            with server.pipeline(transaction=False) as pipe:
                for place in places:
                    pipe.execute_command(*commands[place])
                for place, reply in zip(places, pipe.execute(raise_on_error=False), strict=True):
                    replies[place] = reply
        return replies

    def _connected(self) -> Link:
        if self._link is None or self._pid != os.getpid():
            self._link = connect(self._address)
            self._pid = os.getpid()
        return self._link


def open_redis(url: str, namespace: str = NAMESPACE) -> RedisStore:
    """Find the store of circuits that a Redis URL means. Nothing is connected before the first step.

    Args:
        url: one of

            - `redis://[user:password@]host[:6379][/db]`, `rediss://` for TLS, `unix:///path/to/socket[?db=0]`,
            - `redis+sentinel://[user:password@]host[:26379],host2/master[/db]`,
            - `redis+cluster://[user:password@]host[:6379],host2`,

            each also as `valkey`, and the last two also with TLS as `rediss+`. After a question mark may follow
            `socket_timeout` and `socket_connect_timeout` (seconds), `username`, `password`, `sentinel_username`,
            `sentinel_password`, `ssl_ca_certs`, `ssl_certfile`, `ssl_keyfile`, `ssl_cert_reqs`.
        namespace: what every key begins with.

    Raises:
        ConfigurationError: the URL cannot be understood. Never shows the URL's password.
    """
    return RedisStore(parse(url), namespace=namespace)


def _entries(client: str, stream: Any) -> Iterator[tuple[int, str, int, Mapping[str, Any]]]:
    """A circuit's log in the order of the server's time."""
    if isinstance(stream, Exception):
        raise stream
    for place, fields in stream:
        ms, _, number = place.partition("-")
        yield int(ms), client, int(number), fields


def _positions(cursor: str) -> dict[str, str]:
    try:
        found = json.loads(cursor or "{}")
    except ValueError:
        found = {}
    return {name: str(place) for name, place in found.items()} if isinstance(found, dict) else {}
