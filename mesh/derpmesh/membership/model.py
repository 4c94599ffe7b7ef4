"""The members of a region, as one immutable snapshot. No I/O, no clock."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from derpnode.config import (
    NO_ADDRESS,
    Host,
    Listen,
    MapIPv4,
    MapIPv6,
    NodeName,
    PinText,
)
from derpnode.wire.keys import NodeKey


Port = Annotated[int, Field(ge=1, le=65_535)]

Latitude = Annotated[float, Field(ge=-90, le=90)]
Longitude = Annotated[float, Field(ge=-180, le=180)]

DERP_PORT = 443
"""What a client dials when the map names no port."""

STUN_PORT = 3478

MOST_GRACE = 3_600.0
"""Seconds that a drain may take at most."""

Rule = Literal["allow", "deny", "none"]
"""What an operator said of a client: let it in, keep it out, or no more of it."""


class Record(BaseModel):
    """Something that a registry holds. Fields it does not know are kept out."""

    model_config = ConfigDict(
        frozen=True,
        strict=True,
        extra="ignore",
        arbitrary_types_allowed=True,
        use_attribute_docstrings=True,
    )


class Region(Record):
    """The region as clients see it."""

    id: Annotated[int, Field(ge=1, le=65_535)] = 900
    code: str = "derpmesh"
    name: str = "derpmesh"
    latitude: Latitude = 0.0
    """Degrees; 0 is unset. Clients go by it when they suggest an exit node."""

    longitude: Longitude = 0.0
    measure: bool = True
    """Whether clients may choose the region as their home."""

    def plain(self) -> dict[str, object]:
        """Give what is recorded, as text formats have it; what is unset is left out."""
        head = {"id": self.id, "code": self.code, "name": self.name}
        return head | self.model_dump(exclude_defaults=True)


class Member(Record):
    """One node of the region, as everybody else must know it."""

    name: NodeName
    """Unique in the map: region id and a letter."""

    host: Host
    """What clients dial, and the name that the certificate is for."""

    ipv4: MapIPv4 | None = None
    ipv6: MapIPv6 | None = None
    derp_port: Port = DERP_PORT
    stun_port: Port | Literal[-1] = STUN_PORT
    """-1: no STUN here."""

    stun_only: bool = False
    """Whether it relays nothing, and only tells clients their address."""

    can_port80: bool = False
    """Whether captive-portal checks may come to port 80."""

    pin: PinText | None = None
    """`sha256-raw:…` of a self-signed certificate; without it the chain is checked."""

    dial: Listen | None = None
    """`IP:PORT` where other nodes connect to, if not where clients do."""

    admin: str | None = None
    """URL of the node's admin listener, for `derpctl`."""

    @classmethod
    def of(cls, entry: Mapping[str, object], *, admin: str | None = None) -> "Member":
        """Record what a `DERPNode` says; `map_entry` undoes it."""
        fields = {
            "name": entry["Name"],
            "host": entry["HostName"],
            "pin": entry.get("CertName"),
            "ipv4": entry.get("IPv4"),
            "ipv6": entry.get("IPv6"),
            "derp_port": entry.get("DERPPort"),
            "stun_port": entry.get("STUNPort"),
            "stun_only": entry.get("STUNOnly"),
            "can_port80": entry.get("CanPort80"),
            "admin": admin,
        }
        known = {name: value for name, value in fields.items() if value is not None}
        return cls.model_validate(known)

    def addresses(self) -> frozenset[str]:
        """Give every IP address that the record has for it, as sockets write them."""
        dial = self.dial.host if self.dial is not None else ""
        texts = (self.host, str(self.ipv4), str(self.ipv6), dial)
        kinds = (IPv4Address, IPv6Address)
        found = (_literal(text, kind) for text in texts for kind in kinds)
        return frozenset(text for text in found if text and text != NO_ADDRESS)

    def plain(self) -> dict[str, object]:
        """Give what is recorded, as text formats have it; defaults are left out."""
        said = self.model_dump(exclude_defaults=True)
        values = {name: getattr(self, name) for name in said}
        return {
            name: value if isinstance(value, bool | int | str) else str(value)
            for name, value in values.items()
        }

    def map_entry(self, region: int) -> dict[str, object]:
        """Describe the member as a `DERPNode`; zero values are left out.

        Source: tailscale ``tailcfg/derpmap.go``.
        """
        fields: dict[str, object] = {
            "CertName": self.pin or "",
            "IPv4": str(self.ipv4 or _literal(self.host, IPv4Address)),
            "IPv6": str(self.ipv6 or _literal(self.host, IPv6Address)),
            "STUNPort": 0 if self.stun_port == STUN_PORT else self.stun_port,
            "STUNOnly": self.stun_only,
            "DERPPort": 0 if self.derp_port == DERP_PORT else self.derp_port,
            "CanPort80": self.can_port80,
        }
        head = {"Name": self.name, "RegionID": region, "HostName": self.host}
        return head | {name: value for name, value in fields.items() if value}


def _literal(host: str, family: type[IPv4Address] | type[IPv6Address]) -> str:
    """Give what a host says of a family: such an address has no other one."""
    try:
        address = ip_address(host)
    except ValueError:
        return ""
    return str(address) if isinstance(address, family) else NO_ADDRESS


class Drain(Record):
    """The wish that a node sends its clients to the others, and takes no new ones."""

    model_config = ConfigDict(extra="allow")

    grace: Annotated[float, Field(ge=0, le=MOST_GRACE, strict=False)] | None = None
    """Seconds that it may take; None leaves that to the node."""

    force: bool = False
    """Also if no other node takes the clients."""


@dataclass(frozen=True)
class Membership:
    """The region at one revision, whole."""

    revision: int
    region: Region
    members: Mapping[str, Member]
    """By name, in the order of the map."""

    struck: frozenset[str] = frozenset()
    """Names that an operator took out, as against records that are just not there."""

    drains: Mapping[str, Drain] = field(default_factory=dict)
    """Nodes that are to be drained, by name."""

    clients: Mapping[NodeKey, Rule] = field(default_factory=dict)
    """Clients that are let in or kept out by name."""

    generation: int = 0
    """Goes up when revisions begin anew, as in a registry restored from a backup."""

    @property
    def place(self) -> tuple[int, int]:
        """Where it is in the history: later ones are greater."""
        return self.generation, self.revision

    def __post_init__(self) -> None:
        for name, member in self.members.items():
            if name != member.name:
                message = f"{member.name} is filed under {name}"
                raise ValueError(message)


@dataclass(frozen=True)
class Change:
    """Everything that one revision changed."""

    revision: int
    put: tuple[Member, ...] = ()
    """Members that are new or different."""

    removed: frozenset[str] = frozenset()
    order: tuple[str, ...] | None = None
    """Every name, in the order of the map; None where it did not change."""

    region: Region | None = None
    struck: frozenset[str] | None = None
    drains: Mapping[str, Drain] | None = None
    clients: Mapping[NodeKey, Rule] | None = None

    def apply(self, before: Membership) -> Membership:
        """Return the membership after it."""
        members = {n: m for n, m in before.members.items() if n not in self.removed}
        members |= {member.name: member for member in self.put}
        if self.order is not None:
            members = {name: members[name] for name in self.order}
        return replace(
            before,
            revision=self.revision,
            members=members,
            region=self.region or before.region,
            struck=before.struck if self.struck is None else self.struck,
            drains=before.drains if self.drains is None else self.drains,
            clients=before.clients if self.clients is None else self.clients,
        )


def difference(before: Membership, after: Membership) -> Change:
    """Say what changed between two snapshots; `apply` undoes it."""
    order = tuple(after.members)
    return Change(
        after.revision,
        put=tuple(m for n, m in after.members.items() if before.members.get(n) != m),
        removed=frozenset(before.members.keys() - after.members.keys()),
        order=None if order == tuple(before.members) else order,
        region=None if after.region == before.region else after.region,
        struck=None if after.struck == before.struck else after.struck,
        drains=None if after.drains == before.drains else after.drains,
        clients=None if _same(after.clients, before.clients) else after.clients,
    )


def _same(one: Mapping[NodeKey, Rule], other: Mapping[NodeKey, Rule]) -> bool:
    """Compare lists that are long, and mostly the very same."""
    return one is other or one == other
