"""Replaces the mesh key of a region, node by node, while everybody goes on."""

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from derpctl import keys
from derpctl.admin import Admin, AdminFailed, CommandRefused, LinkView
from derpctl.config import CtlConfig, read_token
from derpctl.documents import document
from derpctl.errors import CtlError
from derpctl.exits import Exit
from derpctl.keyring import NodeKeys, Rotation, Stand, items, rotation_of
from derpctl.phases import Until
from derpnode.wire.keys import MeshKey


_POLL = 0.2  # seconds between two looks at a node whose links are dialled again
_UP = "up"
_SELF = "self"

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Rotated:
    """What came of it."""

    old: str
    new: str | None
    nodes: Sequence[NodeKeys]

    def members(self) -> dict[str, object]:
        """Give it as JSON has it."""
        return {"old": self.old, "new": self.new, "items": items(self.nodes)}


def rotated_document(region: int, done: Rotated) -> dict[str, object]:
    """Make the document of `derpctl key mesh rotate`."""
    return document("MeshKeyRotation", region=region, **done.members())


def admins_of(config: CtlConfig, *, timeout: float) -> dict[str, Admin]:
    """Give the admin listener of every node, by its name.

    Raises:
        CtlError: The token cannot be read.
    """
    token = read_token(config.token_file)
    return {
        node.name: Admin(node.admin, timeout, token, config.admin_authorities)
        for node in config.nodes
    }


async def ask_keys(admins: Mapping[str, Admin]) -> list[NodeKeys]:
    """Ask every node for its mesh keys, all at once."""
    return list(await asyncio.gather(*(_keys(*pair) for pair in admins.items())))


async def _keys(name: str, admin: Admin) -> NodeKeys:
    try:
        found = (await admin.node()).mesh_keys
    except AdminFailed as exc:
        return NodeKeys(name, error=str(exc))
    if found is None:
        return NodeKeys(name, error="it has no mesh key, or knows of no rotation")
    return NodeKeys(name, found)


class Rotator:
    """Leads the nodes of a region from one mesh key to another, or back.

    It keeps nothing: where the nodes are says what is to be done, so that it may be
    interrupted anywhere, and run again.

    Args:
        admins: The nodes, by name.
        say: Tells people how it goes.
        patience: Seconds that the links of one node may take to be up again.
    """

    def __init__(
        self, admins: Mapping[str, Admin], say: Say, *, patience: float
    ) -> None:
        self._admins = admins
        self._say = say
        self._patience = patience

    async def rotate(self, key_file: Path | None, until: Until | None) -> Rotated:
        """Go on to the new key, or begin with one.

        Args:
            key_file: Where the operator keeps it; made if need be. None: the nodes
                alone have it.
            until: The phase to stop after; None: to the end.

        Raises:
            CtlError: A node does not answer, refuses, or has other keys; its links
                do not come back; a peer still has the old key.
        """
        rotation = await self._where()
        key = _key(rotation, key_file)
        if rotation.new is None and key is not None:
            if key.fingerprint() == rotation.old:
                self._say(f"every node has the key of {key_file} already")
                return await self._done(rotation.old, None)
            rotation = Rotation(rotation.old, key.fingerprint(), rotation.stands)
        await self._stage(rotation, key)
        if until is not Until.STAGE:
            await self._each(Stand.STAGED, "switch", rotation.new)
        if until is None:
            await self._retire(rotation.old, rotation.new)
        return await self._done(rotation.old, rotation.new)

    async def abort(self, until: Until | None) -> Rotated:
        """Go back to the old key.

        Args:
            until: `stage` stops once every node sends the old key again, and still
                takes the new one.

        Raises:
            CtlError: As above; or a node has retired the old key.
        """
        rotation = await self._where()
        if rotation.new is None:
            self._say("no rotation is under way")
            return await self._done(rotation.old, None)
        if gone := rotation.those(Stand.RETIRED):
            reason, hint = "the old key is retired there", "go on, without --abort"
            raise CtlError(", ".join(gone), reason, hint, Exit.REFUSED)
        await self._each(Stand.SWITCHED, "back", rotation.old)
        if until is None:
            await self._check_links(rotation.new, "with the old key")
            for name in (await self._where()).those(Stand.STAGED):
                await self._step(name, "abort")
                self._say(f"{name}: has {rotation.old} alone")
                await self._settle(name, await self._renewing(name), rotation.old)
        return await self._done(rotation.old, rotation.new)

    # Phases.

    async def _stage(self, rotation: Rotation, key: MeshKey | None) -> None:
        """Have every node take the new key, too."""
        for name in rotation.those(Stand.STEADY):
            if key is None:
                reason = f"it has not got {rotation.new} yet, and nor has this command"
                hint = "give --key-file, or take all back with --abort"
                raise CtlError(name, reason, hint, Exit.REFUSED)
            await self._step(name, "stage", key.text())
            self._say(f"{name}: takes {rotation.new}, too")
        now = await self._where()
        if missing := now.those(Stand.STEADY):
            reason, hint = "the new key is not there any more", "look at its key files"
            raise CtlError(", ".join(missing), reason, hint, Exit.REFUSED)

    async def _each(self, stand: Stand, phase: str, fingerprint: str | None) -> None:
        """Take a step on each node that stands so; wait for its links each time."""
        begun = await self._where()
        for name in begun.stands:
            # One that took the step before an interruption may not be done yet.
            peers = await self._renewing(name)
            if begun.stands[name] is stand:
                links = await self._links(name)
                peers = [link.peer for link in links if link.state == _UP]
                await self._step(name, phase)
                self._say(f"{name}: sends {fingerprint}")
            await self._settle(name, peers, fingerprint)

    async def _retire(self, old: str, new: str | None) -> None:
        """Have every node take the old key no more."""
        await self._check_links(old, "with the new key")
        for name in (await self._where()).those(Stand.SWITCHED):
            await self._step(name, "retire")
            self._say(f"{name}: takes {old} no more")
            await self._settle(name, await self._renewing(name), new)

    async def _step(self, name: str, phase: str, key: str | None = None) -> None:
        try:
            await self._admins[name].mesh_key(phase, key)
        except CommandRefused as exc:
            hint = "run it again after that, or with --abort"
            raise CtlError(name, exc.reason, hint, Exit.REFUSED) from exc
        except AdminFailed as exc:
            raise CtlError(exc.url, exc.reason, exc.hint, Exit.UNREACHABLE) from exc

    # Looking.

    async def _where(self) -> Rotation:
        """Ask every node how far it is.

        Raises:
            CtlError: One does not answer, or is not in the same rotation.
        """
        rotation = rotation_of(await ask_keys(self._admins))
        for name in self._admins:
            for link in await self._links(name):
                if link.is_member and link.peer not in self._admins:
                    reason = f"{name} is linked to it, and derpctl does not know it"
                    hint = "add it to the nodes in derpctl's configuration"
                    raise CtlError(link.peer, reason, hint, Exit.REFUSED)
        return rotation

    async def _links(self, name: str) -> Sequence[LinkView]:
        try:
            return await self._admins[name].links()
        except AdminFailed as exc:
            raise CtlError(exc.url, exc.reason, exc.hint, Exit.REFUSED) from exc

    async def _renewing(self, name: str) -> list[str]:
        return [link.peer for link in await self._links(name) if link.renewing]

    async def _settle(self, name: str, peers: Sequence[str], key: str | None) -> None:
        """Wait until the links to these peers are up again, with this key.

        A peer that is no node of ours may have another one.
        """
        clock = asyncio.get_running_loop().time
        deadline, admin = clock() + self._patience, self._admins[name]
        while True:
            missing = list(await _missing(admin, peers, key))
            if not missing:
                return
            if clock() >= deadline:
                reason = f"not up with {key} in {self._patience:g} s: {missing[0]}"
                hint = "look at the logs of both; then run it again, or with --abort"
                value = f"links of {name}"
                raise CtlError(value, reason, hint, Exit.DEADLINE)
            await asyncio.sleep(_POLL)

    async def _check_links(self, gone: str | None, how: str) -> None:
        """See that no relay which is not ours would be cut off by dropping a key.

        Nodes of ours are known to take the other one.

        Raises:
            CtlError: One takes no other.
        """
        for name in self._admins:
            for link in await self._links(name):
                if link.state not in (_UP, _SELF):
                    self._say(f"{name}: its link to {link.peer} is {link.state}")
                elif link.mesh_key == gone and not link.is_member:
                    reason = f"the link takes {gone} only, which is to go"
                    hint = f"restart that relay {how}, then run it again"
                    value = f"{name} to {link.peer}"
                    raise CtlError(value, reason, hint, Exit.REFUSED)

    async def _done(self, old: str, new: str | None) -> Rotated:
        return Rotated(old, new, await ask_keys(self._admins))


async def _missing(
    admin: Admin, peers: Sequence[str], key: str | None
) -> Iterator[str]:
    """Say which links are not as they should be, and how they are."""
    try:
        links = {link.peer: link for link in await admin.links()}
    except AdminFailed as exc:
        return iter([str(exc)])
    return (_state(links[peer]) for peer in peers if _is_amiss(links.get(peer), key))


def _is_amiss(link: LinkView | None, key: str | None) -> bool:
    """Tell whether a link is still to come; one that is not wanted any more is not."""
    if link is None:
        return False
    is_new = link.mesh_key == key or not link.is_member
    return link.renewing or link.state != _UP or not is_new


def _state(link: LinkView) -> str:
    why = f": {link.error}" if link.error else ""
    return f"{link.peer} is {link.state}, with {link.mesh_key}{why}"


def _key(rotation: Rotation, file: Path | None) -> MeshKey | None:
    """Give the new key; None if only the nodes have it.

    Raises:
        CtlError: The file cannot be used, or has another key than the nodes.
    """
    if file is None:
        return keys.new_mesh_key() if rotation.new is None else None
    found = keys.find_mesh_key(file)
    if rotation.new is not None:
        if found is None or found.fingerprint() != rotation.new:
            has = "is not there" if found is None else f"has {found.fingerprint()}"
            reason = f"the nodes are on their way to {rotation.new}, and it {has}"
            hint = "give the file of that key, or begin again after --abort"
            value = f"--key-file = {file}"
            raise CtlError(value, reason, hint, Exit.REFUSED)
        return found
    if found is None:
        keys.make_mesh_key(file)
        found = keys.find_mesh_key(file)
    return found
