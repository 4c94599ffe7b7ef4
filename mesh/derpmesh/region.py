"""A node in its region: membership in, links out, and what it says to its siblings."""

import asyncio
import dataclasses
import json
import logging
import time
from collections.abc import Coroutine, Mapping, Sequence

from derpmesh.config import DaemonConfig
from derpmesh.homing.keeper import Keeper
from derpmesh.link.links import Links
from derpmesh.link.plan import targets
from derpmesh.membership.force import Force
from derpmesh.membership.mapdocument import MapDocument
from derpmesh.membership.model import Drain, Membership
from derpmesh.membership.recorded import differences
from derpmesh.membership.snapshot import Snapshots
from derpmesh.membership.source import Source
from derpmesh.membership.strangers import strangers
from derpmesh.wishes import Wishes
from derpnode.document import Document
from derpnode.kinds import Kind
from derpnode.node import Node
from derpnode.server.meshkeys import MeshKeys
from derpnode.wire.frames import NODE_STATE, encode_frame
from derpnode.wire.keys import NodeKey


logger = logging.getLogger(__name__)

TICK = 0.25
"""Seconds between looks at the links."""

TAKEN_OUT = Drain(force=True)
"""The wish for a node that was taken out: its siblings forward nothing to it any more,
so that whoever is on it has to go to one of them."""


class MeshRegion:
    """Keeps a node linked to the other nodes of its region.

    Args:
        node: The node; its region is this from now on.
        config: Its settings.
        mesh_keys: What links prove.
        source: Where the members are recorded; None: only static peers are linked.
    """

    def __init__(
        self,
        node: Node,
        config: DaemonConfig,
        mesh_keys: MeshKeys,
        source: Source | None,
    ) -> None:
        self._node = node
        self._config = config
        self._name = config.node.name
        self._mesh_keys = mesh_keys
        self._rules: dict[NodeKey, bool] = {}
        self._differences: list[str] = []
        self._said = b""
        self._map = MapDocument()
        self._links = Links(
            node.identity,
            lambda: mesh_keys.ring,
            node.plane,
            node.relay,
            routes=node.switchboard.links,
            clock=time.monotonic,
            spawn=node.spawn,
            journal=node.journal,
        )
        self._force = self._make_force(source) if source is not None else None
        kept = self._force.kept if self._force is not None else None
        wish = self._wish(kept, None) if kept is not None else None
        self._wishes = Wishes(node, wish)
        self._keeper = Keeper(
            self._name,
            node,
            config.homing,
            members=self._members,
            serving=lambda: self._links.serving_members,
            command=source.command if source is not None else None,
        )
        mesh_keys.changed = self._links.renew
        node.switchboard.watched = self._watched
        node.switchboard.sibling_said = self._sibling_said
        node.region = self
        if kept is not None:
            # What was wished and ruled last holds before the registry is heard.
            node.starts_drained = wish is not None
            self._rule(kept)

    def _make_force(self, source: Source) -> Force:
        config = self._config
        return Force(
            source,
            Snapshots(config.state_dir, config.region.id),
            self._node.journal,
            apply=self._apply,
            spawn=self._node.spawn,
        )

    # What the node asks.

    @property
    def siblings_serving(self) -> int:
        """How many other nodes take clients now."""
        return self._links.serving

    def jobs(self) -> Sequence[Coroutine[None, None, None]]:
        """What runs beside the node until it ends."""
        own = (self._tick(), self._keeper.run())
        force = self._force
        if force is None:
            return own
        return (*own, force.follow(), force.boot(), *force.source.jobs())

    def links(self) -> list[dict[str, object]]:
        """Describe every link to another node, for JSON."""
        return [
            dataclasses.asdict(status) | {"state": status.state.value}
            for status in self._links.statuses()
        ]

    def announced(self) -> dict[str, frozenset[NodeKey]]:
        """See the port."""
        return self._links.announced()

    def membership(self) -> dict[str, object]:
        """Describe the membership in force and where it is from, for JSON."""
        if self._force is None:
            return {"source": "none", "members": []}
        return self._force.document()

    def derp_map(self) -> Document | None:
        """See the port."""
        return self._map.last

    def strays(self) -> Mapping[str, int]:
        """See the port."""
        return self._keeper.strays.movable()

    def confirm(self) -> list[str]:
        """See the port."""
        return self._force.confirm() if self._force is not None else []

    def notes(self) -> list[str]:
        """See the port."""
        found = [*self._differences, *self._wishes.notes()]
        if self._force is not None:
            found += self._force.notes(self._links.up)
            etcd = self._force.source.etcd
            current = self._mesh_keys.ring.current.fingerprint()
            found += strangers(current, etcd.live if etcd is not None else {})
        return found + self._mesh_keys.notes()

    def changed(self) -> None:
        """Tell the others at once that this node's state is another."""
        self._tell()

    def close(self) -> None:
        """End every link."""
        self._links.close()

    # Membership.

    def _members(self) -> Mapping[str, object]:
        found = self._force.membership if self._force is not None else None
        return found.members if found is not None else {}

    def _apply(self, membership: Membership) -> None:
        """Do what a membership asks for: links, rules, a drain."""
        self._check_own(membership)
        self._map.follow(membership)
        members = membership.members.values()
        self._node.plane.spare(
            frozenset(host for one in members for host in one.addresses())
        )
        self._rule(membership)
        self._wishes.changed(self._wish(membership, self._wishes.wish))
        # Who was taken out links to no member.
        self._link(None if self._name in membership.struck else membership)

    def _link(self, membership: Membership | None) -> None:
        mesh = self._config.mesh
        self._links.apply(targets(membership, self._name, mesh.peers, mesh.ca_file))

    def _wish(self, membership: Membership, last: Drain | None) -> Drain | None:
        """Say what is wished of this node.

        Args:
            membership: What is in force.
            last: What was wished before; where no record says anything that holds.
        """
        if self._name in membership.members:
            return membership.drains.get(self._name)
        if self._name in membership.struck and membership.members:
            return TAKEN_OUT
        return last

    def _rule(self, membership: Membership) -> None:
        """Let clients in and keep them out as operators say."""
        said = membership.clients.items()
        rules = {key: rule == "allow" for key, rule in said if rule != "none"}
        if rules == self._rules:
            return
        self._rules = rules
        let_in = sum(rules.values())
        text = f"{let_in} clients are let in by name, {len(rules) - let_in} kept out"
        self._node.journal.add(Kind.CLIENTS_CHANGED, "", text)
        self._node.rule_clients(rules)

    def _check_own(self, membership: Membership) -> None:
        """Say where the region's record of this node is not what this node is."""
        force = self._force
        records_itself = force is not None and force.source.enrolment is not None
        self._differences = differences(
            membership,
            self._name,
            self._node.map_entry(),
            records_itself=records_itself,
        )
        for difference in self._differences:
            logger.warning("%s", difference)

    # Time.

    async def _tick(self) -> None:
        self._link(None)  # static peers, at once: a registry may be long in coming
        while True:
            self._links.tick()
            self._wishes.follow()
            if self._force is not None:
                self._force.look_at_leases(self._name)
            self._tell()
            await asyncio.sleep(TICK)

    # What it says to those who watch it.

    def _tell(self) -> None:
        """Tell every sibling how this node is, when that changed.

        Those that this node watches too: one that could not dial it while it was
        drained tries again when it hears that it serves.
        """
        state = self._state()
        if state == self._said:
            return
        self._said = state
        self._links.tell(state)
        for client in list(self._node.relay.clients()):
            if client.connection in self._node.relay.presence:
                self._node.switchboard.send(client.connection, state)

    def _watched(self, connection: int) -> None:
        self._node.switchboard.send(connection, self._state())
        self._links.hurry()  # whoever has dialled us may be the one we wait for

    def _sibling_said(self, _document: bytes) -> None:
        self._links.hurry()

    def _state(self) -> bytes:
        node = self._node
        document = {
            "name": node.config.node.name,
            "state": node.state,
            "version": node.version,
        }
        return encode_frame(NODE_STATE, json.dumps(document).encode())
