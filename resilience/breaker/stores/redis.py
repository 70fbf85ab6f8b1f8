"""Circuits in Redis or Valkey: shared by the processes of many machines.

A circuit is one hash and one capped stream, changed together by one script (`step.lua`):

    <namespace>:{<client>}:v2    the circuit
    <namespace>:{<client>}:log   its transitions
    <namespace>:circuits         a set of the clients' names
    <namespace>:{<client>}:orders   named by an order, and never written: a Redis user without a right to it can give none

The braces are a hash tag: a cluster chooses the slot of a key by what stands between them, so both keys of a circuit are on one node,
as a script requires. No script reaches two circuits, which may be on different nodes. So the set of names is written apart.
"""

from __future__ import annotations

import heapq
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from hashlib import sha1
from importlib import resources
from typing import Any, Final

from redis.exceptions import MovedError, NoPermissionError, NoScriptError

from resilience.breaker.messages import StepReply, StepRequest, Transition
from resilience.breaker.policy import BreakerPolicy
from resilience.breaker.stores import damage_warning
from resilience.breaker.stores.base import Store
from resilience.breaker.stores.names import decode_name, encode_name
from resilience.breaker.stores.redis_connection import RedisConnection, RedisLink
from resilience.breaker.stores.redis_protocol import (
    decode_reply,
    decode_transition,
    encode_policy,
    encode_request,
    unreadable_fields,
)
from resilience.breaker.stores.redis_url import NAMESPACE, Address, parse

AGENT_KEYS: Final = "~resilience:{*}:v2 ~resilience:{*}:log ~resilience:circuits ~resilience:writable"
"""The keys that a Redis user must reach to share circuits. Not among them is the key that an order names."""

OPERATOR_KEYS: Final = "~resilience:*"
"""The keys of a Redis user that may also give orders."""

LEAST_RIGHTS: Final = (
    "+evalsha +script|load +time +hmget +hset +hdel +pexpire +persist +xadd +xrange +sadd +smembers +set"
)
"""The commands that a Redis user must be allowed, beside its keys: `ACL SETUSER agents on >secret <keys> <these>`.

A cluster needs `+cluster|slots +command` too."""

LOG_LENGTH: Final = 1000
"""How many transitions the stream of one circuit keeps."""

SCRIPT: Final = resources.files("resilience.breaker.stores").joinpath("step.lua").read_text("utf-8")
"""`circuit.step`, as Redis runs it."""

_FORMAT: Final = ":v2"
"""The format of the hash, at the end of its key. Increase it with each change of `CircuitData` that older code would misread.

Old and new code then keep separate circuits during a deploy, and neither reads half of the other's fields. The hash of the old format
expires by itself. Version 1 had no suffix, and short names for its fields."""

_ORDERS: Final = ":orders"
_DENIED: Final = (
    "this Redis user may give no orders, because it has no right to the key {}: "
    "use the operators' user in the URL (docs/operate.md, Rights)"
)

_ESCAPES: Final = str.maketrans({"%": "%25", "{": "%7B", "}": "%7D"})
"""Braces in a name would end the hash tag too early, or begin another one."""

_SCANS: Final = 50
"""Steps of a search for namespaces, of about 1000 keys each."""
_DEFAULT_POLICY: Final = BreakerPolicy()  # its window applies to requests without a policy, as in circuit.py
_WRITE_CHECK_MS: Final = 60_000
# The most that a reply may have, in bytes. Far above what a healthy server sends, and far below what a process would notice.
_BASE_BYTES: Final = 256 * 1024
_STEP_BYTES: Final = 16 * 1024
_NAMES_BYTES: Final = 8 * 1024 * 1024
_LOG_BYTES: Final = 1024 * 1024
_STREAMS_AT_ONCE: Final = 16

Command = tuple[str, ...]


class RedisStore:
    """One hash a client, changed by a script at the server's own time. One connection, made when it is first needed.

    A command with results in it is sent once: after a timeout it is unknown whether they were counted. There are two exceptions, and
    in both nothing was counted: a server that does not know the script (NOSCRIPT) gets the script and the command again; a node whose
    slot has moved (MOVED) causes a new connection, which learns the slots, and the command goes to the right node. While a slot is
    being moved (ASK), its circuits count as away.

    Args:
        address: a URL as `open_redis` reads it, the result of `redis_url.parse`, or the link of another store.
        namespace: the start of every key.
        log_length: how many transitions of a circuit are kept.

    Raises:
        ConfigurationError: the URL cannot be understood.
    """

    shared: Final = True

    def __init__(
        self, address: str | Address | RedisLink, *, namespace: str = NAMESPACE, log_length: int = LOG_LENGTH
    ) -> None:
        if isinstance(address, str):
            address = parse(address)
        self._link = address if isinstance(address, RedisLink) else RedisLink(address)
        self._namespace = encode_name(namespace).translate(_ESCAPES)
        self._names_key = f"{self._namespace}:circuits"
        self._log_length = log_length
        self._script = SCRIPT
        self._sha = sha1(SCRIPT.encode(), usedforsecurity=False).hexdigest()
        self._registered: set[str] = set()
        self._check_writable = False

    # -- the methods of a store -------------------------------------------------------------------------------------------------

    def step(self, requests: Sequence[StepRequest]) -> Sequence[StepReply | Exception]:
        """Run each request through the script, in one round trip a server.

        Raises:
            redis.RedisError: Redis cannot be used now.
        """
        new_names = {request.client for request in requests if request.has_updates} - self._registered
        register = (("SADD", self._names_key, encode_name(client)) for client in sorted(new_names))
        preamble = [*self._write_check(), *register]
        # Set before sending: if this step raises, the next one begins with a write check.
        self._check_writable = True
        replies = self._send([*preamble, *map(self._command, requests)])
        for reply in replies[: len(preamble)]:
            if isinstance(reply, Exception):
                raise reply
        self._registered |= new_names
        step_replies = replies[len(preamble) :]
        found = [self._decode(request, reply) for request, reply in zip(requests, step_replies, strict=True)]
        self._repeat_without_orders(requests, found)
        self._check_writable = any(isinstance(reply, Exception) for reply in found)
        return found

    def _repeat_without_orders(
        self, requests: Sequence[StepRequest], replies: list[StepReply | Exception]
    ) -> None:
        """Send those of *requests* again whose order this Redis user may not give, without the order.

        The server refused the whole command, so nothing of it was counted. The results that came with an order are worth as much as
        any others; and a forbidden order does not mean that the store is away.
        """
        refused = [
            n
            for n, (request, reply) in enumerate(zip(requests, replies, strict=True))
            if isinstance(reply, NoPermissionError) and request.order is not None and request.order.is_new
        ]
        again = [replace(requests[n], order=None) for n in refused]
        for n, request, reply in zip(
            refused, again, self._send([*map(self._command, again)]) if again else (), strict=True
        ):
            found = self._decode(request, reply)
            key = self._key(request.client, _ORDERS)
            replies[n] = (
                found if isinstance(found, Exception) else replace(found, refused=_DENIED.format(key))
            )

    def transitions(self, after: str = "") -> list[Transition]:
        """Return the logged transitions after a cursor, oldest first; a cursor of another store counts as none.

        A cursor holds the position in each circuit's stream, because the streams on different nodes have no common order of ids.
        """
        positions = _positions(after)
        clients = self.names()
        # The parenthesis excludes the position itself, which was read before.
        starts = (f"({positions[client]}" if client in positions else "-" for client in clients)
        ranges = [
            ("XRANGE", self._key(client, ":log"), start, "+", "COUNT", str(self._log_length))
            for client, start in zip(clients, starts, strict=True)
        ]
        streams: list[Any] = []
        for first in range(0, len(ranges), _STREAMS_AT_ONCE):
            streams += self._send(ranges[first : first + _STREAMS_AT_ONCE], _LOG_BYTES)
        log = []
        for ms, client, number, fields in heapq.merge(*map(_entries, clients, streams)):
            positions[client] = f"{ms}-{number}"
            # A transition in words of newer code is skipped: the process that caused it records it too. One that is planted must not
            # stop the entries behind it.
            try:
                log.append(decode_transition(client, fields, json.dumps(positions, sort_keys=True)))
            except (KeyError, ValueError, TypeError):
                damage_warning.note("transition", client)
        return log

    def names(self) -> list[str]:
        """Return the clients that ever had an update, sorted."""
        (names,) = self._send([("SMEMBERS", self._names_key)], _NAMES_BYTES)
        if isinstance(names, Exception):
            raise names
        return sorted(decode_name(name) for name in names)

    def forget(self, client: str) -> bool:
        """Delete the circuit of a client. Its logged transitions stay until they expire. Needs the rights `+del +srem`, which agents do not.

        Raises:
            redis.RedisError: Redis cannot be used now, or refuses the command.
        """
        replies = self._send([("DEL", self._key(client, _FORMAT)), ("SREM", self._names_key, client)])
        self._registered.discard(client)
        for reply in replies:
            if isinstance(reply, Exception):
                raise reply
        return any(replies)

    def namespaces(self) -> list[str]:
        """Return the namespaces that have circuits here, sorted. Needs the right `+scan`.

        Their sets of names are found by SCAN, in at most `_SCANS` steps: a server may have millions of keys of others. In a cluster
        one node is searched.

        Raises:
            redis.RedisError: Redis cannot be used now, or refuses the command.
        """
        found, cursor = set[str](), "0"
        with self._link.bounded(_NAMES_BYTES):
            server = self._connect().server_for(self._names_key)
            for _ in range(_SCANS):
                cursor, keys = server.execute_command("SCAN", cursor, "MATCH", "*:circuits", "COUNT", "1000")
                found.update(_unescape(str(key).removesuffix(":circuits")) for key in keys)
                if str(cursor) == "0":
                    break
        return sorted(found)

    def in_namespace(self, namespace: str) -> Store:
        """Return a store with other keys on the same connection."""
        return RedisStore(self._link, namespace=namespace, log_length=self._log_length)

    def disconnect(self) -> None:
        """Close the connection: two processes on one socket would read each other's replies."""
        self._link.disconnect()

    def close(self) -> None:
        """Close the connection."""
        self.disconnect()

    # -- requests ---------------------------------------------------------------------------------------------------------------

    def _write_check(self) -> Iterator[Command]:
        """Write a key of no meaning after a failure. A look alone writes nothing: a full server or a replica would seem healthy."""
        if self._check_writable:
            yield "SET", f"{self._namespace}:writable", "1", "PX", str(_WRITE_CHECK_MS)

    def _command(self, request: StepRequest) -> Command:
        keys = [self._key(request.client, _FORMAT), self._key(request.client, ":log")]
        if request.order is not None and request.order.is_new:
            keys.append(self._key(request.client, _ORDERS))
        # EVALSHA sends 40 characters in place of the whole script. A server that does not know it answers NOSCRIPT.
        return ("EVALSHA", self._sha, str(len(keys)), *keys, *self._arguments(request))

    def _arguments(self, request: StepRequest) -> Command:
        policy = encode_policy(request.policy or _DEFAULT_POLICY)
        return policy, encode_request(request), str(self._log_length)

    def _key(self, client: str, suffix: str) -> str:
        return f"{self._namespace}:{{{encode_name(client).translate(_ESCAPES)}}}{suffix}"

    def _decode(self, request: StepRequest, reply: Any) -> StepReply | Exception:
        if isinstance(reply, Exception):
            return reply
        found = decode_reply(request, reply)
        if reply[14]:
            # The hash did not exist. So the server may have lost everything, the set of names too: register the client again.
            self._registered.discard(request.client)
        damage_warning.note("circuit", request.client, unreadable_fields(reply) + found.damaged)
        return found

    # -- the connection ---------------------------------------------------------------------------------------------------------

    def _send(self, commands: Sequence[Command], size: int = _STEP_BYTES) -> list[Any]:
        """Send each command to the server of its key. Return the replies in order; an error stands in the place of its reply.

        Args:
            commands: the commands.
            size: bytes that the reply to one command may have.

        Raises:
            redis.RedisError: a server cannot be reached, did not answer in time, or sent more than it may.
        """
        with self._link.bounded(_BASE_BYTES + size * len(commands)):
            try:
                return self._send_bounded(commands)
            except Exception as exc:  # noqa: BLE001 - an error of any library may repeat what was sent
                raise self._link.without_secrets(exc) from None

    def _send_bounded(self, commands: Sequence[Command]) -> list[Any]:
        try:
            replies = self._pipeline(commands)
            refused = [n for n, reply in enumerate(replies) if isinstance(reply, NoScriptError | MovedError)]
            if refused:  # these were not carried out, so they may be sent again
                self._prepare(moved=any(isinstance(replies[n], MovedError) for n in refused))
                for n, reply in zip(refused, self._pipeline([commands[n] for n in refused]), strict=True):
                    replies[n] = reply
        except BaseException:
            # A late reply on this connection would be read as the answer to the next command. And a cluster may have changed.
            self.disconnect()
            raise
        return [self._link.without_secrets(reply) for reply in replies]

    def _prepare(self, *, moved: bool) -> None:
        if moved:
            self.disconnect()
        self._connect().load_script(self._script)

    def _pipeline(self, commands: Sequence[Command]) -> list[Any]:
        """Send commands grouped by server, one round trip each."""
        connection = self._connect()
        by_server: dict[int, tuple[Any, list[int]]] = {}
        for n, command in enumerate(commands):
            # EVALSHA names its keys after the hash and their number; every other command here begins with its key.
            server = connection.server_for(command[3] if command[0] == "EVALSHA" else command[1])
            by_server.setdefault(id(server), (server, []))[1].append(n)
        replies: list[Any] = [None] * len(commands)
        for server, numbers in by_server.values():
            with server.pipeline(transaction=False) as pipe:
                for n in numbers:
                    pipe.execute_command(*commands[n])
                for n, reply in zip(numbers, pipe.execute(raise_on_error=False), strict=True):
                    replies[n] = reply
        return replies

    def _connect(self) -> RedisConnection:
        return self._link.connect()


def _unescape(text: str) -> str:
    """Return a name as it was before `_ESCAPES`."""
    return text.replace("%7B", "{").replace("%7D", "}").replace("%25", "%")


def open_redis(url: str, namespace: str = NAMESPACE) -> RedisStore:
    """Return the store of circuits that a Redis URL names. Nothing is connected before the first step.

    Args:
        url: one of

            - `redis://[user:password@]host[:6379][/db]`, `rediss://` for TLS, `unix:///path/to/socket[?db=0]`,
            - `redis+sentinel://[user:password@]host[:26379],host2/master[/db]`,
            - `redis+cluster://[user:password@]host[:6379],host2`,

            each also as `valkey`, and the last two also with TLS as `rediss+`. Options after a question mark: `db`,
            `socket_timeout` and `socket_connect_timeout` (seconds), `username`, `password`, `sentinel_username`,
            `sentinel_password`, `ssl_ca_certs`, `ssl_certfile`, `ssl_keyfile`, `ssl_cert_reqs`.
        namespace: the start of every key.

    Raises:
        ConfigurationError: the URL cannot be understood. The message never shows its password.
    """
    return RedisStore(parse(url), namespace=namespace)


def _entries(client: str, stream: Any) -> Iterator[tuple[int, str, int, Mapping[str, Any]]]:
    """Return the entries of a circuit's log, as tuples that sort by the server's time."""
    if isinstance(stream, Exception):
        raise stream
    for entry_id, fields in stream:
        ms, _, number = entry_id.partition("-")
        yield int(ms), client, int(number), fields


def _positions(cursor: str) -> dict[str, str]:
    """Return the stream position of each client in a cursor; none for the cursor of another store."""
    try:
        positions = json.loads(cursor or "{}")
    except ValueError:
        positions = {}
    if not isinstance(positions, dict):
        return {}
    return {client: str(position) for client, position in positions.items()}
