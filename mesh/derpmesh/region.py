"""A node in its region: membership in, links out, and what it says to its siblings."""

import asyncio
import dataclasses
import json
import logging
import time
from collections.abc import Coroutine, Iterator, Mapping, Sequence
from contextlib import aclosing

from derpmesh.config import DaemonConfig
from derpmesh.homing.keeper import Keeper
from derpmesh.link.links import Links
from derpmesh.link.plan import targets
from derpmesh.membership.model import Drain, Membership
from derpmesh.membership.news import tell_changes, tell_held
from derpmesh.membership.snapshot import Snapshots
from derpmesh.membership.source import Source
from derpmesh.membership.strangers import strangers
from derpmesh.membership.watcher import memberships
from derpmesh.membership.witness import Witnesses
from derpmesh.wishes import Wishes
from derpnode.kinds import Kind
from derpnode.node import Node
from derpnode.server.meshkeys import MeshKeys
from derpnode.wire.frames import NODE_STATE, encode_frame
from derpnode.wire.keys import NodeKey


logger = logging.getLogger(__name__)

BOOT_PATIENCE = 5.0
"""Seconds that the registry may take before the snapshot on disk is used."""

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
        self._source = source
        self._snapshots = Snapshots(config.state_dir, config.region.id)
        self._keeping = asyncio.Lock()
        self._kept = self._snapshots.load() if source is not None else None
        wish = self._wish(self._kept, None) if self._kept is not None else None
        self._wishes = Wishes(node, wish)
        self._keeper = Keeper(
            config.node.name,
            node,
            config.homing,
            members=lambda: self._membership.members if self._membership else (),
            serving=lambda: self._links.serving_members,
            command=source.command if source is not None else None,
        )
        self._rules: dict[NodeKey, bool] = {}
        self._witnesses = Witnesses(time.monotonic)
        self._is_snapshot = False
        self._membership: Membership | None = None
        self._since = time.monotonic()
        self._said = b""
        self._failure = ""
        self._differences: list[str] = []
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
        self._mesh_keys = mesh_keys
        mesh_keys.changed = self._links.renew
        node.switchboard.watched = self._watched
        node.switchboard.sibling_said = self._sibling_said
        node.region = self
        if self._kept is not None:
            # What was wished and ruled last holds before the registry is heard.
            node.starts_drained = wish is not None
            self._rule(self._kept)

    # What the node asks.

    @property
    def siblings_serving(self) -> int:
        """How many other nodes take clients now."""
        return self._links.serving

    def jobs(self) -> Sequence[Coroutine[None, None, None]]:
        """What runs beside the node until it ends."""
        own = [] if self._source is None else [self._boot(), *self._source.jobs()]
        return (self._follow(), self._tick(), self._keeper.run(), *own)

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
        found, source = self._membership, self._source
        if found is None or source is None:
            return {"source": "none", "members": []}
        etcd = source.etcd
        live = etcd.live if etcd is not None else {}
        statuses = etcd.statuses if etcd is not None else {}
        return {
            "source": "snapshot" if self._is_snapshot else source.name,
            "revision": found.revision,
            "age": time.monotonic() - self._since,
            "region": found.region.model_dump(),
            "members": [member.plain() for member in found.members.values()],
            "live": {name: record.plain() for name, record in live.items()},
            "status": {name: record.plain() for name, record in statuses.items()},
            "held": list(source.hold.held) if source.hold is not None else [],
            "drains": sorted(found.drains),
            "struck": sorted(found.struck),
            "relists": dict(etcd.relists) if etcd is not None else {},
            "watch_lag": source.reporter.lag if source.reporter is not None else None,
            "leader": source.command.leader if source.command is not None else "",
            "clients": {
                rule: sum(said == rule for said in found.clients.values())
                for rule in ("allow", "deny")
            },
        }

    def strays(self) -> Mapping[str, int]:
        """See the port."""
        return self._keeper.strays.movable()

    def confirm(self) -> list[str]:
        """See the port."""
        hold = self._source.hold if self._source is not None else None
        if hold is None:
            return []
        let_go = list(hold.held)
        if hold.held_clients:
            let_go.append(f"rules for {hold.held_clients} clients")
        membership = hold.confirm()
        if membership is not None:
            logger.warning("region: confirmed: %s let go", ", ".join(let_go))
            for name in let_go:
                text = "an operator said that it was meant"
                self._node.journal.add(Kind.CONFIRMED, name, text)
            self._apply(membership)
            self._node.spawn(self._keep())  # or it would be held after a restart
        return let_go

    def notes(self) -> list[str]:
        """See the port."""
        linked = self._links.up
        found = [*self._differences, *self._wishes.notes()]
        found += self._witnesses.notes(linked)
        if self._failure:
            found.append(f"registry: {self._failure}; the last good one stays in force")
        if self._is_snapshot:
            found.append(
                "registry: never reached; the region is as this node last knew"
            )
        if self._source is not None:
            found += self._source.notes(is_lost=bool(self._failure))
        etcd = self._source.etcd if self._source is not None else None
        if etcd is not None:
            current = self._mesh_keys.ring.current.fingerprint()
            found += strangers(current, etcd.live)
        return found + self._mesh_keys.notes()

    def changed(self) -> None:
        """Tell the others at once that this node's state is another."""
        self._tell()

    def close(self) -> None:
        """End every link."""
        self._links.close()

    # Membership.

    async def _follow(self) -> None:
        """Open and close links as the membership changes.

        Static peers are linked at once: a registry may be long in coming.
        """
        self._apply(None)
        source = self._source
        if source is None:
            return
        if source.hold is not None and self._kept is not None:
            source.hold.judge(
                self._kept
            )  # what the registry says first is doubted, too
        stream = memberships(
            source.registry,
            backoff=source.backoff,
            sleep=asyncio.sleep,
            failed=self._lost,
        )
        async with aclosing(stream) as values:
            async for membership in values:
                self._is_snapshot = False
                await self._believe(membership)

    async def _boot(self) -> None:
        """Mesh as the region was last, if the registry is long in coming."""
        await asyncio.sleep(BOOT_PATIENCE)
        if self._kept is not None and self._membership is None:
            logger.warning("region: the registry does not answer; using the snapshot")
            text = f"revision {self._kept.revision}, as the registry does not answer"
            self._node.journal.add(Kind.SNAPSHOT_USED, text=text)
            self._is_snapshot = True
            self._apply(self._kept)

    async def _believe(self, found: Membership) -> None:
        """Bring a membership into force, as far as it is not doubted, and keep it."""
        hold = self._source.hold if self._source is not None else None
        before = hold.held if hold is not None else ()
        membership = hold.judge(found) if hold is not None else found
        if hold is not None and set(hold.held) - set(before):
            names = ", ".join(hold.held)
            logger.warning("region: %s vanished from the registry; held", names)
        if hold is not None:
            tell_held(self._node.journal, before, hold.held, found)
        self._apply(membership)
        await self._keep()

    async def _keep(self) -> None:
        """Keep what is in force on disk; the latest is kept last."""
        async with self._keeping:
            if self._membership is not None:
                await asyncio.to_thread(self._snapshots.save, self._membership)

    def _lost(self, reason: str) -> None:
        if not reason:
            self._node.journal.add(Kind.REGISTRY_BACK, text="it answers again")
        elif not self._failure:  # what fails next, it fails for the same cause
            self._node.journal.add(Kind.REGISTRY_LOST, text=reason)
        self._failure = reason

    def _apply(self, membership: Membership | None) -> None:
        if membership is not None:
            names = ", ".join(membership.members) or "nobody"
            logger.info("region: revision %d: %s", membership.revision, names)
            tell_changes(self._node.journal, self._membership, membership)
            self._check_own(membership)
            members = membership.members.values()
            self._node.plane.spare(
                frozenset(host for one in members for host in one.addresses())
            )
        self._membership = membership
        self._since = time.monotonic()
        mesh = self._config.mesh
        name = self._config.node.name
        if membership is not None:
            self._rule(membership)
            self._wishes.changed(self._wish(membership, self._wishes.wish))
            if name in membership.struck:
                membership = None  # it was taken out: it links to no member
        self._links.apply(targets(membership, name, mesh.peers, mesh.ca_file))

    def _wish(self, membership: Membership, last: Drain | None) -> Drain | None:
        """Say what is wished of this node.

        Args:
            membership: What is in force.
            last: What was wished before; where no record says anything that holds.
        """
        name = self._config.node.name
        if name in membership.members:
            return membership.drains.get(name)
        if name in membership.struck and membership.members:
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
        self._differences = list(self._compare(membership))
        for difference in self._differences:
            logger.warning("%s", difference)

    def _compare(self, membership: Membership) -> Iterator[str]:
        name = self._config.node.name
        entry = membership.members.get(name)
        if entry is None:
            if self._source is not None and self._source.enrolment is not None:
                return  # it records itself, and says why if it cannot
            yield f"region: {name} is not in it; nobody will dial this node"
            return
        is_now = self._node.map_entry()
        recorded = entry.map_entry(membership.region.id)
        for field in sorted(is_now.keys() | recorded.keys()):
            if is_now.get(field) != recorded.get(field):
                was, now = recorded.get(field, "unset"), is_now.get(field, "none")
                yield f"region: {name} is recorded with {field} {was}, but has {now}"

    # Links.

    async def _tick(self) -> None:
        while True:
            self._links.tick()
            self._wishes.follow()
            self._look_at_leases()
            self._tell()
            await asyncio.sleep(TICK)

    def _look_at_leases(self) -> None:
        etcd = self._source.etcd if self._source is not None else None
        if etcd is None or self._membership is None:
            return
        if self._failure or self._is_snapshot:
            self._witnesses.forget()
            return
        others = self._membership.members.keys() - {self._config.node.name}
        self._witnesses.look(sorted(others), etcd.live)

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
