"""Proves that a region relays: real packets between clients, compared and timed."""

import asyncio
import contextlib
import os
import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations, product

from derpctl.errors import CtlError
from derpctl.exits import Exit
from derpnode.client import Client, ClientError, ClientTls, Received, connect
from derpnode.wire.keys import KEY_SIZE, MeshKey, PrivateKey


SIZES = (1, 1_400, 65_536)
"""Bytes of the packets that are compared: smallest, usual, largest."""

ROUNDS = 50
"""Round trips that are measured."""

_TRIP_SIZE = 64  # bytes of a packet whose round trip is measured
_GREETING = 0.05  # seconds between greetings
_PATIENCE = 10.0  # seconds for one packet or login
_PERCENTILE = 95


@dataclass(frozen=True, slots=True)
class Place:
    """A client to be, and where it connects."""

    name: str
    node: str
    number: int
    """Which of its node's clients it is: the first sends, the second receives."""
    host: str
    port: int
    addresses: tuple[str, ...]
    tls: ClientTls
    mesh_key: MeshKey | None = None
    """Only for nodes that admit no strangers."""


@dataclass(frozen=True, slots=True)
class Trips:
    """Round trips between two ends, in seconds."""

    source: str
    target: str
    found: Sequence[float]

    @property
    def median(self) -> float:
        """Half of them were faster."""
        return statistics.median(self.found)

    @property
    def p95(self) -> float:
        """All but five of a hundred were faster."""
        index = -(-len(self.found) * _PERCENTILE // 100) - 1
        return sorted(self.found)[index]

    def members(self) -> dict[str, object]:
        """Give it as JSON has it."""
        return {
            "from": self.source,
            "to": self.target,
            "rtt_median": self.median,
            "rtt_p95": self.p95,
        }


@dataclass(frozen=True, slots=True)
class Proof:
    """What was proved."""

    packets: int
    """Packets that arrived as they were sent."""
    pairs: Sequence[Trips]
    """Between clients, through the relay, there and back."""
    pings: Sequence[Trips]
    """Between a client and its node."""

    def members(self) -> dict[str, object]:
        """Give it as JSON has it."""
        return {
            "packets": self.packets,
            "sizes": list(SIZES),
            "pairs": [trips.members() for trips in self.pairs],
            "pings": [trips.members() for trips in self.pings],
        }


async def prove(places: Sequence[Place]) -> Proof:
    """Send packets over every ordered pair of clients.

    Raises:
        CtlError: One did not arrive, or not as it was.
    """
    try:
        async with contextlib.AsyncExitStack() as stack:
            clients = {
                place: await stack.enter_async_context(_client(place))
                for place in places
            }
            return await _exchange(clients)
    except ClientError as exc:
        value, hint = "the proof", exc.hint
        reason = f"{exc.layer}: {exc.value}: {exc.reason}"
        raise CtlError(value, reason, hint, Exit.CRITICAL) from exc


def _client(place: Place) -> contextlib.AbstractAsyncContextManager[Client]:
    return connect(
        place.host,
        place.port,
        private=PrivateKey.from_seed(os.urandom(KEY_SIZE)),
        tls=place.tls,
        addresses=place.addresses,
        mesh_key=place.mesh_key,
        timeout=_PATIENCE,
    )


def _pairs(places: Iterable[Place]) -> Iterator[tuple[Place, Place]]:
    """Yield every ordered pair of clients of one node, or of nodes of several."""
    found = list(places)
    if len({place.node for place in found}) == 1:
        yield from permutations(found, 2)
        return
    senders = [place for place in found if place.number == 0]
    receivers = [place for place in found if place.number == 1]
    yield from product(senders, receivers)


async def _exchange(clients: Mapping[Place, Client]) -> Proof:
    packets, pairs = 0, []
    alone = len({place.node for place in clients}) == 1
    for source, target in _pairs(clients):
        sender, receiver = clients[source], clients[target]
        await _meet(sender, receiver)
        for size in SIZES:
            await _carry(sender, receiver, os.urandom(size))
        trips = [await _round_trip(sender, receiver) for _ in range(ROUNDS)]
        packets += len(SIZES) + 2 * ROUNDS
        ends = (source.name, target.name) if alone else (source.node, target.node)
        pairs.append(Trips(*ends, trips))
    pings = [
        Trips(place.name, "node", [await client.ping() for _ in range(ROUNDS)])
        for place, client in clients.items()
    ]
    return Proof(packets, pairs, pings)


async def _meet(sender: Client, receiver: Client) -> None:
    """Send until something arrives: news of a client takes a moment to spread."""
    greeting = os.urandom(_TRIP_SIZE)
    wanted = Received(sender.key, greeting)
    clock = asyncio.get_running_loop().time
    deadline = clock() + _PATIENCE
    while clock() < deadline:
        await sender.send(receiver.key, greeting)
        try:
            async with asyncio.timeout(_GREETING):
                while await receiver.recv() != wanted:
                    pass
        except TimeoutError:
            continue
        return
    value = "the first packet"
    reason, hint = f"did not arrive in {_PATIENCE:g} s", "see the nodes' logs"
    raise CtlError(value, reason, hint, Exit.CRITICAL)


async def _round_trip(sender: Client, receiver: Client) -> float:
    clock = asyncio.get_running_loop().time
    packet, started = os.urandom(_TRIP_SIZE), clock()
    await _carry(sender, receiver, packet)
    await _carry(receiver, sender, packet)
    return clock() - started


async def _carry(sender: Client, receiver: Client, packet: bytes) -> None:
    """Send a packet, and wait until it is there."""
    wanted = Received(sender.key, packet)
    try:
        async with asyncio.timeout(_PATIENCE):
            await sender.send(receiver.key, packet)
            while await receiver.recv() != wanted:
                pass  # keepalives
    except TimeoutError as exc:
        value = f"a packet of {len(packet)} bytes"
        reason, hint = f"did not arrive in {_PATIENCE:g} s", "see the node's log"
        raise CtlError(value, reason, hint, Exit.CRITICAL) from exc
