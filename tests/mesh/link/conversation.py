"""One link's conversation, with every byte of it written down."""

from derpmesh.link.peering import Peering
from derpnode.wire.frames import FrameType, encode_frame
from derpnode.wire.handshake import ClientInfo, client_info_frame
from derpnode.wire.keys import MeshKey, NodeKey, PrivateKey
from derpnode.wire.payloads import ping


US = PrivateKey(b"\x22" * 32)
MESH_KEY = MeshKey(b"\x55" * 32)
NONCE = b"\x33" * 24
HOST = "b.example.com"
THEM = NodeKey(
    bytes.fromhex("7b4e909bbe7ffe44c465a220037d608ee35897d31ef972f07f74892cb0f73f13")
)

A = NodeKey(b"\xa1" * 32)
B = NodeKey(b"\xb2" * 32)
C = NodeKey(b"\xc3" * 32)
D = NodeKey(b"\xd4" * 32)

REQUEST = (
    b"GET /derp HTTP/1.1\r\n"
    b"Host: b.example.com\r\n"
    b"Upgrade: DERP\r\n"
    b"Connection: Upgrade\r\n"
    b"\r\n"
)

SWITCHING = (
    b"HTTP/1.1 101 Switching Protocols\r\n"
    b"Upgrade: DERP\r\n"
    b"Connection: Upgrade\r\n"
    b"Derp-Version: 2\r\n"
    b"Derp-Public-Key: "
    b"7b4e909bbe7ffe44c465a220037d608ee35897d31ef972f07f74892cb0f73f13\r\n"
    b"\r\n"
)
"""What derper 1.102 and 1.104 answer, and what we do; see protocol.md 2.6."""

SERVER_KEY = bytes.fromhex(
    "01"  # type
    "00000028"  # size
    "44455250f09f9491"  # magic
    "7b4e909bbe7ffe44c465a220037d608ee35897d31ef972f07f74892cb0f73f13"
)

CLIENT_INFO = bytes.fromhex(
    "02"  # type
    "000000b6"  # size
    "0faa684ed28867b97f4a6a2dee5df8ce974e76b7018e3f22a1c4cf2678570f20"  # our key
    "333333333333333333333333333333333333333333333333"  # nonce
    "4bf80f3c90f140f4bc39e28c0c1da0324d3ea3fccd81a639d9902101acc1f370"
    "c82204efc433e4905df4bbe2aa26c962df8e65c6efc66d76f230302bfdac6138"
    "f8f739853d807182487a33b9f84e4628cae2fc51bdcb917c78828b29a203afc8"
    "b5006bb33d0e80f46d0e655969e0d7d56aee781307b37b126cdcc3838de3"
)
"""Sealed: `{"meshKey":"5555…","version":2,"CanAckPings":false}`. Made with PyNaCl."""


def login(key: MeshKey) -> bytes:
    """Log in with another mesh key."""
    info = ClientInfo(mesh_key=key.secret, can_ack_pings=False)
    return client_info_frame(info, US, THEM, NONCE)


SERVER_INFO = bytes.fromhex(
    "03"  # type
    "00000035"  # size
    "444444444444444444444444444444444444444444444444"  # nonce
    "98cc589c163885043e1278210bd48deee3c56f584bfdcbc303ff0f3c69"
)
"""Sealed: `{"version":2}`; a golden vector of protocol.md 4.4."""

WATCH = bytes.fromhex("1000000000")
FIRST_PING = bytes.fromhex("12000000080000000000000001")
SECOND_PING = bytes.fromhex("12000000080000000000000002")

GREETING = SWITCHING + SERVER_KEY

LOGIN = [("send", REQUEST), ("send", CLIENT_INFO)]
WATCHING = [
    ("attach", THEM, len(GREETING + SERVER_INFO)),
    ("send", WATCH),
    ("send", FIRST_PING),
]


class Conversation:
    """Takes what a peering commands and learns, in one list, oldest first."""

    def __init__(self, pin: str | None = None) -> None:
        self.log: list[tuple] = []
        self.now = 1000.0
        self.peering = Peering(
            self, self, identity=US, mesh_key=MESH_KEY, host=HOST, pin=pin
        )

    # What the peering calls.

    def send(self, data: bytes) -> None:
        self.log.append(("send", data))

    def attach(self, key: NodeKey, offset: int) -> None:
        self.log.append(("attach", key, offset))

    def announced(self, key: NodeKey, *, in_flood: bool) -> None:
        self.log.append(("announced", key, in_flood))

    def withdrawn(self, key: NodeKey) -> None:
        self.log.append(("withdrawn", key))

    def up(self, server_key: NodeKey) -> None:
        self.log.append(("up", server_key))

    def state_of_peer(self, document: bytes) -> None:
        self.log.append(("state", document))

    # What a test does.

    def begin(self, certificate: bytes = b"") -> None:
        """Let TLS be up."""
        self.peering.connected(certificate)

    def hear(self, *pieces: bytes) -> None:
        """Receive bytes, as the network cut them."""
        for piece in pieces:
            self.peering.received(piece, self.now, NONCE)

    def link_up(self) -> None:
        """Go through the handshake, and forget it; no ping is answered yet."""
        self.begin()
        self.hear(GREETING, SERVER_INFO)
        self.take()

    def frame(self, kind: int, payload: bytes = b"") -> None:
        """Receive a frame on a link that is up."""
        self.peering.frame(kind, payload, self.now)

    def present(self, key: NodeKey, about: bytes = b"") -> None:
        """Be told of a client."""
        self.frame(FrameType.PEER_PRESENT, key + about)

    def pong(self, after: float = 0.0) -> None:
        """Be answered, some seconds later."""
        self.now += after
        self.frame(FrameType.PONG, bytes(8))

    def wait(self, seconds: float) -> None:
        """Let time pass, and the peering notice."""
        self.now += seconds
        self.peering.tick(self.now)

    def take(self) -> list[tuple]:
        """Give what happened since the last call."""
        log, self.log = self.log, []
        return log


def frame(kind: int, payload: bytes = b"") -> bytes:
    """Make a frame."""
    return encode_frame(kind, payload)


def numbered_ping(number: int) -> tuple:
    """Name the ping of that number, as it is sent."""
    return ("send", ping(number.to_bytes(8)))
