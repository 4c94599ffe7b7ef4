"""Whether clients can dial the nodes of a region, and in what time."""

import re
from collections.abc import Iterator

from derpctl.map.lint.address import MOST_PORT, has_stun, is_address
from derpctl.map.lint.finding import Finding, Severity
from derpctl.map.lint.place import Place


_DNS_NAME = re.compile(
    r"(?=.{1,253}$)[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9])?"
    r"(\.[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9])?)*\.?"
)
_MOST_RELAYS = 6
_NO_SPARE = 2


def relays(place: Place) -> Iterator[Finding]:
    """DM005: a region has a node that relays."""
    if all(node.stun_only for node in place.region.nodes):
        message = "no node relays, but clients may choose the region; add one that does"
        yield Finding("DM005", Severity.ERROR, f"{place.path}.Nodes", message)


def stun(place: Place) -> Iterator[Finding]:
    """DM006: a region that shall be a home can be measured."""
    region = place.region
    answers = any(map(has_stun, region.nodes))
    if region.nodes and not answers and not region.no_measure_no_home:
        message = (
            "no node has STUN, so the region is never measured and nobody's home; give"
            " one a STUNPort, or set NoMeasureNoHome"
        )
        yield Finding("DM006", Severity.ERROR, f"{place.path}.Nodes", message)


def host_names(place: Place) -> Iterator[Finding]:
    """DM007: a node has a host name, and nothing but that."""
    for path, node in place.nodes():
        wrong = wrong_host(node.host_name)
        if wrong:
            where = f"{path}.HostName"
            message = f"{node.host_name!r:.80} {wrong}"
            yield Finding("DM007", Severity.ERROR, where, message)


def ports(place: Place) -> Iterator[Finding]:
    """DM007: what clients dial is a port."""
    for path, node in place.nodes():
        if not 0 <= node.derp_port <= MOST_PORT:
            message = (
                f"{node.derp_port} is no port, so that clients cannot dial it; give 1"
                f" to {MOST_PORT}, or leave it out for 443"
            )
            yield Finding("DM007", Severity.ERROR, f"{path}.DERPPort", message)


def wrong_host(text: str) -> str:
    """Say what is wrong with a host name; nothing if nothing is."""
    if not text:
        return "is empty; give the DNS name or the IP address"
    if "://" in text:
        return "has a scheme; give the bare name"
    if is_address(text, 4) or is_address(text, 6):
        return ""
    if ":" in text:
        return "has a port, which clients would not dial; give it as DERPPort"
    if not _DNS_NAME.fullmatch(text):
        return "is neither a DNS name nor an IP address"
    return ""


def size(place: Place) -> Iterator[Finding]:
    """DM020: a region has as many relays as clients have patience for, and a spare."""
    many = sum(not node.stun_only for node in place.region.nodes)
    where = f"{place.path}.Nodes"
    if many > _MOST_RELAYS:
        message = (
            f"{many} relays, and each that does not answer costs 1.5 s of the 10 s that"
            f" clients take to connect; keep to {_MOST_RELAYS}, or make another region"
        )
        yield Finding("DM020", Severity.WARNING, where, message)
    elif many == _NO_SPARE:
        message = (
            f"{many} relays, so that each carries the load of both while the other is"
            " away; leave room for it, or add a third"
        )
        yield Finding("DM020", Severity.INFO, where, message)
