"""What the relay asks of the world below it."""

from typing import Protocol

from derpnode.wire.keys import NodeKey


class Connections(Protocol):
    """Connections by id. A command for one that is gone does nothing."""

    def send(self, connection: int, data: bytes) -> None:
        """Queue control frames; `Relay.drained` is called once they have left."""

    def set_route(self, key: NodeKey, connection: int) -> None:
        """Bring packets for a key to this client."""

    def set_forward(self, key: NodeKey, link: int) -> None:
        """Bring packets for a key to this link."""

    def clear_route(self, key: NodeKey) -> None:
        """Know no way to a key."""

    def mark_duplicate(self, connection: int, *, duplicate: bool) -> None:
        """Report every turn in which this connection speaks, or no longer."""

    def question(self, connection: int) -> None:
        """Ask a client whether it lives, and report when it speaks."""

    def unquestion(self, connection: int) -> None:
        """Stop reporting that."""

    def forget(self, receiver: int, source: NodeKey) -> None:
        """Report the next packet from `source` to `receiver` as the first."""

    def close(self, connection: int, detail: str) -> None:
        """End a connection at once."""
