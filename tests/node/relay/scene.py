"""Who takes part in the tests of the relay, and what they do first."""

from typing import Any

from derpnode.relay.relay import Client, Relay
from derpnode.wire.frames import FrameType
from derpnode.wire.keys import NodeKey
from derpnode.wire.payloads import Present, PresentFlags
from tests.node.relay import recorder


A = NodeKey(b"\xa1" * 32)
B = NodeKey(b"\xb2" * 32)
C = NodeKey(b"\xc3" * 32)
M = NodeKey(b"\x3e" * 32)  # a mesh peer's
OWN = NodeKey(b"\x01" * 32)  # the node's

WATCHER = 90
"""The connection of a mesh peer with key `M`."""

MESH = PresentFlags.MESH_PEER
REGULAR = PresentFlags.REGULAR


def join(relay: Relay, connection: int, key: NodeKey, **about: Any) -> None:
    """Log a connection in."""
    relay.register(Client(connection=connection, key=key, **about))


def watch(relay: Relay, connection: int) -> None:
    """Ask for presence, as WatchConns does."""
    relay.frame(connection, FrameType.WATCH_CONNS, b"", now=0.0)


def announce(
    relay: Relay, key: NodeKey, link: int, *, in_flood: bool = False, now: float = 0.0
) -> None:
    """Let a link tell of a key."""
    relay.announced(key, link, now, in_flood=in_flood)


def here(connection: int) -> recorder.Client:
    """Name the route to a client of this node."""
    return recorder.Client(connection)


def present(key: NodeKey, flags: PresentFlags = REGULAR) -> Present:
    """Give what is told of a connection that said nothing about itself."""
    return Present(key, flags=flags)
