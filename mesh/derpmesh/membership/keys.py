"""Where in etcd the records of one region are."""

from dataclasses import dataclass
from typing import Literal, get_args

from derpnode.wire.errors import BadKeyText
from derpnode.wire.keys import NodeKey, node_key_text, parse_node_key


Kind = Literal["intent", "members", "status", "orders", "edits"]

_REGION = "_region"  # no node's name: those have no underscore


@dataclass(frozen=True, slots=True)
class Keys:
    """The keys of a region: `PREFIX/regions/ID/KIND/NAME`.

    Args:
        prefix: What all keys of ours begin with, `/derpmesh/v1`.
        region_id: Of the region.
    """

    prefix: str
    region_id: int

    @property
    def all_regions(self) -> bytes:
        """What every key of any region begins with."""
        return f"{self.prefix}/regions/".encode()

    @property
    def root(self) -> bytes:
        """What every key of the region begins with."""
        return self.all_regions + f"{self.region_id}/".encode()

    @property
    def region(self) -> bytes:
        """What is wanted of the region as a whole."""
        return self.of("intent", _REGION)

    def of(self, kind: Kind, name: str) -> bytes:
        """Give the key of one record of a node."""
        return self.root + f"{kind}/{name}".encode()

    @property
    def leader(self) -> bytes:
        """Who leads the region."""
        return self.root + b"leader"

    @property
    def clients(self) -> bytes:
        """What the keys of all rules for clients begin with."""
        return self.root + b"clients/"

    def client(self, client: NodeKey) -> bytes:
        """Give the key of the rule for one client."""
        return self.clients + node_key_text(client).encode()

    def read_client(self, key: bytes) -> NodeKey | None:
        """Say which client a key has the rule of; None if it is no such key."""
        text = key.removeprefix(self.clients).decode("utf-8", "replace")
        try:
            found = parse_node_key(text)
        except BadKeyText:
            return None
        return found if self.client(found) == key else None

    def read(self, key: bytes) -> tuple[Kind, str] | None:
        """Say whose record a key is; None if it is none that we know of."""
        words = key.removeprefix(self.root).decode("utf-8", "replace").split("/")
        if not key.startswith(self.root) or len(words) != 2:  # noqa: PLR2004
            return None
        for kind in get_args(Kind):
            if words[0] == kind and words[1] and words[1] != _REGION:
                return kind, words[1]
        return None
