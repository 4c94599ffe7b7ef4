"""The version after this one, as far as others notice: `python -m tests.load.newer`.

It is this tree with a newer schema of its records, more to say of itself to the other
nodes, and a frame that this version does not know, as large as one may be.
"""

import json

import derpmesh.daemon
import derpmesh.link.links
import derpmesh.membership.enrol
import derpmesh.membership.source
import derpnode.node
from derpmesh.link.link import Link
from derpmesh.membership.records import LiveMember, LiveStatus, NodeIntent
from derpmesh.region import MeshRegion
from derpnode.wire.frames import HEADER_SIZE, MAX_UNKNOWN, NODE_STATE, encode_frame
from derpnode.wire.keys import NodeKey


VERSION = "0.2.0"

FRAME = encode_frame(0xE7, bytes(MAX_UNKNOWN))

ZONE = {"name": "z1", "racks": [1, 2]}
"""What the next version says of a node, and this one knows nothing of."""

WEIGHT = 3
"""What its operators want of a node."""


class NewerMember(LiveMember):
    """Says where the node is, too."""

    zone: dict[str, object] = ZONE


class NewerStatus(LiveStatus):
    """Says where the node is, too."""

    zone: dict[str, object] = ZONE


class NewerIntent(NodeIntent):
    """Says how much the node should do, and where it is."""

    weight: int = WEIGHT

    def plain(self) -> dict[str, object]:
        """Give what is stored, as JSON has it."""
        found = super().plain()
        node = found["node"]
        assert isinstance(node, dict)
        return found | {"weight": self.weight, "node": node | {"zone": ZONE}}


class NewerLink(Link):
    """Sends the frame to each peer once its link is up."""

    def up(self, server_key: NodeKey) -> None:
        """Packets may take the link."""
        super().up(server_key)
        self.send(FRAME)


class NewerRegion(MeshRegion):
    """Sends the frame to each watcher, and says more of the node."""

    def _watched(self, connection: int) -> None:
        super()._watched(connection)
        self._node.switchboard.send(connection, FRAME)

    def _state(self) -> bytes:
        said = json.loads(super()._state()[HEADER_SIZE:])
        return encode_frame(NODE_STATE, json.dumps(said | {"zone": ZONE}).encode())


def main() -> None:
    """Run `derpd` as it will be."""
    derpnode.node.__version__ = VERSION
    derpmesh.membership.source.LiveMember = NewerMember
    derpmesh.membership.source.LiveStatus = NewerStatus
    derpmesh.membership.enrol.NodeIntent = NewerIntent
    derpmesh.link.links.Link = NewerLink
    derpmesh.daemon.MeshRegion = NewerRegion
    derpmesh.daemon.main()


if __name__ == "__main__":
    main()
