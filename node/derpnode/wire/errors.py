"""How a peer can break the protocol. Each of these ends its connection.

ProtocolError
├── FrameTooLarge    a frame is longer than its type allows
├── FrameTooShort    a frame lacks its fixed-size fields
├── BadHandshake     the peers cannot agree on who is who
├── BadKeyText       a key's text form cannot be read
└── BadPayload       bytes that are no message of the kind expected
"""

from dataclasses import dataclass

from derpnode.errors import ProtocolError


@dataclass(eq=False)
class FrameTooLarge(ProtocolError):
    """A frame is longer than its type allows."""

    kind: int
    """Frame type as sent, known or not."""
    size: int
    """Payload length claimed by the header, in bytes."""
    limit: int
    """Largest payload this type may have, in bytes."""

    def __str__(self) -> str:
        return f"frame {self.kind:#04x}: {self.size} bytes, limit is {self.limit}"


@dataclass(eq=False)
class FrameTooShort(ProtocolError):
    """A frame lacks its fixed-size fields."""

    kind: int
    """Frame type as sent."""
    size: int
    """Payload length, in bytes."""
    minimum: int
    """Smallest payload this type may have, in bytes."""

    def __str__(self) -> str:
        return f"frame {self.kind:#04x}: {self.size} bytes, minimum is {self.minimum}"


@dataclass(eq=False)
class BadHandshake(ProtocolError):
    """The peers cannot agree on who is who."""

    reason: str
    """What was wrong; holds no key and no text chosen by the peer."""

    def __str__(self) -> str:
        return f"handshake: {self.reason}"


@dataclass(eq=False)
class BadKeyText(ProtocolError):
    """A key's text form cannot be read.

    When the text came from the operator, turn this into a `ConfigError`
    that names the setting. The text itself is not kept: it may be a secret.
    """

    what: str
    """Which kind of key was expected: ``node key``."""
    reason: str
    """What is wrong with the text."""

    def __str__(self) -> str:
        return f"{self.what}: {self.reason}"


@dataclass(eq=False)
class BadPayload(ProtocolError):
    """Bytes that are no message of the kind expected."""

    what: str
    """Which message was expected: ``STUN response``."""
    reason: str
    """Why these bytes are not one."""

    def __str__(self) -> str:
        return f"{self.what}: {self.reason}"
