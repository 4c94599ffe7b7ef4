"""Moves the clients of a node that would rather be on another one, a few at a time.

Where the region is recorded in etcd, its leader says how many from where, so that the
rate is that of the region; else each node moves its own.
"""

import asyncio
import logging
import os
import time
from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator, Mapping
from typing import Protocol

from derpmesh.config import HomingSection
from derpmesh.homing.budget import budget, plan
from derpmesh.homing.strays import Guest, Strays
from derpmesh.membership.command import Command
from derpnode.kinds import Kind
from derpnode.plane.contract import ConnectionId, Plane
from derpnode.relay.relay import Relay
from derpnode.server.journal import Journal


logger = logging.getLogger(__name__)

LOOK = 10.0
"""Seconds, at most, between two looks at the strays."""

Sleep = Callable[[float], Awaitable[None]]


class Host(Protocol):
    """The node whose clients are moved."""

    relay: Relay
    plane: Plane
    journal: Journal

    @property
    def state(self) -> str:
        """One of `starting`, `serving`, `unready`, `draining`, `drained`."""

    def move(self, connections: Iterable[int], *, to: str) -> None:
        """Close connections, so that their clients go to another node."""


class Keeper:
    """Brings the clients of one node home.

    Args:
        name: Of the node.
        node: The node.
        settings: How fast, and when.
        members: Names the nodes of the region; clients may name anything.
        serving: Names the other nodes that take clients now.
        command: What the region's leader says; None: there is none.
        clock: Seconds, monotonic.
        sleep: Waits so many seconds.
    """

    def __init__(  # noqa: PLR0913 - what it needs, one by one
        self,
        name: str,
        node: Host,
        settings: HomingSection,
        *,
        members: Callable[[], Collection[str]],
        serving: Callable[[], Iterable[str]],
        command: Command | None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        self._name = name
        self._node = node
        self._settings = settings
        self._members = members
        self._serving = serving
        self._command = command
        self._clock = clock
        self._sleep = sleep
        self._since: dict[str, float] = {}  # when each node began to serve
        self._due = clock() + settings.interval
        self.strays = Strays(clock)

    async def run(self) -> None:
        """Bring clients home until cancelled."""
        while True:
            await self._sleep(min(LOOK, self._settings.interval / 2))
            await self.turn()

    async def turn(self) -> None:
        """Look at the strays, and move whom it is time to move."""
        now = self._clock()
        self.strays.look(self._guests())
        self._note_serving(now)
        is_due = now >= self._due
        if is_due:
            self._due = now + self._settings.interval
        if self._command is None:
            if is_due and self._settings.enabled:
                self._move(self._own_plan())
            return
        order = self._command.next_order()
        if order is not None and self._settings.enabled:
            self._move(order.moves.get(self._name, {}))
        if is_due and await self._command.leads():
            await self._lead(self._command)

    def _guests(self) -> Iterator[Guest]:
        others = set(self._members()) - {self._name}
        for client in self._node.relay.clients():
            if client.ideal in others and not client.mesh and not client.prober:
                stats = self._node.plane.stats(ConnectionId(client.connection))
                packets = stats.rx_packets + stats.tx_packets
                yield Guest(client.connection, client.key, client.ideal, packets)

    def _note_serving(self, now: float) -> None:
        """Note since when each node has been serving."""
        serving = set(self._serving())
        if self._node.state == "serving":
            serving.add(self._name)
        self._since = {name: self._since.get(name, now) for name in serving}

    def _ready(self) -> set[str]:
        """Name the nodes that have been serving for a while."""
        until = self._clock() - self._settings.after
        return {name for name, since in self._since.items() if since <= until}

    def _own_plan(self) -> Mapping[str, int]:
        """Plan for this node alone."""
        movable = self.strays.movable()
        most = budget(sum(movable.values()), self._settings.share)
        return plan({self._name: movable}, self._ready(), most).get(self._name, {})

    async def _lead(self, command: Command) -> None:
        """Tell every node how many clients to move in this round."""
        movable = {**command.strays(), self._name: self.strays.movable()}
        strays = sum(sum(counts.values()) for counts in movable.values())
        most = budget(strays, self._settings.share)
        moves = plan(movable, self._ready(), most)
        if moves:
            plain = {source: dict(counts) for source, counts in moves.items()}
            await command.give(os.urandom(8).hex(), plain)

    def _move(self, moves: Mapping[str, int]) -> None:
        """Move clients of this node, if it serves, and where they go serves."""
        if self._node.state != "serving":
            return
        for ideal, count in moves.items():
            if ideal not in self._since or ideal == self._name:
                continue
            found = self.strays.take(ideal, count)
            if found:
                self._node.move(found, to=ideal)
                text = f"{len(found)} clients sent home to {ideal}"
                logger.info("homing: %s", text)
                self._node.journal.add(Kind.HOMING, ideal, text, clients=len(found))
