"""What this node is in a DERP map: the entry that an operator pastes.

Source: tailscale ``tailcfg/derpmap.go``, ``DERPNode``: names, order and what is left
out when it is zero.
"""

import ipaddress
import json

from derpnode.config import NO_ADDRESS, NodeConfig
from derpnode.server.certificates import TlsIdentity


_DERP_PORT = 443  # what a client dials when the entry names no port
_STUN_PORT = 3478
_NO_STUN = -1
_CAPTIVE_PORTAL_PORT = 80


def map_entry(
    config: NodeConfig,
    identity: TlsIdentity | None,
    derp_port: int,
    stun_port: int | None,
) -> dict[str, object]:
    """Describe the node as a `DERPNode`.

    Args:
        config: Names, addresses and published ports; those win over the two.
        identity: What TLS shows; None where TLS ends in front of the node.
        derp_port: The relay's port, as bound.
        stun_port: The STUN port, as bound; None when STUN is off.
    """
    ipv4, ipv6 = _addresses(config)
    derp = config.derp.public_port or derp_port
    pinned = identity is not None and identity.self_signed
    fields: dict[str, object] = {
        "CertName": identity.pin if identity is not None and pinned else "",
        "IPv4": ipv4,
        "IPv6": ipv6,
        "STUNPort": _stun_port(config, stun_port),
        "STUNOnly": not config.derp.enabled,
        "DERPPort": 0 if derp == _DERP_PORT else derp,
        "CanPort80": _can_port_80(config) and ipv4 not in {"", "none"},
    }
    return {
        "Name": config.node.name,
        "RegionID": config.region.id,
        "HostName": config.node.host,
        **{name: value for name, value in fields.items() if value},
    }


def ready_node_line(
    config: NodeConfig,
    identity: TlsIdentity | None,
    derp_port: int,
    stun_port: int | None,
) -> str:
    """Write the entry as derper logs it: JSON on one line, ready to paste.

    Source: tailscale ``cmd/derper/cert.go``, ``NewManualCertManager``.
    """
    entry = map_entry(config, identity, derp_port, stun_port)
    return json.dumps(entry, separators=(",", ":"))


def _addresses(config: NodeConfig) -> tuple[str, str]:
    """Give both addresses; empty has clients look the name up."""
    ipv4, ipv6 = (str(ip or "") for ip in (config.node.ipv4, config.node.ipv6))
    try:
        host = ipaddress.ip_address(config.node.host)
    except ValueError:
        return ipv4, ipv6
    # An address is all there is to such a host: it has no other family to look up.
    if isinstance(host, ipaddress.IPv4Address):
        return ipv4 or str(host), ipv6 or NO_ADDRESS
    return ipv4 or NO_ADDRESS, ipv6 or str(host)


def _stun_port(config: NodeConfig, bound: int | None) -> int:
    if bound is None:
        return _NO_STUN
    port = config.stun.public_port or bound
    return 0 if port == _STUN_PORT else port


def _can_port_80(config: NodeConfig) -> bool:
    """Tell whether captive-portal checks of clients are answered."""
    return config.has_http_port and any(
        address.port == _CAPTIVE_PORTAL_PORT for address in config.http.listen
    )
