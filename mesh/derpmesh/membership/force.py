"""The membership in force: what the registry says, as far as that is believed.

It never shrinks because the registry was lost, came back empty, or forgot. What is in
force is on disk as well, so that a node meshes, keeps clients out and stays drained
before the registry is heard, and without it.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Coroutine
from contextlib import aclosing

from derpmesh.membership.model import Membership
from derpmesh.membership.news import tell_changes, tell_held
from derpmesh.membership.snapshot import Snapshots
from derpmesh.membership.source import Source
from derpmesh.membership.watcher import memberships
from derpmesh.membership.witness import Witnesses
from derpnode.kinds import Kind
from derpnode.server.journal import Journal


logger = logging.getLogger(__name__)

BOOT_PATIENCE = 5.0
"""Seconds that the registry may take before the snapshot on disk is used."""


class Force:
    """Follows a registry, and says what of it counts.

    Args:
        source: The registry, and what goes with it.
        snapshots: What was in force last, on disk.
        journal: Told of what happens.
        apply: Brings a membership into force.
        spawn: Runs something in the background.
    """

    def __init__(
        self,
        source: Source,
        snapshots: Snapshots,
        journal: Journal,
        *,
        apply: Callable[[Membership], None],
        spawn: Callable[[Coroutine[None, None, None]], None],
    ) -> None:
        self.source = source
        self.kept = snapshots.load()
        """What was in force when the node was stopped."""

        self.membership: Membership | None = None
        """What is in force; None: nothing is known yet."""

        self._snapshots = snapshots
        self._journal = journal
        self._to_apply = apply
        self._spawn = spawn
        self._keeping = asyncio.Lock()
        self._witnesses = Witnesses(time.monotonic)
        self._is_snapshot = False
        self._since = time.monotonic()
        self._failure = ""

    async def follow(self) -> None:
        """Bring into force what the registry says. Never ends."""
        source = self.source
        if source.hold is not None and self.kept is not None:
            source.hold.judge(self.kept)  # what is said first is doubted, too
        stream = memberships(
            source.registry,
            backoff=source.backoff,
            sleep=asyncio.sleep,
            failed=self._failed,
        )
        async with aclosing(stream) as values:
            async for membership in values:
                self._is_snapshot = False
                await self._believe(membership)

    async def boot(self) -> None:
        """Go by what was in force last, if the registry is long in coming."""
        await asyncio.sleep(BOOT_PATIENCE)
        if self.kept is not None and self.membership is None:
            logger.warning("region: the registry does not answer; using the snapshot")
            text = f"revision {self.kept.revision}, as the registry does not answer"
            self._journal.add(Kind.SNAPSHOT_USED, text=text)
            self._is_snapshot = True
            self._apply(self.kept)

    def confirm(self) -> list[str]:
        """Let go what the registry has lost; say what that is."""
        hold = self.source.hold
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
                self._journal.add(Kind.CONFIRMED, name, text)
            self._apply(membership)
            self._spawn(self._keep())  # or it would be held after a restart
        return let_go

    def look_at_leases(self, own_name: str) -> None:
        """Take note of which other members have a lease. Call it often."""
        etcd = self.source.etcd
        if etcd is None or self.membership is None:
            return
        if self._failure or self._is_snapshot:
            self._witnesses.forget()
            return
        others = self.membership.members.keys() - {own_name}
        self._witnesses.look(sorted(others), etcd.live)

    def notes(self, linked: Collection[str]) -> list[str]:
        """Say what an operator should look at, a line each.

        Args:
            linked: Names of those that a link of this node reaches.
        """
        found = self._witnesses.notes(linked)
        if self._failure:
            found.append(f"registry: {self._failure}; the last good one stays in force")
        if self._is_snapshot:
            found.append(
                "registry: never reached; the region is as this node last knew"
            )
        return found + self.source.notes(is_lost=bool(self._failure))

    def document(self) -> dict[str, object]:
        """Describe what is in force and where it is from, for JSON."""
        found, source = self.membership, self.source
        if found is None:
            return {"source": "none", "members": []}
        etcd, reporter, command = source.etcd, source.reporter, source.command
        live = etcd.live if etcd is not None else {}
        statuses = etcd.statuses if etcd is not None else {}
        return {
            "source": "snapshot" if self._is_snapshot else source.name,
            "revision": found.revision,
            "age": time.monotonic() - self._since,
            "region": found.region.plain(),
            "members": [member.plain() for member in found.members.values()],
            "live": {name: record.plain() for name, record in live.items()},
            "status": {name: record.plain() for name, record in statuses.items()},
            "held": list(source.hold.held) if source.hold is not None else [],
            "drains": sorted(found.drains),
            "struck": sorted(found.struck),
            "relists": dict(etcd.relists) if etcd is not None else {},
            "watch_lag": reporter.lag if reporter is not None else None,
            "leader": command.leader if command is not None else "",
            "clients": {
                rule: sum(said == rule for said in found.clients.values())
                for rule in ("allow", "deny")
            },
        }

    async def _believe(self, found: Membership) -> None:
        """Bring a membership into force, as far as it is not doubted, and keep it."""
        hold = self.source.hold
        if hold is None:
            self._apply(found)
        else:
            before = hold.held
            membership = hold.judge(found)
            if set(hold.held) - set(before):
                names = ", ".join(hold.held)
                logger.warning("region: %s vanished from the registry; held", names)
            tell_held(self._journal, before, hold.held, found)
            self._apply(membership)
        await self._keep()

    def _apply(self, membership: Membership) -> None:
        names = ", ".join(membership.members) or "nobody"
        logger.info("region: revision %d: %s", membership.revision, names)
        tell_changes(self._journal, self.membership, membership)
        self.membership = membership
        self._since = time.monotonic()
        self._to_apply(membership)

    async def _keep(self) -> None:
        """Keep what is in force on disk; the latest is kept last."""
        async with self._keeping:
            if self.membership is not None:
                await asyncio.to_thread(self._snapshots.save, self.membership)

    def _failed(self, reason: str) -> None:
        if not reason:
            self._journal.add(Kind.REGISTRY_BACK, text="it answers again")
        elif not self._failure:  # what fails next, it fails for the same cause
            self._journal.add(Kind.REGISTRY_LOST, text=reason)
        self._failure = reason
