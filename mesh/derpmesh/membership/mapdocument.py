"""The map that a node serves: of the membership in force, or of the last whole one."""

import json
import logging

from derpmesh.membership.derpmap import map_tree
from derpmesh.membership.model import Membership
from derpnode.document import Document


logger = logging.getLogger(__name__)


def map_json(membership: Membership) -> bytes:
    """Write the map of a membership, as `derpctl map export -f derpmap` does."""
    tree = map_tree(membership.region, membership.members.values())
    text = json.dumps(tree, indent="\t", ensure_ascii=False)
    return f"{text}\n".encode()


def is_whole(membership: Membership) -> bool:
    """Tell whether clients could use the map of a membership.

    A region without a relay is of no use, and one that nobody can measure is nobody's
    home: who reads such a map loses the one that was good.
    """
    members = membership.members.values()
    relays = any(not member.stun_only for member in members)
    measured = any(member.stun_port > 0 for member in members)
    return relays and (measured or not membership.region.measure)


class MapDocument:
    """The last map that clients could use."""

    last: Document | None = None
    """None: there was none yet."""

    def follow(self, membership: Membership) -> None:
        """Take the map of a membership that has come into force, if it is whole."""
        if is_whole(membership):
            self.last = Document.of(map_json(membership))
        elif self.last is not None:
            logger.warning("region: its members make no map; the last one is served")
