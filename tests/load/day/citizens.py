"""The clients of a day: they log in, move, and come back by themselves when cut."""

import asyncio
import contextlib
import random
import socket
import struct
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from derpnode import client as derp
from derpnode.client import ClientError, Received
from derpnode.wire.keys import PrivateKey
from tests.load.day.diary import Diary
from tests.load.day.homes import Home
from tests.load.day.mail import MENDED, Mail
from tests.mesh.region import DERP_PORT


BACKOFF = (0.1, 2.0)
"""Seconds between two rounds of attempts, at first and at most; drawn below that."""

_RESET = struct.pack("ii", 1, 0)  # SO_LINGER: close with a reset, not a FIN


@dataclass(eq=False)
class Stay:
    """A connection of a client to a node."""

    home: Home
    client: derp.Client
    since: float
    """On the monotonic clock."""

    over: asyncio.Event = field(default_factory=asyncio.Event)
    """It ended, or was left behind."""

    is_given_up: bool = False
    """Whether the client has ended it, or left it behind."""

    async def close(self) -> None:
        """End it in good order."""
        self.is_given_up = True
        await self.client.stream.close()

    def reset(self) -> None:
        """End it with no goodbye."""
        self.is_given_up = True
        transport = self.client.stream._transport
        sock = transport.get_extra_info("socket")
        if sock is not None:  # its node may have been faster
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        transport.abort()

    def leave_behind(self) -> None:
        """Say nothing more by it, and leave it open."""
        self.is_given_up = True
        self.client.stream.answers_pings = False
        self.over.set()


class Citizen:
    """A client, wherever it is.

    Args:
        name: For the diary.
        source: Draws its key, where it goes, and how long it waits.
        homes: Where it may go.
        tasks: Runs what goes on beside it.
        mail: Told of the packets that come.
        diary: Told of what it goes through.
    """

    def __init__(
        self,
        name: str,
        source: random.Random,
        homes: Sequence[Home],
        tasks: asyncio.TaskGroup,
        mail: Mail,
        diary: Diary,
    ) -> None:
        self.name = name
        self.private = PrivateKey.from_seed(source.randbytes(32))
        self.key = self.private.public
        self.stay: Stay | None = None
        """Where it is; None while it is nowhere."""

        self.ghosts: list[Stay] = []
        """Connections that it left behind, and that nobody has ended."""

        self.logins = 0
        self._order = source.sample(homes, len(homes))
        self._random = source
        self._tasks = tasks
        self._mail = mail
        self._diary = diary
        self._has_left = False
        tasks.create_task(self._live())

    def read_by(self, mail: Mail) -> None:
        """Tell somebody else of packets from now on."""
        self._mail = mail

    # What it does.

    async def leave(self) -> None:
        """Log out for ever."""
        self._has_left = True
        if self.stay is not None:
            await self.stay.close()

    def vanish(self) -> None:
        """Be gone for ever, with no goodbye."""
        self._has_left = True
        if self.stay is not None:
            self.stay.reset()

    async def move(self, *, closing: bool, to: Home | None = None) -> None:
        """Go to another node; to any if none is named."""
        stay = self.stay
        if stay is None:
            return
        others = [home for home in self._order if home not in (stay.home, to)]
        others = [*self._random.sample(others, len(others)), stay.home]
        self._order = [to, *others] if to is not None else others
        self._diary.note(
            self.name, f"goes from {stay.home.name} to {self._order[0].name}"
        )
        if closing:
            await stay.close()
        else:
            self.ghosts.append(stay)
            self.stay = None
            stay.leave_behind()

    # How it lives.

    async def _live(self) -> None:
        low, high = BACKOFF
        while not self._has_left:
            stay = await self._log_in()
            if stay is None:
                await asyncio.sleep(self._random.uniform(0.0, low))
                low = min(2 * low, high)
                continue
            low = BACKOFF[0]
            await stay.over.wait()

    async def _log_in(self) -> Stay | None:
        """Try each node, the best first."""
        for home in self._order:
            stack = contextlib.AsyncExitStack()
            way = derp.connect(home.host, DERP_PORT, private=self.private, tls=home.tls)
            with contextlib.suppress(ClientError):
                client = await stack.enter_async_context(way)
                stay = self.stay = Stay(home, client, time.monotonic())
                self._tasks.create_task(self._listen(stay, stack))
                self._count()
                if self._has_left:
                    await stay.close()
                return stay
        return None

    def _count(self) -> None:
        """Count a login, which is a join the first time."""
        self._diary.counts["returns" if self.logins else "joins"] += 1
        self.logins += 1

    def _cut(self, stay: Stay, reason: str) -> None:
        """Note that a node has ended a connection, and whether it was well."""
        is_well = stay.home.calm_since + MENDED <= time.monotonic()
        self._diary.counts["cut by a node that is well"] += is_well
        self._diary.note(self.name, f"is cut: {reason}{', why?' if is_well else ''}")

    async def _listen(self, stay: Stay, stack: contextlib.AsyncExitStack) -> None:
        """Take what comes until the connection is over."""
        try:
            while True:
                message = await stay.client.recv()
                if isinstance(message, Received) and self.stay is stay:
                    self._mail.arrived(message.data, stay)
        except ClientError as exc:
            if not stay.is_given_up:
                self._cut(stay, str(exc))
        if self.stay is stay:
            self.stay = None
        if stay in self.ghosts:
            self.ghosts.remove(stay)
        stay.over.set()
        await stack.aclose()
