"""What the admin listener may know of a node: its parts, to be read, not changed."""

from datetime import datetime
from typing import Protocol

from derpnode.config import NodeConfig
from derpnode.plane.contract import Plane
from derpnode.relay.relay import Relay
from derpnode.server.admission.chain import Admission
from derpnode.server.certificates import Certificates
from derpnode.server.front import Front
from derpnode.server.journal import Journal
from derpnode.server.logins import Logins
from derpnode.server.meshkeys import MeshKeys
from derpnode.server.readiness import Readiness
from derpnode.server.region import RegionPort
from derpnode.server.stun import StunServer
from derpnode.server.switchboard import Switchboard
from derpnode.wire.keys import NodeKey


class NodeFacts(Protocol):
    """A running node, as seen by those who report on it."""

    config: NodeConfig
    version: str
    server_key: NodeKey
    started_at: datetime
    plane: Plane
    relay: Relay
    front: Front
    logins: Logins
    switchboard: Switchboard
    admission: Admission
    readiness: Readiness
    stun: StunServer | None
    certificates: Certificates | None
    mesh_keys: MeshKeys | None
    region: RegionPort
    journal: Journal

    @property
    def state(self) -> str:
        """One of `starting`, `serving`, `unready`, `draining`, `drained`."""

    @property
    def reasons(self) -> list[str]:
        """Why the node is not serving; empty while it is."""

    @property
    def uptime(self) -> float:
        """Seconds since the start."""

    def listeners(self) -> dict[str, list[str]]:
        """Addresses in use, by kind: `derp`, `http`, `stun`."""

    def map_entry(self) -> dict[str, object]:
        """This node as a `DERPNode`."""

    def drain(self, *, grace: float, force: bool = False) -> None:
        """Send the clients to the other nodes.

        Raises:
            LastServingNode: There is none that takes clients.
        """

    def undrain(self) -> None:
        """Take clients again."""
