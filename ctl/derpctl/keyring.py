"""What the mesh keys of a region's nodes say of a rotation. Pure."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from derpctl.admin import MeshKeysView
from derpctl.documents import document
from derpctl.errors import CtlError
from derpctl.exits import Exit


class Stand(StrEnum):
    """How far one node has come."""

    STEADY = "steady"
    """It has one key: the old one, while a rotation is under way."""
    STAGED = "staged"
    """It sends the old key, and takes the new one too."""
    SWITCHED = "switched"
    """It sends the new key, and takes the old one too."""
    RETIRED = "retired"
    """It has the new key alone."""
    UNKNOWN = "unknown"
    """It does not answer, or has no mesh key."""


@dataclass(frozen=True, slots=True)
class NodeKeys:
    """The mesh keys of one node, or why they are not known."""

    name: str
    """As in derpctl's configuration."""
    keys: MeshKeysView | None = None
    error: str = ""

    @property
    def pair(self) -> tuple[str, str] | None:
        """The old key and the new one, if this node is between the two."""
        if self.keys is None:
            return None
        if self.keys.next is not None:
            return self.keys.current, self.keys.next
        if self.keys.previous is not None:
            return self.keys.previous, self.keys.current
        return None

    def stand(self, new: str | None) -> Stand:
        """Say how far it has come, in a rotation to that key or in none."""
        if self.keys is None:
            return Stand.UNKNOWN
        if self.keys.next is not None:
            return Stand.STAGED
        if self.keys.previous is not None:
            return Stand.SWITCHED
        return Stand.RETIRED if self.keys.current == new else Stand.STEADY


@dataclass(frozen=True, slots=True)
class Rotation:
    """How far a region has come."""

    old: str
    """Fingerprint of the key that is to go, or of the one that there is."""
    new: str | None
    """Fingerprint of the key that comes; None while no rotation is under way."""
    stands: Mapping[str, Stand]
    """Of each node, by its name."""

    def those(self, *stands: Stand) -> list[str]:
        """Name the nodes that have come so far, in the order of the configuration."""
        return [name for name, stand in self.stands.items() if stand in stands]


def rotation_of(nodes: Sequence[NodeKeys]) -> Rotation:
    """Say how far a region has come.

    Raises:
        CtlError: A node does not answer, or has keys that do not belong to the same
            rotation as those of the others; it is named.
    """
    for node in nodes:
        if node.keys is None:
            raise _refused(node.name, node.error, "mend that, then run it again")
        if node.keys.next is not None and node.keys.previous is not None:
            raise _refused(
                node.name,
                "it has three mesh keys, of two rotations",
                "remove the file of its previous key if no node has that any more",
            )
    pairs = Counter(node.pair for node in nodes if node.pair is not None)
    if pairs:
        [(pair, _), *others] = pairs.most_common()
        old, new = pair
        odd = [node for node in nodes if node.pair in dict(others)]
        odd += [node for node in nodes if node.pair is None and not _has(node, *pair)]
    else:
        [(old, _), *_] = Counter(map(_current, nodes)).most_common()
        new = None
        odd = [node for node in nodes if _current(node) != old]
    if odd:
        raise _refused(
            ", ".join(node.name for node in odd),
            f"other mesh keys than the other nodes, which have {old}",
            "give them the key file of another node, then run it again",
        )
    return Rotation(old, new, {node.name: node.stand(new) for node in nodes})


def _current(node: NodeKeys) -> str:
    return node.keys.current if node.keys is not None else ""


def _has(node: NodeKeys, *keys: str) -> bool:
    return _current(node) in keys


def _refused(names: str, reason: str, hint: str) -> CtlError:
    return CtlError(names, reason, hint, Exit.REFUSED)


def items(nodes: Sequence[NodeKeys]) -> list[dict[str, object]]:
    """Give the keys of the nodes as JSON has them."""
    new = next((node.pair[1] for node in nodes if node.pair is not None), None)
    return [
        {
            "name": node.name,
            "phase": node.stand(new).value,
            "current": node.keys.current if node.keys is not None else None,
            "next": node.keys.next if node.keys is not None else None,
            "previous": node.keys.previous if node.keys is not None else None,
            "error": node.error,
        }
        for node in nodes
    ]


def keys_document(region: int, nodes: Sequence[NodeKeys]) -> dict[str, object]:
    """Make the document of `derpctl key mesh show`."""
    return document("MeshKeys", region=region, items=items(nodes))


def keys_exit(nodes: Sequence[NodeKeys]) -> Exit:
    """Say how `derpctl key mesh show` ends."""
    if all(node.error for node in nodes):
        return Exit.UNREACHABLE
    try:
        rotation_of(nodes)
    except CtlError:
        return Exit.DEGRADED
    return Exit.OK
