"""The page `/v1/presence`: who is here, and who others have said is with them.

What one node tells of itself and what another believes of it are to be the same, but
for what is under way; whoever asks both can compare.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from derpnode.server.facts import NodeFacts
from derpnode.wire.keys import NodeKey, node_key_text


@dataclass(frozen=True)
class Presences:
    """Who is where, as one node knows it at one moment."""

    name: str
    server_key: NodeKey
    local: frozenset[NodeKey]
    """Clients that are connected here; watchers were told of them."""

    mesh: frozenset[NodeKey]
    """Others that watchers were told of: links of other nodes, and probers."""

    links: Mapping[str, frozenset[NodeKey]]
    """Whom the peer of each link that is up has announced, as routes follow from it."""

    def json(self) -> str:
        """Write it; takes a second for a million keys, and lets other threads run."""
        found = {
            "name": self.name,
            "server_key": node_key_text(self.server_key),
            "local": _texts(self.local),
            "mesh": _texts(self.mesh),
            "links": {peer: _texts(keys) for peer, keys in self.links.items()},
        }
        # `dumps` would hold the interpreter until all of it is written.
        return "".join(json.JSONEncoder().iterencode(found)) + "\n"


def presences(facts: NodeFacts) -> Presences:
    """Copy who is where; it must all be of one moment."""
    clients = list(facts.relay.clients())
    local = frozenset(client.key for client in clients if not client.mesh)
    mesh = frozenset(client.key for client in clients if client.mesh)
    return Presences(
        facts.config.node.name,
        facts.server_key,
        local,
        mesh - local,
        facts.region.announced(),
    )


def _texts(keys: Iterable[NodeKey]) -> list[str]:
    return [node_key_text(key) for key in keys]
