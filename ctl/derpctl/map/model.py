"""A DERP map as a value: Tailscale's structs, field for field and in their order.

Source: tailscale ``tailcfg/derpmap.go``. A field's ``metadata`` says its JSON name
and whether Go writes it when it is zero; canonical form and readers go by that.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field


def _named(json: str, *, always: bool = False) -> dict[str, object]:
    return {"json": json, "always": always}


DEFAULT_DERP_PORT = 443
DEFAULT_STUN_PORT = 3478
"""Ports that 0 stands for."""

PIN_PREFIX = "sha256-raw:"
"""What a `CertName` begins with that is the hash of a certificate."""

LARGEST = 1 << 20
"""Bytes of a map; netcheck reads no more."""

DISABLED = "none"
"""An address that is no address turns its family off; this is the custom."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One server of a region. Source: ``DERPNode``."""

    name: str = field(metadata=_named("Name", always=True))
    """Unique over all regions: `900a`. Not a host name."""

    region_id: int = field(metadata=_named("RegionID", always=True))
    """Must be that of the region."""

    host_name: str = field(metadata=_named("HostName", always=True))
    """What clients call it: SNI and HTTP Host. A DNS name or an IP literal."""

    cert_name: str = field(default="", metadata=_named("CertName"))
    """A pin, another DNS name, or empty for the host name."""

    ipv4: str = field(default="", metadata=_named("IPv4"))
    """Dialled instead of a look-up; no address at all turns IPv4 off."""

    ipv6: str = field(default="", metadata=_named("IPv6"))
    """The same for IPv6."""

    stun_port: int = field(default=0, metadata=_named("STUNPort"))
    """0 is 3478, negative is no STUN."""

    stun_only: bool = field(default=False, metadata=_named("STUNOnly"))
    """Not a relay."""

    derp_port: int = field(default=0, metadata=_named("DERPPort"))
    """0 is 443."""

    insecure_for_tests: bool = field(default=False, metadata=_named("InsecureForTests"))
    """Clients check no certificate, unless there is a `cert_name`."""

    stun_test_ip: str = field(default="", metadata=_named("STUNTestIP"))
    """Where tests send STUN instead."""

    can_port80: bool = field(default=False, metadata=_named("CanPort80"))
    """Answers captive-portal checks on port 80."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Region:
    """A set of nodes that forward to each other. Source: ``DERPRegion``."""

    region_id: int = field(metadata=_named("RegionID", always=True))
    """900 to 999 are for everybody's own."""

    region_code: str = field(default="", metadata=_named("RegionCode", always=True))
    """Short tag."""

    region_name: str = field(default="", metadata=_named("RegionName", always=True))
    """Name for people."""

    latitude: float = field(default=0.0, metadata=_named("Latitude"))
    """Degrees; 0 is unset."""

    longitude: float = field(default=0.0, metadata=_named("Longitude"))
    """Degrees; 0 is unset."""

    avoid: bool = field(default=False, metadata=_named("Avoid"))
    """Deprecated."""

    no_measure_no_home: bool = field(default=False, metadata=_named("NoMeasureNoHome"))
    """Never a home, only dialled where a peer lives."""

    nodes: tuple[Node, ...] = field(default=(), metadata=_named("Nodes", always=True))
    """In order of preference."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HomeParams:
    """How clients choose their home. Source: ``DERPHomeParams``."""

    region_score: Mapping[int, float] = field(
        default_factory=dict, metadata=_named("RegionScore")
    )
    """Factor on the latency of a region: below 1 prefers it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DerpMap:
    """Regions by id. Source: ``DERPMap``."""

    home_params: HomeParams | None = field(default=None, metadata=_named("HomeParams"))
    """None leaves with clients what they have."""

    regions: Mapping[int, Region] = field(
        default_factory=dict, metadata=_named("Regions", always=True)
    )
    """Empty is no regions at all."""

    omit_default_regions: bool = field(
        default=False, metadata=_named("omitDefaultRegions")
    )
    """Whether Tailscale's own regions are left out."""
