"""What may go wrong with a registry. It never ends a node."""

from dataclasses import dataclass

from derpnode.errors import NodeError


class RegistryError(NodeError):
    """The registry cannot be read now; what was read before stays in force."""


@dataclass(eq=False)
class RegistryUnavailable(RegistryError):
    """It does not answer."""

    where: str
    reason: str

    def __str__(self) -> str:
        return f"{self.where}: {self.reason}"


@dataclass(eq=False)
class RegistryInvalid(RegistryError):
    """What it says cannot be used."""

    where: str
    reason: str
    hint: str

    def __str__(self) -> str:
        return f"{self.where}: {self.reason}; {self.hint}"


@dataclass(eq=False)
class RevisionCompacted(RegistryError):
    """What came after this revision is forgotten."""

    revision: int

    def __str__(self) -> str:
        return f"revision {self.revision} is compacted; read anew"
