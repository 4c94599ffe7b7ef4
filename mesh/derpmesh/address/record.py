"""Has the registry say what a node has become, where its address changed meanwhile.

A node records itself once, and the map changes when an operator means it. Where pods
move by themselves, one may mean it beforehand.
"""

from collections.abc import Callable

from derpmesh.config import DaemonConfig
from derpmesh.membership.errors import RegistryError
from derpmesh.membership.model import Member
from derpmesh.membership.naming import remembered_name
from derpmesh.membership.operator import operating
from derpmesh.membership.records import BadRecord, NodeIntent
from derpmesh.membership.source import called, member_of
from derpnode.config import AUTO_NAME
from derpnode.server.identity import load_identity
from derpnode.wire.keys import node_key_text


_PLACE = ("host", "ipv4", "ipv6", "pin")
"""What moves with a pod. Whatever else operators said of the node stays."""


async def follow(config: DaemonConfig, say: Callable[[str], None]) -> None:
    """Write what the node is now, if it is recorded as something else.

    A node that is not recorded yet does that itself. One whose name is another's, or
    that was taken out, stays as it is; and so does all of it while etcd is away: that
    keeps no node from starting.

    Args:
        config: Of the node, with its address.
        say: Takes a line for people.

    Raises:
        ConfigError: A file that it names cannot be used.
    """
    name = config.node.name
    if name == AUTO_NAME:
        name = remembered_name(config.state_dir) or ""
    if not name or config.registry.etcd is None:
        return
    member = member_of(called(config, name))
    key = node_key_text(load_identity(config.state_dir).public)
    try:
        async with operating(config.registry.etcd, config.region.id, name) as operator:
            found = (await operator.nodes()).get(name)
            if found is None or not _is_stale(found.intent, member, key):
                return
            moved = {one: getattr(member, one) for one in _PLACE}
            node = found.intent.node.model_copy(update=moved)
            intent = found.intent.model_copy(update={"node": node})
            if await operator.put(intent, found):
                was = found.intent.node.host
                say(f"{name}: recorded as {member.host} from now on, was {was}")
    except (RegistryError, BadRecord) as exc:
        say(f"{name}: the record of it stays as it is: {exc}")


def _is_stale(intent: NodeIntent, member: Member, key: str) -> bool:
    """Tell whether an intent is this node's own, and says that it is elsewhere."""
    is_own = intent.server_key == key and not intent.removed
    was = intent.node
    return is_own and any(getattr(was, one) != getattr(member, one) for one in _PLACE)
