"""What keeps an address from being found."""

from dataclasses import dataclass

from derpnode.errors import NodeError


@dataclass(eq=False)
class NoAddress(NodeError):
    """A source cannot be asked, or none has an address. The pod must not start."""

    source: str
    """Which one; `address.sources` where it is all of them."""

    reason: str
    hint: str

    def __str__(self) -> str:
        return f"{self.source}: {self.reason}; {self.hint}"
