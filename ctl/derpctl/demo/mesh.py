"""Has the nodes of a demo find each other, as an operator would: through a file."""

import asyncio
from collections.abc import Callable, Sequence

import yaml

from derpctl.admin import Admin, AdminFailed
from derpctl.demo.children import Child, NodeFailed, print_node
from derpctl.demo.plan import Plan, write_file
from derpctl.errors import CtlError
from derpctl.exits import Exit
from derpmesh.config import EtcdSection
from derpmesh.membership.errors import RegistryError
from derpmesh.membership.model import Member
from derpmesh.membership.operator import operating
from derpmesh.membership.records import BadRecord, NodeIntent


MESHED_WITHIN = 30.0
"""Seconds from when all nodes are ready until every link must be up."""

_AUTHOR = "derpctl demo"
_POLL = 0.1
_QUESTION = 1.0


async def write_region(plan: Plan) -> None:
    """Ask each node for its entry, and put them into the region's file.

    Raises:
        NodeFailed: A node's configuration cannot be used.
    """
    settings = plan.options.settings
    texts = await asyncio.gather(*(print_node(node, settings) for node in plan.nodes))
    entries = [entry for text in texts for entry in yaml.safe_load(text)]
    for entry, node in zip(entries, plan.nodes, strict=True):
        entry["admin"] = node.admin
    etcd = plan.nodes[0].config.registry.etcd
    if etcd is not None:
        members = [Member.model_validate(entry) for entry in entries]
        await _write_intents(etcd, plan.options.region, members)
        return
    region = {"id": plan.options.region, "code": "demo", "name": "derpmesh demo"}
    tree = {"region": region, "nodes": entries}
    text = yaml.safe_dump(tree, sort_keys=False)
    head = "# The region, the same on every node. An edit opens and closes links.\n"
    write_file(plan.region_file, f"{head}{text}".encode())


async def _write_intents(
    settings: EtcdSection, region: int, members: Sequence[Member]
) -> None:
    """List the nodes in etcd, in place of those of an earlier demo there.

    Raises:
        CtlError: etcd does not answer, or the region is somebody else's.
    """
    value = f"region {region} at {settings.endpoints[0]}"
    wanted = {member.name: member for member in members}
    try:
        async with operating(settings, region, _AUTHOR) as operator:
            found = await operator.nodes()
            for name, old in found.items():
                if old.intent.author != _AUTHOR:
                    reason = f"{name} is in it, which {old.intent.author} wrote"
                    hint = "give another --region, or another etcd"
                    raise CtlError(value, reason, hint, Exit.REFUSED)
                if name not in wanted:
                    struck = old.intent.model_copy(update={"removed": True})
                    await operator.put(struck, old)
            for name, member in wanted.items():
                intent = NodeIntent(node=member, author=_AUTHOR)
                if not await operator.put(intent, found.get(name)):
                    reason, hint = "somebody else writes to it", "try again"
                    raise CtlError(value, reason, hint, Exit.REFUSED)
    except (RegistryError, BadRecord) as exc:
        hint = "check --etcd, and that it runs"
        raise CtlError(value, str(exc), hint, Exit.UNREACHABLE) from exc


async def wait_meshed(children: Sequence[Child], say: Callable[[str], None]) -> None:
    """Wait until every node is linked to every other, telling how far it is.

    Raises:
        NodeFailed: A node ended, or a link is not up in time.
    """
    clock = asyncio.get_running_loop().time
    deadline = clock() + MESHED_WITHIN
    wanted, told = len(children) * (len(children) - 1), -1
    while True:
        found = await asyncio.gather(*(_links_up(child) for child in children))
        up = sum(count for count, _ in found)
        if up != told and wanted:
            told = up
            say(f"mesh: {up} of {wanted} links are up")
        if up == wanted:
            return
        if clock() > deadline:
            _give_up(children, found)
        await asyncio.sleep(_POLL)


async def _links_up(child: Child) -> tuple[int, str]:
    """Count the links of a node that are up; name one that is not, and why."""
    if child.ended is not None:
        reason = f"ended with {child.ended} before the mesh was complete"
        raise NodeFailed(child.plan, reason, child.tail(), ended=True)
    try:
        links = await Admin(child.plan.admin, _QUESTION).links()
    except AdminFailed as exc:
        return 0, exc.reason
    down = [link for link in links if link.state != "up"]
    why = f"link to {down[0].peer}: {down[0].error or down[0].state}" if down else ""
    return len(links) - len(down), why


def _give_up(children: Sequence[Child], found: Sequence[tuple[int, str]]) -> None:
    for child, (_, why) in zip(children, found, strict=True):
        if why:
            reason = f"not meshed in {MESHED_WITHIN:g} s: {why}"
            raise NodeFailed(child.plan, reason, child.tail(), ended=False)
