"""What is wrong with a map, though Go would read it: rules with numbers. Pure.

A rule never changes its number. Why each is one is in its message; the cases behind
them are in the tracker threads of Tailscale and headscale.
"""

import ipaddress
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from derpctl.map.model import DISABLED, DerpMap, Node, Region


_PIN = re.compile(r"sha256-raw:[0-9a-f]{64}")
_PIN_PREFIX = "sha256-raw:"
_DNS_NAME = re.compile(
    r"(?=.{1,253}$)[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9])?"
    r"(\.[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9])?)*\.?"
)
_SUFFIX = re.compile(r"([a-z][a-z0-9-]*)?")
_MOST_ID = 65_535
_MOST_PORT = 65_535
_OURS = range(900, 1000)


class Severity(StrEnum):
    """How bad a finding is."""

    ERROR = "error"
    """Clients would fail."""
    WARNING = "warning"
    """Some clients, some day."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One rule that fired, and where."""

    rule: str
    """`DM001`."""
    severity: Severity
    path: str
    """`Regions.900.Nodes[0].HostName`."""
    message: str
    """What is there, why it will not do, what would."""
    fixable: bool = False
    """Whether there is but one thing that can be meant."""
    line: int | None = None
    """In the file, from 1; None where there is no file."""

    def __str__(self) -> str:
        return printable(f"{self.rule}: {self.path or 'map'}: {self.message}")

    def members(self) -> dict[str, object]:
        """Give it as JSON has it."""
        return {
            "rule": self.rule,
            "severity": self.severity.value,
            "path": self.path,
            "line": self.line,
            "message": self.message,
            "fixable": self.fixable,
        }


@dataclass(frozen=True, slots=True)
class _Place:
    """A region, and what a rule must know around it."""

    key: int
    """What the region is filed under."""
    region: Region
    names: Counter[str]
    """How often each node name is there in the whole map."""
    allow_system_ids: bool

    @property
    def path(self) -> str:
        return f"Regions.{self.key}"

    def nodes(self) -> Iterator[tuple[str, Node]]:
        """Yield each node with its path."""
        for number, node in enumerate(self.region.nodes):
            yield f"{self.path}.Nodes[{number}]", node


_Rule = Callable[[_Place], Iterator[Finding]]


def lint(derp_map: DerpMap, *, allow_system_ids: bool = False) -> list[Finding]:
    """Apply every rule, region by region; findings are in the order of the map.

    Args:
        derp_map: What to judge.
        allow_system_ids: Do not mind regions outside 900 to 999.
    """
    names = Counter(
        node.name for region in derp_map.regions.values() for node in region.nodes
    )
    places = [
        _Place(key, region, names, allow_system_ids)
        for key, region in sorted(derp_map.regions.items())
    ]
    return [finding for place in places for rule in _RULES for finding in rule(place)]


def printable(text: str) -> str:
    """Escape what would steer a terminal: files come from strangers."""
    return "".join(
        sign if sign.isprintable() else ascii(sign).strip("'") for sign in text
    )


def has_errors(findings: Iterable[Finding]) -> bool:
    """Tell whether clients would fail."""
    return any(finding.severity is Severity.ERROR for finding in findings)


def summary(findings: Sequence[Finding]) -> str:
    """Count what was found."""
    counts = Counter(finding.severity for finding in findings)
    words = [
        f"{counts[severity]} {severity.value}{'' if counts[severity] == 1 else 's'}"
        for severity in Severity
        if counts[severity]
    ]
    return ", ".join(words) or "nothing is wrong"


def _region_id(place: _Place) -> Iterator[Finding]:
    if place.region.region_id != place.key:
        message = (
            f"RegionID is {place.region.region_id}, but the region is filed under"
            f" {place.key}; make both the same"
        )
        path = f"{place.path}.RegionID"
        yield Finding("DM001", Severity.ERROR, path, message, fixable=True)


def _node_region_id(place: _Place) -> Iterator[Finding]:
    for path, node in place.nodes():
        if node.region_id != place.key:
            said = node.region_id or "missing"
            message = (
                f"RegionID is {said}, so latencies are booked elsewhere and the region"
                f" is never a home; make it {place.key}"
            )
            found = Finding(
                "DM002", Severity.ERROR, f"{path}.RegionID", message, fixable=True
            )
            yield found


def _id_range(place: _Place) -> Iterator[Finding]:
    if not 1 <= place.key <= _MOST_ID:
        message = f"region {place.key} is not in 1 to {_MOST_ID}; use 900 to 999"
        yield Finding("DM003", Severity.ERROR, place.path, message)
    elif place.key not in _OURS and not place.allow_system_ids:
        message = (
            f"region {place.key} may be one of Tailscale's; use 900 to 999, which are"
            " for everybody's own"
        )
        yield Finding("DM003", Severity.WARNING, place.path, message)


def _names(place: _Place) -> Iterator[Finding]:
    for path, node in place.nodes():
        where = f"{path}.Name"
        example = f"{place.key}a"
        if not node.name:
            message = f"the node has no name; call it {example}, say"
            yield Finding("DM004", Severity.ERROR, where, message)
        elif place.names[node.name] > 1:
            message = (
                f"{place.names[node.name]} nodes are called {node.name}, and clients"
                " look nodes up by name in the whole map; give each its own"
            )
            yield Finding("DM004", Severity.ERROR, where, message)
        elif not _is_customary(node.name, place.key):
            message = (
                f"{node.name} is not region and letter; by custom it is {example},"
                " which is in no other region"
            )
            yield Finding("DM004", Severity.WARNING, where, message)


def _is_customary(name: str, region: int) -> bool:
    start = str(region)
    return name.startswith(start) and bool(_SUFFIX.fullmatch(name, len(start)))


def _relays(place: _Place) -> Iterator[Finding]:
    if all(node.stun_only for node in place.region.nodes):
        message = "no node relays, but clients may choose the region; add one that does"
        yield Finding("DM005", Severity.ERROR, f"{place.path}.Nodes", message)


def _stun(place: _Place) -> Iterator[Finding]:
    region = place.region
    answers = any(0 <= node.stun_port <= _MOST_PORT for node in region.nodes)
    if region.nodes and not answers and not region.no_measure_no_home:
        message = (
            "no node has STUN, so the region is never measured and nobody's home; give"
            " one a STUNPort, or set NoMeasureNoHome"
        )
        yield Finding("DM006", Severity.ERROR, f"{place.path}.Nodes", message)


def _host_names(place: _Place) -> Iterator[Finding]:
    for path, node in place.nodes():
        wrong = _wrong_host(node.host_name)
        if wrong:
            where = f"{path}.HostName"
            message = f"{node.host_name!r:.80} {wrong}"
            yield Finding("DM007", Severity.ERROR, where, message)


def _wrong_host(text: str) -> str:
    """Say what is wrong with a host name; nothing if nothing is."""
    if not text:
        return "is empty; give the DNS name or the IP address"
    if "://" in text:
        return "has a scheme; give the bare name"
    if _is_address(text, 4) or _is_address(text, 6):
        return ""
    if ":" in text:
        return "has a port, which clients would not dial; give it as DERPPort"
    if not _DNS_NAME.fullmatch(text):
        return "is neither a DNS name nor an IP address"
    return ""


def _addresses(place: _Place) -> Iterator[Finding]:
    for path, node in place.nodes():
        for field, text, family in (("IPv4", node.ipv4, 4), ("IPv6", node.ipv6, 6)):
            yield from _address(f"{path}.{field}", text, family)
        off = [
            text and not _is_address(text, family)
            for text, family in ((node.ipv4, 4), (node.ipv6, 6))
        ]
        if all(off):
            message = (
                "both families are turned off, so that no client can dial it; give one"
                " address, or leave one empty for DNS"
            )
            yield Finding("DM008", Severity.ERROR, path, message)


def _address(path: str, text: str, family: int) -> Iterator[Finding]:
    if not text or text == DISABLED or _is_address(text, family):
        return
    if _is_address(text, 10 - family):
        message = f"{text} is an address of IPv{10 - family}; clients take it for none"
        yield Finding("DM008", Severity.ERROR, path, message)
    else:
        message = (
            f"{text!r:.60} is no address, which turns IPv{family} off; correct it, or"
            f' say "{DISABLED}"'
        )
        yield Finding("DM008", Severity.WARNING, path, message)


def _explicit(place: _Place) -> Iterator[Finding]:
    for path, node in place.nodes():
        if not node.ipv4:
            message = (
                "no address, so that clients need DNS, which may need the relay; give"
                f' it, or "{DISABLED}" if there is none'
            )
            yield Finding("DM009", Severity.WARNING, f"{path}.IPv4", message)


def _pins(place: _Place) -> Iterator[Finding]:
    for path, node in place.nodes():
        is_pin = node.cert_name.lower().startswith(_PIN_PREFIX)
        if is_pin and not _PIN.fullmatch(node.cert_name):
            message = (
                f"{node.cert_name!r:.90} can match no certificate; a pin is"
                f" {_PIN_PREFIX} and 64 lower-case hex digits"
            )
            yield Finding("DM010", Severity.ERROR, f"{path}.CertName", message)


_RULES: tuple[_Rule, ...] = (
    _region_id,
    _node_region_id,
    _id_range,
    _names,
    _relays,
    _stun,
    _host_names,
    _addresses,
    _explicit,
    _pins,
)


def _is_address(text: str, family: int) -> bool:
    try:
        return ipaddress.ip_address(text).version == family
    except ValueError:
        return False
