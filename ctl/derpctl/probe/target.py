"""What to probe: how a text on the command line becomes a server to dial."""

import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from derpctl.errors import CtlError
from derpctl.exits import Exit
from derpctl.map.model import (
    DEFAULT_DERP_PORT,
    DEFAULT_STUN_PORT,
    DerpMap,
    Node,
)
from derpnode.client import PIN_PREFIX, ClientTls, Relay


_HOST_PORT = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^:\[\]/]+):(\d+)")
_PIN = re.compile(re.escape(PIN_PREFIX) + "[0-9a-f]{64}")
_HTTP_PORT = 80
_MAX_PORT = 65_535


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A node to probe, and all that is known of it."""

    name: str
    """What to call it."""
    relay: Relay
    """Where it is and how to check its certificate."""
    families: Sequence[int]
    """Address families that the map allows: 4, 6."""
    stun_port: int | None = None
    """None if it has no STUN, or nobody says where."""
    http_port: int | None = None
    """The plain HTTP port; None if nobody says where."""
    server_key: str | None = None
    """`nodekey:…` by its own admin listener, to compare with."""


def parse_target(text: str, tls: ClientTls) -> Target | None:
    """Read `HOST:PORT` or a URL; None if it can only be a name.

    Raises:
        CtlError: A URL or a port that cannot be dialled.
    """
    if "://" in text:
        return _from_url(text, tls)
    match = _HOST_PORT.fullmatch(text)
    if match is None:
        return None
    host, port = match[1].strip("[]"), int(match[2])
    if not 0 < port <= _MAX_PORT:
        raise _bad(text, f"port {port} is not in 1 to {_MAX_PORT}")
    return Target(name=text, relay=Relay(host, port, tls), families=(4, 6))


def _from_url(text: str, tls: ClientTls) -> Target:
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError as exc:
        raise _bad(text, str(exc).lower()) from exc
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise _bad(text, "not an http:// or https:// URL with a host")
    plain = parts.scheme == "http"
    port = port or (_HTTP_PORT if plain else DEFAULT_DERP_PORT)
    relay = Relay(parts.hostname, port, None if plain else tls)
    return Target(name=text, relay=relay, families=(4, 6))


def from_map(derp_map: DerpMap, name: str, tls: ClientTls, *, source: object) -> Target:
    """Find a node in a map.

    Args:
        derp_map: Where to look.
        name: The node's name.
        tls: What the command line says of certificates; it wins over the map.
        source: Where the map is from, for errors.

    Raises:
        CtlError: It is not there, or it is no relay.
    """
    nodes = [node for region in derp_map.regions.values() for node in region.nodes]
    for node in nodes:
        if node.name == name:
            return from_node(node, tls)
    names = ", ".join(node.name for node in nodes) or "no node"
    reason, hint = f"not in {source}", f"there is {names}; or give HOST:PORT"
    raise CtlError(name, reason, hint, Exit.NOT_FOUND)


def from_node(node: Node, tls: ClientTls) -> Target:
    """Take a node as a client takes it.

    Raises:
        CtlError: No client could dial it.
    """
    families = [
        family
        for family, text in ((4, node.ipv4), (6, node.ipv6))
        if not text or _is_address(text, family)
    ]
    if not families or not node.host_name:
        reason, hint = "no client can dial it", "give it a HostName and an address"
        raise CtlError(node.name, reason, hint, Exit.INVALID)
    port = node.derp_port or DEFAULT_DERP_PORT
    if not 0 < port <= _MAX_PORT:
        value, hint = f"{node.name}: DERPPort = {port}", "correct the map"
        raise CtlError(value, f"not in 1 to {_MAX_PORT}", hint, Exit.INVALID)
    given = [text for text in (node.ipv4, node.ipv6) if _is_address(text, 0)]
    cert_name = tls.cert_name or node.cert_name
    stun_port = node.stun_port or DEFAULT_STUN_PORT
    return Target(
        name=node.name,
        relay=Relay(node.host_name, port, ClientTls(cert_name, tls.ca_file), given),
        families=families,
        stun_port=stun_port if 0 < stun_port <= _MAX_PORT else None,
        http_port=_HTTP_PORT if node.can_port80 else None,
    )


def tls_of(pin: str | None, ca_file: Path | None) -> ClientTls:
    """Read the options that say how to check a certificate.

    Raises:
        CtlError: The pin could never match, or the file is not there.
    """
    if pin is not None and not _PIN.fullmatch(pin):
        reason = f"not {PIN_PREFIX} and 64 lower-case hex digits"
        value, hint = f"--pin = {pin}", "copy CertName from the map"
        raise CtlError(value, reason, hint, Exit.USAGE)
    if ca_file is not None and not ca_file.is_file():
        value, hint = f"--ca-file = {ca_file}", "give a PEM file"
        raise CtlError(value, "no such file", hint, Exit.USAGE)
    return ClientTls(pin or "", ca_file)


def _is_address(text: str, family: int) -> bool:
    try:
        return ipaddress.ip_address(text).version == family or family == 0
    except ValueError:
        return False


def _bad(text: str, reason: str) -> CtlError:
    hint = "give a node's name, HOST:PORT, [V6]:PORT or https://HOST:PORT"
    return CtlError(text, reason, hint, Exit.USAGE)
