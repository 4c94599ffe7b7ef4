"""One link: its connection of the moment, what came over it, and how it is."""

import enum
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from derpmesh.link.backoff import delays
from derpmesh.link.peering import (
    LinkFailure,
    LinkToSelf,
    MeshKeyDoubted,
    Peering,
    Stage,
    TooManyKeys,
)
from derpmesh.link.plan import Target
from derpnode.plane.contract import (
    Bytes,
    Closed,
    CloseReason,
    Connected,
    ConnectionId,
    Event,
    Flags,
    Frame,
    Plane,
    ReceiveLimit,
    Stats,
)
from derpnode.relay.relay import Relay
from derpnode.wire.keys import NONCE_SIZE, MeshKey, NodeKey, PrivateKey
from derpnode.wire.meshring import MeshRing


STEADY = 30.0
"""Seconds a link must have been up for its delays to start anew."""

EXCESS_RETRY = 60.0
"""Seconds until a peer that announced too much is dialled again, as to take all of it
again, and then to forget it, costs seconds of CPU."""

LONGEST_WAIT = 4.0
"""Seconds, at most, until a peer is dialled again: after an outage, however long, it is
to be linked within 5 s. Source: peers-threats-faults.md 4.4, M3 and M4."""

_MAX_STATE = 4096  # bytes of what a peer says of itself


class LinkState(enum.Enum):
    """What a link is doing."""

    WAITING = "waiting"
    """It failed, and will be tried again."""

    CONNECTING = "connecting"
    UP = "up"
    SELF = "self"
    """The other end is this node; there is nothing to link to."""


@dataclass(frozen=True)
class LinkStatus:
    """A link as others are told of it."""

    peer: str
    state: LinkState
    since: float
    """Seconds since it has been in this state."""

    keys: int
    round_trip: float | None
    """Seconds of the last ping; None before the first."""

    forwarded_packets: int
    forwarded_bytes: int
    error: str
    """Why it was lost or could not be had, the last time; empty if never."""

    peer_state: str
    """What a node of ours says of itself; empty if it says nothing."""

    peer_version: str
    is_member: bool
    mesh_key: str
    """Fingerprint of the key that it was dialled with, the last time."""

    renewing: bool
    """Whether it is to be, or is being, dialled again with another mesh key."""


class Link:
    """Keeps one link.

    Args:
        target: Where to.
        identity: This node's key.
        mesh_keys: Gives the keys that it may prove, as they are now.
        plane: Moves its bytes.
        relay: Told of the peer's clients.
        now: Seconds, monotonic.
    """

    def __init__(
        self,
        target: Target,
        identity: PrivateKey,
        mesh_keys: Callable[[], MeshRing],
        plane: Plane,
        relay: Relay,
        *,
        now: float,
    ) -> None:
        self.target = target
        self._identity = identity
        self._mesh_keys = mesh_keys
        self._plane = plane
        self._relay = relay
        self._now = now
        self._delays: Iterator[float] = delays(most=LONGEST_WAIT)
        self._peering: Peering | None = None
        self._sent = (0, 0)
        self._doubts = 0  # attempts in a row that ended as if by the mesh key
        self.mesh_key: MeshKey | None = None
        """What it was dialled with, the last time."""

        self.renewing = False
        """Whether it is to be, or is being, dialled again with another mesh key."""

        self.connection: ConnectionId | None = None
        self.state = LinkState.WAITING
        self.changed = now
        self.retry = now
        """When to dial again, while waiting."""

        self.attempts = 0
        """How often it was dialled."""

        self.error = ""
        self.peer: dict[str, object] = {}
        """What the peer says of itself."""

    # Dialling.

    def dialing(self, connection: ConnectionId | None, now: float) -> None:
        """Note that an attempt began, or that its name is being looked up."""
        self._now = now
        self.connection = connection
        if self.state is not LinkState.CONNECTING:
            self._set(LinkState.CONNECTING)
        if connection is None:
            self.attempts += 1
            return
        # A Go derper has one key and hangs up on every other. While the key is
        # replaced, that may be the next one already, or still the previous one.
        keys = self._mesh_keys().keys
        self.mesh_key = keys[self._doubts % len(keys)]
        self._peering = Peering(
            self,
            self,
            identity=self._identity,
            mesh_key=self.mesh_key,
            host=self.target.host,
            pin=self.target.pin,
        )

    def failed(self, reason: str, now: float) -> None:
        """Note that the link is lost, or could not be had; it is tried again."""
        self._now = now
        self._doubts = 0
        lasted = now - self.changed if self.state is LinkState.UP else 0.0
        if lasted > STEADY:
            self._delays = delays(most=LONGEST_WAIT)
        self._lose(reason)
        self._set(LinkState.WAITING)
        self.retry = now + next(self._delays)

    def close(self, now: float) -> None:
        """End the link for good."""
        self._now = now
        self._lose("not wanted any more")

    def renew(self, now: float) -> None:
        """End the connection in good order, to be dialled again: the key is another."""
        self._now = now
        self._doubts = 0
        self._delays = delays(most=LONGEST_WAIT)
        self._lose("another mesh key", abort=False)
        self._set(LinkState.WAITING)
        self.error = ""
        self.retry = now

    def _lose(self, reason: str, *, abort: bool = True) -> None:
        connection, self.connection = self.connection, None
        self._peering = None
        self.error = reason
        self.peer = {}
        if connection is not None:
            self._count(self._plane.stats(connection))
            self._relay.link_lost(connection)
            self._plane.close(connection, reason, abort=abort)

    def _count(self, stats: Stats) -> None:
        """Keep what went over a connection that ends; only one of two tells it."""
        packets, size = self._sent
        self._sent = (packets + stats.tx_packets, size + stats.tx_bytes)

    def _set(self, state: LinkState) -> None:
        self.state = state
        self.changed = self._now

    # Events.

    def event(self, event: Event) -> None:
        """Act on an event of the link's connection."""
        if event.id != self.connection or self._peering is None:
            return
        try:
            self._event(event, self._peering)
        except LinkToSelf as exc:
            self._lose(str(exc))
            self._set(LinkState.SELF)
        except TooManyKeys as exc:
            self.failed(str(exc), self._now)
            self.retry = self._now + EXCESS_RETRY
        except LinkFailure as exc:
            doubts = self._doubts + 1 if isinstance(exc, MeshKeyDoubted) else 0
            self.failed(str(exc), self._now)
            self._doubts = doubts

    def _event(self, event: Event, peering: Peering) -> None:
        match event:
            case Connected():
                peering.connected(event.certificate)
            case Bytes():
                peering.received(event.data, self._now, os.urandom(NONCE_SIZE))
            case Frame():
                peering.frame(event.kind, event.payload, self._now)
            case Closed():
                self._count(event.stats)
                raise _failure(event, peering)
            case _:
                pass

    def tick(self, now: float) -> None:
        """Ping when it is time, and give up on a peer that does not answer."""
        self._now = now
        if self._peering is not None:
            try:
                self._peering.tick(now)
            except LinkFailure as exc:
                self.failed(str(exc), now)

    def at(self, now: float) -> None:
        """Note the time of the events that follow."""
        self._now = now

    # What the peering commands.

    def send(self, data: bytes) -> None:
        """Queue bytes."""
        if self.connection is not None:
            self._plane.send(self.connection, data)

    def attach(self, key: NodeKey, offset: int) -> None:
        """Have frames parsed from an offset on."""
        if self.connection is not None:
            flags = Flags.LINK | Flags.MESH
            self._plane.attach(self.connection, key, offset, flags, ReceiveLimit())

    # What the peering learns.

    def announced(self, key: NodeKey, *, in_flood: bool) -> None:
        """A client is connected at the peer."""
        if self.connection is not None:
            self._relay.announced(key, self.connection, self._now, in_flood=in_flood)

    def withdrawn(self, key: NodeKey) -> None:
        """A client is connected there no more."""
        if self.connection is not None:
            self._relay.withdrawn(key, self.connection)

    def up(self, server_key: NodeKey) -> None:
        """Packets may take the link."""
        self.error = ""
        self._doubts = 0
        self._set(LinkState.UP)

    def state_of_peer(self, document: bytes) -> None:
        """Keep what a node of ours says of itself."""
        if len(document) > _MAX_STATE:
            return
        try:
            found = json.loads(document)
        except (ValueError, RecursionError):
            return
        if isinstance(found, dict):
            self.peer = found

    # Telling.

    @property
    def is_serving(self) -> bool:
        """Whether clients that are sent away may go there, as far as one knows.

        A Go derper says nothing of itself; that the link is up must do.
        """
        said = self.peer.get("state", "serving")
        return self.state is LinkState.UP and said == "serving"

    def status(self, now: float) -> LinkStatus:
        """Describe the link."""
        stats = (0, 0)
        if self.connection is not None:
            found = self._plane.stats(self.connection)
            stats = (found.tx_packets, found.tx_bytes)
        peering = self._peering
        return LinkStatus(
            peer=self.target.name,
            state=self.state,
            since=now - self.changed,
            keys=peering.keys if peering is not None else 0,
            round_trip=peering.round_trip if peering is not None else None,
            forwarded_packets=self._sent[0] + stats[0],
            forwarded_bytes=self._sent[1] + stats[1],
            error=self.error,
            peer_state=str(self.peer.get("state", "")),
            peer_version=str(self.peer.get("version", "")),
            is_member=self.target.is_member,
            mesh_key=self.mesh_key.fingerprint() if self.mesh_key is not None else "",
            renewing=self.renewing,
        )


def _failure(closed: Closed, peering: Peering) -> LinkFailure:
    """Put the end of a connection into words for an operator."""
    detail = f": {closed.detail}" if closed.detail else ""
    text = f"{closed.reason.value}{detail}"
    if closed.reason is CloseReason.EOF:
        text = "closed by the peer"
    elif closed.reason is not CloseReason.RESET:
        return LinkFailure(text)
    # Whoever does not know our key hangs up on our first frames.
    is_doubted = peering.stage is not Stage.GREETING and peering.round_trip is None
    if is_doubted:
        return MeshKeyDoubted(f"{text}; is the mesh key the same there?")
    return LinkFailure(text)
