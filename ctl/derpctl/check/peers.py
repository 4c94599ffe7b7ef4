"""Which node the peer of a link is: by its name, or where it is by its URL. Pure."""

from collections.abc import Mapping, Sequence
from urllib.parse import urlsplit

from derpctl.check.looks import Look
from derpctl.check.views import PresenceView
from derpctl.reports import Report


DERP_PORT = 443
"""What a node listens on whose entry names no port."""

Place = tuple[str, int]
"""Host and port."""


def places(reports: Sequence[Report]) -> dict[Place, str]:
    """Say where clients come to each node; several nodes may share an address."""
    found: dict[Place, str] = {}
    for report in reports:
        entry = report.view.node.map_entry if report.view is not None else {}
        port = entry.get("DERPPort") or DERP_PORT
        for field in ("HostName", "IPv4", "IPv6"):
            host = entry.get(field)
            if isinstance(host, str) and isinstance(port, int):
                found[host, port] = report.name
    return found


def presences(look: Look, where: Mapping[Place, str]) -> dict[str, PresenceView]:
    """Give what was said at a look, with links by derpctl's names of nodes.

    Links to others, such as a Go derper, are left out: it cannot be asked.

    Args:
        look: What was said.
        where: Names by place, for static peers.
    """
    told = {
        name: answer.presence
        for name, answer in look.items()
        if answer.presence is not None
    }
    names = {name: name for name in look}  # of those that are silent
    names |= {presence.name: name for name, presence in told.items()}
    return {
        name: presence.model_copy(update={"links": _named(presence, names, where)})
        for name, presence in told.items()
    }


def _named(
    presence: PresenceView, names: Mapping[str, str], where: Mapping[Place, str]
) -> dict[str, frozenset[str]]:
    """Name the nodes that links lead to; that of a member goes before a static one."""
    static: dict[str, frozenset[str]] = {}
    members: dict[str, frozenset[str]] = {}
    for peer, keys in presence.links.items():
        place = _place(peer)
        if peer in names:
            members[names[peer]] = keys
        elif place is not None and place in where:
            static[where[place]] = keys
    return static | members


def _place(peer: str) -> Place | None:
    try:
        url = urlsplit(peer)
        port = url.port or (DERP_PORT if url.scheme == "https" else 80)
    except ValueError:
        return None
    return None if url.hostname is None else (url.hostname, port)
