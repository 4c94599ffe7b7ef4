"""What a node knows of its region: `/v1/presence` and `/v1/membership`."""

from collections.abc import Mapping, Sequence

from pydantic import BaseModel, ConfigDict, JsonValue


class _View(BaseModel):
    """Newer nodes say more, older ones less."""

    model_config = ConfigDict(
        extra="ignore", frozen=True, use_attribute_docstrings=True
    )


class PresenceView(_View):
    """Who is where, as one node knows it."""

    name: str
    server_key: str
    local: frozenset[str]
    """`nodekey:…` of each client that is connected there."""

    mesh: frozenset[str] = frozenset()
    """Others that it tells those who watch it of."""

    links: Mapping[str, frozenset[str]] = {}
    """Whom the peer of each link that is up has announced."""

    def is_to_be_known_by(self, other: "PresenceView") -> frozenset[str]:
        """Give whom another node must know here: all but itself."""
        return (self.local | self.mesh) - {other.server_key}


class MembershipView(_View):
    """The region, as one node has it in force."""

    source: str
    """`none`, `file`, `etcd` or `snapshot`."""

    revision: int | None = None
    region: Mapping[str, JsonValue] = {}
    members: Sequence[Mapping[str, JsonValue]] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """The members, in the order of the map."""
        return tuple(str(member.get("name")) for member in self.members)
