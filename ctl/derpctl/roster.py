"""Which nodes a region has: those of the configuration, and those that others know.

Where the others are is what somebody wrote into the registry, so the operator's token
goes there only over TLS that the operator's own authority vouches for.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from derpctl.admin import Admin, LinkView, MembershipView, MemberView
from derpctl.config import CtlConfig
from derpctl.wanted import registry
from derpmesh.membership.errors import RegistryUnavailable


@dataclass(frozen=True, slots=True)
class Entry:
    """One node, and where it can be asked."""

    name: str
    admin: str = ""
    """URL of its admin listener; empty if nobody knows one."""

    recorded: str = ""
    """What it says of itself in the registry, under its lease: `serving`, say."""

    links: Sequence[LinkView] | None = None
    """Its links, as it says there."""

    is_trusted: bool = True
    """Whether it is from the operator: then the token may go there."""


def admin_of(
    entry: Entry, config: CtlConfig, token: str | None, timeout: float
) -> Admin:
    """Give the admin listener of a node.

    Args:
        entry: The node.
        config: Names the authority.
        token: For nodes that may have it.
        timeout: Seconds that an answer may take.
    """
    is_vouched = (
        entry.admin.startswith("https:") and config.admin_authorities is not None
    )
    shown = token if entry.is_trusted or is_vouched else None
    return Admin(entry.admin, timeout, shown, config.admin_authorities)


async def begun(config: CtlConfig) -> list[Entry]:
    """Give the nodes to ask first: those that are configured, else those recorded.

    Raises:
        CtlError: None is configured, and the registry has none or cannot be read.
    """
    if config.nodes or config.registry.etcd is None:
        return [Entry(node.name, node.admin) for node in config.nodes]
    try:
        async with registry.opened(config) as operator:
            intents, live = await operator.nodes(), await operator.live()
    except RegistryUnavailable as exc:
        raise registry.unreachable(exc) from exc
    found = []
    for name, one in sorted(intents.items()):
        if one.intent.removed:
            continue
        record = live.get(name)
        admin = one.intent.node.admin or (record.admin if record else None) or ""
        state = record.state if record is not None else ""
        found.append(Entry(name, admin, state, is_trusted=False))
    if not found:
        raise registry.no_node(config)
    return found


def taken_out(views: Sequence[MembershipView]) -> set[str]:
    """Name the nodes that an operator took out, and that nobody has as a member."""
    members = {member.name for view in views for member in view.members}
    return {name for view in views for name in view.struck} - members


def others(known: Iterable[str], views: Sequence[MembershipView]) -> list[Entry]:
    """Give the nodes that answering nodes know of, and we did not.

    Args:
        known: Names that were asked.
        views: What those that answered say of the region.
    """
    seen = set(known)
    found: list[Entry] = []
    for view in views:
        for member in view.members:
            if member.name not in seen:
                seen.add(member.name)
                found.append(_entry(member, view))
    return found


def _entry(member: MemberView, view: MembershipView) -> Entry:
    live, status = view.live.get(member.name), view.status.get(member.name)
    links = None
    if status is not None:
        links = [LinkView(peer=peer, state=how) for peer, how in status.links.items()]
    return Entry(
        member.name,
        member.admin or (live.admin if live is not None else None) or "",
        recorded=live.state if live is not None else "",
        links=links,
        is_trusted=False,
    )
