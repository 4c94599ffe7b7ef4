"""A world below the relay that does nothing and writes everything down."""

from typing import NamedTuple

from derpnode.wire.frames import MAX_CLIENT_FRAME, FrameDecoder, FrameType
from derpnode.wire.keys import NodeKey
from derpnode.wire.payloads import Present, parse_peer_gone, parse_peer_present


class Client(NamedTuple):
    """A route to a connection of this node."""

    connection: int


class Link(NamedTuple):
    """A route to another node."""

    connection: int


class Gone(NamedTuple):
    """A PeerGone frame."""

    key: NodeKey
    reason: int = 0


def news(data: bytes) -> list[Present | Gone]:
    """Read the PeerPresent and PeerGone frames in what was sent."""
    decoder = FrameDecoder(max_payload=MAX_CLIENT_FRAME)
    decoder.feed(data)
    found: list[Present | Gone] = []
    for kind, payload in decoder:
        if kind == FrameType.PEER_PRESENT:
            found.append(parse_peer_present(payload))
        else:
            assert kind == FrameType.PEER_GONE
            found.append(Gone(*parse_peer_gone(payload)))
    assert decoder.buffered == 0
    return found


class Recorder:
    """Records the commands of a relay; see `derpnode.relay.ports`."""

    def __init__(self) -> None:
        self.commands: list[str] = []
        """The name of each command, oldest first."""

        self.sent: list[tuple[int, bytes]] = []
        self.routes: dict[NodeKey, Client | Link] = {}
        """What the last command for each key said; absent: no route."""

        self.duplicates: set[int] = set()
        """Connections marked, and not unmarked since."""

        self.questioned: set[int] = set()
        """Connections asked whether they live, and no answer noted since."""

        self.forgotten: list[tuple[int, NodeKey]] = []
        self.closed: list[tuple[int, str]] = []

    def told(self, connection: int) -> list[Present | Gone]:
        """Take all that was sent to a connection since the last call."""
        mine = b"".join(data for to, data in self.sent if to == connection)
        self.sent = [(to, data) for to, data in self.sent if to != connection]
        return news(mine)

    def send(self, connection: int, data: bytes) -> None:
        self.commands.append("send")
        self.sent.append((connection, data))

    def set_route(self, key: NodeKey, connection: int) -> None:
        self.commands.append("set_route")
        self.routes[key] = Client(connection)

    def set_forward(self, key: NodeKey, link: int) -> None:
        self.commands.append("set_forward")
        self.routes[key] = Link(link)

    def clear_route(self, key: NodeKey) -> None:
        self.commands.append("clear_route")
        del self.routes[key]  # a route that never was is cleared by mistake

    def mark_duplicate(self, connection: int, *, duplicate: bool) -> None:
        self.commands.append("mark_duplicate")
        if duplicate:
            self.duplicates.add(connection)
        else:
            self.duplicates.remove(connection)

    def question(self, connection: int) -> None:
        self.commands.append("question")
        assert connection not in self.questioned
        self.questioned.add(connection)

    def unquestion(self, connection: int) -> None:
        self.commands.append("unquestion")
        self.questioned.remove(connection)

    def forget(self, receiver: int, source: NodeKey) -> None:
        self.commands.append("forget")
        self.forgotten.append((receiver, source))

    def close(self, connection: int, detail: str) -> None:
        self.commands.append("close")
        self.closed.append((connection, detail))
