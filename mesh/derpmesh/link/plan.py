"""Which links there should be. Pure: membership in, links to open and close out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from derpmesh.membership.model import DERP_PORT, Membership
from derpnode.config import Address, MeshPeer


@dataclass(frozen=True)
class Target:
    """One relay to link to. Two that are equal need no new link."""

    name: str
    """Name of the member, or URL of a static peer."""

    host: str
    """Name that the certificate is for, and the Host of the request."""

    port: int
    dial: Address | None = None
    """Where to connect to, if not to `host` and `port`."""

    pin: str | None = None
    ca_file: Path | None = None
    """What is trusted where there is no pin; None: the system's roots."""

    tls: bool = True
    is_member: bool = True
    """Whether a registry names it: it is one of ours, and not a Go derper."""


@dataclass(frozen=True)
class Plan:
    """What to do to the links that are open."""

    close: tuple[str, ...]
    open: tuple[Target, ...]


def targets(
    membership: Membership | None,
    own_name: str,
    peers: Sequence[MeshPeer],
    ca_file: Path | None,
) -> dict[str, Target]:
    """Name every relay that this node should be linked to.

    Args:
        membership: The region; None while it is not known.
        own_name: This node, which is not linked to itself.
        peers: Relays that no registry names.
        ca_file: What is trusted of members without a pin.
    """
    found = {peer.url: _static(peer) for peer in peers}
    for member in membership.members.values() if membership is not None else ():
        if member.name == own_name or member.stun_only:
            continue
        found[member.name] = Target(
            member.name,
            member.host,
            member.derp_port,
            dial=member.dial or _address(member.ipv4, member.derp_port),
            pin=member.pin,
            ca_file=ca_file,
        )
    return found


def _address(ip: object, port: int) -> Address | None:
    """Dial by address where the record has one: DNS may be what is broken."""
    return None if ip is None or ip == "none" else Address(str(ip), port)


def _static(peer: MeshPeer) -> Target:
    url = urlsplit(peer.url)
    tls = url.scheme == "https"
    return Target(
        peer.url,
        url.hostname or "",
        url.port or (DERP_PORT if tls else 80),
        dial=peer.dial,
        pin=peer.pin,
        ca_file=peer.ca_file,
        tls=tls,
        is_member=False,
    )


def plan(open_links: Mapping[str, Target], wanted: Mapping[str, Target]) -> Plan:
    """Compare the links that are with those that should be.

    A target that changed is closed and opened again; all others are left alone.
    """
    close = tuple(
        name for name, target in open_links.items() if wanted.get(name) != target
    )
    fresh = tuple(
        target for name, target in wanted.items() if open_links.get(name) != target
    )
    return Plan(close, fresh)
