"""The history of a region's map in etcd: what it was, and how it becomes that again."""

from collections.abc import Mapping
from contextlib import suppress

from derpmesh.membership.edits import MOST, Dated, Wanted, node_edit, region_edit
from derpmesh.membership.model import Member
from derpmesh.membership.records import BadRecord, Edit, NodeIntent, Stored
from derpmesh.membership.store import Found, IntentStore, answering


class Archive:
    """Looks back at what the map was, and changes all of it at once.

    Every call raises `RegistryUnavailable` if etcd does not answer.

    Args:
        store: Of the region.
    """

    def __init__(self, store: IntentStore) -> None:
        self._store = store

    async def edits(self) -> list[Dated]:
        """Give every change of the map that is kept, oldest first, but broken ones."""
        store = self._store
        with answering():
            listing = await store.client.range_prefix(store.keys.of("edits", ""))
        found: list[Dated] = []
        for item in sorted(listing.items, key=lambda one: one.mod_revision):
            with suppress(BadRecord):
                found.append(Dated(Edit.read(item.key, item.value), item.mod_revision))
        return found

    async def become(self, wanted: Wanted, seen: Wanted | None) -> int | None:
        """Have the region be as it is wanted, all of it at once.

        Nodes that are not wanted are taken out; of those that stay, a wish to drain
        stays, too.

        Args:
            wanted: How it is to be.
            seen: How it was when somebody decided that; None: nobody knew it.

        Returns:
            The revision; None if it is otherwise by now, so that nothing was done.

        Raises:
            BadRecord: A record is broken.
        """
        store = self._store
        now = await store.read()
        was = now.wanted
        if (was is None) != (seen is None):
            return None
        if was and seen and (was.members, was.intent) != (seen.members, seen.intent):
            return None
        members = {member.name: member for member in wanted.members}
        puts: dict[bytes, tuple[Stored, int]] = {}
        edits: list[Edit | None] = []
        for name in sorted({*now.nodes, *members}):
            before = now.nodes.get(name)
            intent = self._intent(before, members.get(name))
            if intent is not None:
                last = before.intent if before is not None else None
                edits.append(node_edit(last, intent, store.author))
                revision = before.revision if before is not None else 0
                puts[store.keys.of("intent", name)] = intent, revision
        if wanted.intent != now.region:
            said = wanted.intent.model_copy(update={"author": store.author})
            edits.append(region_edit(now.region, said, store.author))
            puts[store.keys.region] = said, now.region_revision
        if not puts:
            return now.revision
        return await store.write(puts, edits, _unchanged(store, now.nodes, puts))

    def _intent(self, before: Found | None, member: Member | None) -> NodeIntent | None:
        """Give what to write of a node; None if it is as it is to be."""
        author = self._store.author
        if before is None:
            return NodeIntent(node=member, author=author) if member else None
        last = before.intent
        update: dict[str, object] = {"removed": False, "node": member}
        if member is None:
            update = {"removed": True, "drain": None}
        intent = last.model_copy(update=update)
        if intent == last or (member is None and last.removed):
            return None
        return intent.model_copy(update={"author": author})

    async def forget(self) -> None:
        """Delete the oldest edits, if there are more than `MOST`."""
        store = self._store
        for dated in (await self.edits())[:-MOST]:
            with answering():
                key = store.keys.of("edits", dated.edit.number)
                await store.client.delete(key)


def _unchanged(
    store: IntentStore, nodes: Mapping[str, Found], puts: Mapping[bytes, object]
) -> dict[bytes, int]:
    """Give the keys of nodes that are not written, and must be as they were read."""
    keys = {store.keys.of("intent", name): one for name, one in nodes.items()}
    return {key: one.revision for key, one in keys.items() if key not in puts}
