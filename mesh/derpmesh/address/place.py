"""Who a pod is, and where clients find it. No I/O."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, ip_address

from derpnode.config import is_ip


_ORDINAL = re.compile(r".*-([0-9]+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Pod:
    """What the downward API says of a pod."""

    name: str
    namespace: str
    ip: str
    machine: str
    """Name of the machine that it runs on."""
    machine_ip: str

    @property
    def ordinal(self) -> str | None:
        """Its number in a StatefulSet; None if its name has none."""
        found = _ORDINAL.fullmatch(self.name)
        return found[1] if found else None

    @property
    def label(self) -> str:
        """Its address as a label of a DNS name, as CoreDNS writes it."""
        return re.sub("[.:]", "-", self.ip)


@dataclass(frozen=True, slots=True)
class Place:
    """What clients dial: a name or an address, and addresses by family."""

    host: str
    ipv4: str | None = None
    """For the map, where `host` does not say it."""
    ipv6: str | None = None


def place_of(hosts: Sequence[str]) -> Place | None:
    """Make a place of what a source gave; None if that is nothing.

    A name comes before addresses, and IPv4 before IPv6.
    """
    names = [host for host in hosts if not is_ip(host)]
    addresses = [ip_address(host) for host in hosts if is_ip(host)]
    v4 = next((str(ip) for ip in addresses if isinstance(ip, IPv4Address)), None)
    v6 = next((str(ip) for ip in addresses if not isinstance(ip, IPv4Address)), None)
    if names:
        return Place(names[0], v4, v6)
    host = v4 or v6
    if host is None:
        return None
    return Place(host, None if host == v4 else v4, None if host == v6 else v6)


def listed(hosts: Mapping[str, str], pod: Pod) -> list[str]:
    """Give what is listed for a pod: by its name, its ordinal, or its machine."""
    for key in (pod.name, pod.ordinal, pod.machine):
        if key is not None and key in hosts:
            return split(hosts[key])
    return []


def annotated(text: str, key: str) -> list[str]:
    """Find an annotation in the file that the kubelet writes: KEY="VALUE" a line.

    Source: kubernetes ``pkg/fieldpath/fieldpath.go``, ``FormatMap``: values are
    quoted as Go quotes strings.
    """
    for line in text.splitlines():
        name, equals, value = line.partition("=")
        if equals and name == key:
            return split(value.strip().strip('"'))
    return []


def split(text: str) -> list[str]:
    """Take apart what is parted by commas."""
    return [part for part in (one.strip() for one in text.split(",")) if part]
