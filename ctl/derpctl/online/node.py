"""Asks one node of a map, as a client would come to it."""

import asyncio
import ipaddress
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from derpctl.errors import CtlError
from derpctl.map.lint.finding import Finding, Severity, has_errors
from derpctl.map.model import Node
from derpctl.online import certificate
from derpctl.probe import stun
from derpctl.probe.checks import Status
from derpctl.probe.record import Record
from derpctl.probe.services import captive_portal
from derpctl.probe.target import Target, from_node
from derpnode.client import (
    DIAL_TIMEOUT,
    ClientError,
    ClientTls,
    DialFailed,
    Relay,
    Stream,
)


_IPV4 = 4


@dataclass(frozen=True, slots=True)
class Place:
    """A node, and where the map has it."""

    path: str
    """`Regions.900.Nodes[0]`."""
    node: Node


@dataclass(frozen=True, slots=True)
class Seen:
    """What came of asking one address."""

    findings: Sequence[Finding]
    answers: bool
    """Whether there was TCP at all."""


async def check(place: Place, ca_file: Path | None, *, within: float) -> list[Finding]:
    """Apply the rules that a node itself can tell: DM011, DM013, DM021, DM027.

    It is not logged in to, as a node may admit no strangers and be well.

    Args:
        place: The node.
        ca_file: Authorities to trust where nothing is pinned; None: the system's.
        within: Seconds for one step.
    """
    node = place.node
    try:
        target = from_node(node, ClientTls(ca_file=ca_file))
    except CtlError:
        return []  # no client could dial it, as rules for the map have said
    try:
        found = await target.relay.resolve(within=within)
    except ClientError as exc:
        return [_drift(f"{place.path}.HostName", f"{exc.layer}: {exc}")]
    allowed = [ip for ip in found if _family(ip) in target.families]
    addresses = [ip for ip in allowed if _has_route(ip)]
    if not addresses:
        none = ", ".join(allowed or found)
        message = f"this machine has no way to {none}; ask from another one"
        return [_drift(place.path, message)]
    if node.stun_only:
        return await _measured(place, target, addresses, within)
    asked = await asyncio.gather(
        *(_Address(place, target.relay, ip, within).ask() for ip in addresses)
    )
    findings = [finding for seen in asked for finding in seen.findings]
    if any(seen.answers for seen in asked):
        findings += await _portal(place, target, addresses, within)
    return findings


@dataclass(frozen=True, slots=True)
class _Address:
    """One address of a node."""

    place: Place
    relay: Relay
    ip: str
    within: float

    async def ask(self) -> Seen:
        """Come as far as the server key, by the rules of a client."""
        try:
            stream = await self.relay.meet(await self._dial(), within=self.within)
        except ClientError as exc:
            return Seen([self._fails(exc)], answers=not isinstance(exc, DialFailed))
        try:
            now, chain = datetime.now(UTC), stream.presented()
            place = self.place
            judged = certificate.judge(place.path, place.node, self.ip, chain, now)
            findings = list(judged)
            if not has_errors(findings):
                findings += await self._greeted(stream)
        finally:
            await stream.close()
        return Seen(findings, answers=True)

    async def _greeted(self, stream: Stream) -> list[Finding]:
        """Go on as a client that knows whom it met; what fails is a finding."""
        tls, node = self.relay.tls or ClientTls(), self.place.node
        believes_all = node.insecure_for_tests and not node.cert_name
        try:
            if tls.pin is not None:
                stream.check(tls, self.relay.host, datetime.now(UTC))
            if tls.pin is not None or believes_all:
                await self._greet(stream)
            else:  # OpenSSL checks a chain while it shakes hands
                await self._greet_anew()
        except ClientError as exc:
            return [self._fails(exc)]
        return []

    async def _greet_anew(self) -> None:
        stream = await self.relay.secure(await self._dial(), within=self.within)
        try:
            await self._greet(stream)
        finally:
            await stream.close()

    async def _greet(self, stream: Stream) -> None:
        await stream.upgrade(within=self.within)
        await stream.server_key(within=self.within)

    async def _dial(self) -> socket.socket:
        return await self.relay.dial(self.ip, within=min(self.within, DIAL_TIMEOUT))

    def _fails(self, exc: ClientError) -> Finding:
        message = f"{self.ip} passes no handshake: {exc.layer}: {exc}"
        return _drift(self.place.path, message)


async def _measured(
    place: Place, target: Target, addresses: Sequence[str], within: float
) -> list[Finding]:
    """Ask a node that is there for STUN alone."""
    if target.stun_port is None:
        return []  # then it is there for nothing; DM006 minds, if nobody else measures
    findings = []
    for ip in addresses:
        try:
            await stun.ask(ip, target.stun_port, within=within)
        except stun.StunFailed as exc:
            message = f"{ip}, port {target.stun_port}, does not measure: stun: {exc}"
            findings.append(_drift(place.path, message))
    return findings


async def _portal(
    place: Place, target: Target, addresses: Sequence[str], within: float
) -> list[Finding]:
    """Apply DM013: clients ask by IPv4 alone, and where the map has it."""
    if not place.node.can_port80 or not place.node.ipv4:
        return []
    record = Record()
    ip = next((ip for ip in addresses if _family(ip) == _IPV4), None)
    await captive_portal(record, target, ip, within)
    return [
        Finding("DM013", Severity.ERROR, f"{place.path}.CanPort80", check.detail)
        for check in record.checks
        if check.status is Status.FAILED
    ]


def _drift(path: str, message: str) -> Finding:
    return Finding("DM027", Severity.WARNING, path, message)


def _family(ip: str) -> int:
    return ipaddress.ip_address(ip).version


def _has_route(ip: str) -> bool:
    """Tell whether this machine knows a way there; nothing is sent."""
    family = socket.AF_INET if _family(ip) == _IPV4 else socket.AF_INET6
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as sock:
            sock.connect((ip, 9))  # any port
    except OSError:
        return False
    return True
