"""Sends packets from every node of a region to every other, and says what fails where.

Each node gets two connections: one sends to every node, the other answers everybody.
"""

import asyncio
import contextlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from derpctl.probe.matrix import Cell, Outcome
from derpctl.probe.target import Target
from derpnode.client import (
    Client,
    ClientError,
    LoginFailed,
    PeerGone,
    Received,
    RelayFailed,
    connect,
)
from derpnode.wire.frames import DISCO_MAGIC
from derpnode.wire.keys import KEY_SIZE, MeshKey, NodeKey, PrivateKey
from derpnode.wire.payloads import GoneReason


SMALLEST = 8
"""Bytes of a packet: as many as its token has."""

_TOKEN = 8
_GREETING = 0.1  # seconds between greetings
_LAST_WORD = 2.0  # a server says once a second that it does not know somebody
_ARRIVAL = 1.0  # seconds after which a packet is lost


@dataclass(frozen=True, slots=True)
class Plan:
    """How to probe."""

    count: int
    """Packets for each pair."""
    size: int
    """Bytes of each."""
    threshold: float
    """Seconds that the median round trip may take."""
    timeout: float
    """Seconds for a login, and for the first packet of a pair."""
    mesh_key: MeshKey | None = None


@dataclass
class Station:
    """One connection to a node."""

    node: str
    client: Client
    echoes: bool
    """Whether it answers everybody, or waits for answers."""
    expected: dict[bytes, asyncio.Future[float]] = field(default_factory=dict)
    """Tokens that somebody waits for; the future gets the time of arrival."""
    unknown: set[NodeKey] = field(default_factory=set)
    """Whom its node said that it does not know."""
    broken: str = ""
    """Why it is over."""

    async def listen(self) -> None:
        """Note what arrives, and answer it; ends with the connection."""
        with contextlib.suppress(RelayFailed):
            while True:
                match await self._heard():
                    case Received(source, data):
                        self._arrived(data[-_TOKEN:])
                        if self.echoes:
                            await self.client.send(source, data)
                    case PeerGone(key, GoneReason.NOT_HERE):
                        self.unknown.add(key)
                    case _:
                        pass

    async def _heard(self) -> object:
        try:
            return await self.client.recv()
        except RelayFailed as exc:
            self.broken = str(exc)
            raise

    def _arrived(self, token: bytes) -> None:
        waiting = self.expected.pop(token, None)
        if waiting is not None and not waiting.done():
            waiting.set_result(asyncio.get_running_loop().time())

    def expect(self, token: bytes) -> asyncio.Future[float]:
        """Wait for a token."""
        found: asyncio.Future[float] = asyncio.get_running_loop().create_future()
        self.expected[token] = found
        return found


@dataclass(frozen=True, slots=True)
class Absent:
    """A node that we have no connection to, and why."""

    outcome: Outcome
    detail: str


Pair = tuple[Station, Station]
"""The one that sends, and the one that answers."""


async def probe(targets: Mapping[str, Target | Absent], plan: Plan) -> list[Cell]:
    """Probe every ordered pair, each node with itself included."""
    async with contextlib.AsyncExitStack() as stack:
        found = await asyncio.gather(
            *(_stations(stack, name, target, plan) for name, target in targets.items())
        )
        ends = dict(zip(targets, found, strict=True))
        async with asyncio.TaskGroup() as group:
            stations = [
                one for pair in found if isinstance(pair, tuple) for one in pair
            ]
            listening = [group.create_task(one.listen()) for one in stations]
            rows = await asyncio.gather(*(_row(name, ends, plan) for name in ends))
            for task in listening:
                task.cancel()
    return [cell for row in rows for cell in row]


async def _stations(
    stack: contextlib.AsyncExitStack, name: str, target: Target | Absent, plan: Plan
) -> Pair | Absent:
    if isinstance(target, Absent):
        return target
    try:
        sender = await _login(stack, target, plan)
        answerer = await _login(stack, target, plan)
    except LoginFailed as exc:
        return Absent(Outcome.REFUSED, f"{name}: {exc.layer}: {exc}")
    except ClientError as exc:
        return Absent(Outcome.CONNECT_FAILED, f"{name}: {exc.layer}: {exc}")
    return Station(name, sender, echoes=False), Station(name, answerer, echoes=True)


async def _login(
    stack: contextlib.AsyncExitStack, target: Target, plan: Plan
) -> Client:
    relay = target.relay
    login = connect(
        relay.host,
        relay.port,
        private=PrivateKey.from_seed(os.urandom(KEY_SIZE)),
        tls=relay.tls,
        addresses=relay.addresses,
        mesh_key=plan.mesh_key,
        is_prober=True,
        timeout=plan.timeout,
    )
    return await stack.enter_async_context(login)


async def _row(
    source: str, ends: Mapping[str, Pair | Absent], plan: Plan
) -> list[Cell]:
    """Probe from one node: first who is known there, all at once; then the packets."""
    here = ends[source]
    if isinstance(here, Absent):
        return [Cell(source, name, here.outcome, here.detail) for name in ends]
    sender = here[0]
    known = await asyncio.gather(*(_meet(sender, end, plan) for end in ends.values()))
    cells = []
    for name, met in zip(ends, known, strict=True):
        there, cell = ends[name], Cell(source, name, *met)
        if isinstance(there, Absent):
            cells.append(cell)
        elif cell.outcome is Outcome.OK:
            cells.append(await _packets(sender, there[1], plan, cell))
        else:
            cells.append(await _explained(sender, there[1], cell))
    return cells


Met = tuple[Outcome, str, float | None]


async def _meet(sender: Station, there: Pair | Absent, plan: Plan) -> Met:
    """Send what looks like path discovery until it arrives, or for long enough."""
    if isinstance(there, Absent):
        return there.outcome, there.detail, None
    clock = asyncio.get_running_loop().time
    began, receiver = clock(), there[1]
    while clock() < began + plan.timeout:
        token = os.urandom(_TOKEN)
        arrival = receiver.expect(token)
        if not await _send(sender, receiver, _greeting(token)):
            return Outcome.LOST, sender.broken, None
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_GREETING):
                return Outcome.OK, "", await arrival - began
    return Outcome.LOST, f"nothing arrived in {plan.timeout:g} s", None


def _greeting(token: bytes) -> bytes:
    """Make what looks like path discovery.

    A server says of that, and of nothing else, that it does not know the receiver.
    """
    return DISCO_MAGIC + bytes(KEY_SIZE + 24) + token


async def _explained(sender: Station, receiver: Station, cell: Cell) -> Cell:
    """Find out whether the sender's node knows the receiver now.

    It may not have at first, which says nothing. For one pair at a time, as it says
    so once a second, whomever it does not know.
    """
    clock = asyncio.get_running_loop().time
    key, began = receiver.client.key, clock()
    sender.unknown.discard(key)
    while clock() < began + _LAST_WORD and key not in sender.unknown:
        if not await _send(sender, receiver, _greeting(os.urandom(_TOKEN))):
            return cell
        await asyncio.sleep(_GREETING)
    if key not in sender.unknown:
        return cell
    detail = f"{sender.node} does not know who is there"
    return replace(cell, outcome=Outcome.NOT_ANNOUNCED, detail=detail)


async def _packets(sender: Station, receiver: Station, plan: Plan, cell: Cell) -> Cell:
    """Send the packets of a pair that has met, one after the other."""
    received = 0
    trips: list[float] = []
    clock = asyncio.get_running_loop().time
    for _ in range(plan.count):
        token = os.urandom(_TOKEN)
        arrival, answer = receiver.expect(token), sender.expect(token)
        began = clock()
        data = bytes(plan.size - _TOKEN) + token
        if not await _send(sender, receiver, data):
            break
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_ARRIVAL):
                await arrival
                received += 1
                trips.append(await answer - began)
        receiver.expected.pop(token, None)
        sender.expected.pop(token, None)
    return _judged(replace(cell, sent=plan.count, received=received, trips=trips), plan)


async def _send(sender: Station, receiver: Station, data: bytes) -> bool:
    """Send a packet; tell whether the connection still stands."""
    try:
        await sender.client.send(receiver.client.key, data)
    except RelayFailed as exc:
        sender.broken = str(exc)
    return not sender.broken


def _judged(cell: Cell, plan: Plan) -> Cell:
    if cell.received < cell.sent:
        detail = f"{cell.sent - cell.received} of {cell.sent} packets did not arrive"
        return replace(cell, outcome=Outcome.LOST, detail=detail)
    if cell.median is not None and cell.median > plan.threshold:
        took, most = cell.median * 1000, plan.threshold * 1000
        detail = f"a round trip takes {took:.1f} ms, more than {most:.1f} ms"
        return replace(cell, outcome=Outcome.SLOW, detail=detail)
    return cell
