"""The query of `/debug/clients/`: which connections, in which order, from where on.

Source of parameters, defaults and errors: tailscale
``derp/derpserver/debugclients.go`` at 1.104.5, ``parseDebugClientsQuery``.
"""

import ipaddress
import json
import math
import re
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Final
from urllib.parse import parse_qs, urlencode

from derpnode.errors import NodeError
from derpnode.plane.contract import Stats
from derpnode.relay.relay import Client
from derpnode.wire.errors import BadKeyText
from derpnode.wire.keys import NodeKey, node_key_text, parse_node_key


DEFAULT_LIMIT: Final = 100
"""Connections on a page. Source: ``debugClientsDefaultLimit``."""

MAX_LIMIT: Final = 1000
"""More than this is silently less. Source: ``debugClientsMaxLimit``."""

COUNTERS: Mapping[str, Callable[[Stats], int]] = {
    "rx": lambda stats: stats.rx_bytes,
    "tx": lambda stats: stats.tx_bytes,
    "rxpkts": lambda stats: stats.rx_packets,
    "txpkts": lambda stats: stats.tx_packets,
}
"""The orders that follow traffic, and what of it."""

_SECOND = 10**9  # nanoseconds
_MAX_PORT = 65_535
_INT64 = 2**63
_SORTS = ("key", "ip", "conn", "connected", *COUNTERS)
_DURATION = re.compile(
    r"([0-9]{1,18}\.?[0-9]{0,18}|\.[0-9]{1,18})(ns|us|µs|μs|ms|s|m|h)"
)
_UNITS = {
    "ns": 1,
    "us": 1_000,
    "µs": 1_000,
    "μs": 1_000,  # another letter that looks the same
    "ms": 1_000_000,
    "s": _SECOND,
    "m": 60 * _SECOND,
    "h": 3_600 * _SECOND,
}

IpAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
IpNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network
Position = tuple[float, ...]
"""Where a connection stands in the walk: the sorted value, then its number."""


@dataclass(eq=False)
class BadQuery(NodeError):
    """The parameters of a request make no sense; answer 400 with the text."""

    name: str
    """Which parameter; empty if it is their combination."""
    value: str
    reason: str

    def __str__(self) -> str:
        if not self.name:
            return self.reason
        return (
            f"bad {self.name} {json.dumps(self.value, ensure_ascii=False)}{self.reason}"
        )


@dataclass(frozen=True, kw_only=True)
class Query:
    """Which connections, in which order, and where the page begins."""

    ip: IpAddress | None = None
    cidr: IpNetwork | None = None
    key: NodeKey | None = None
    """At most one of the three; with none, all connections."""

    apps: tuple[str, ...] | None = None
    """Any of these app names; an empty one is no name. None: whatever name."""

    sort: str = "key"
    descending: bool = False
    limit: int = DEFAULT_LIMIT
    after: Position | None = None
    """The page begins beyond this."""

    json: bool = False
    """Whether JSON was asked for, so that the next page asks too."""

    @property
    def what(self) -> tuple[str, str]:
        """The filter as a parameter: its name and its text."""
        if self.ip is not None:
            return "ip", str(self.ip)
        if self.cidr is not None:
            return "cidr", str(self.cidr)
        return ("all", "1") if self.key is None else ("key", node_key_text(self.key))

    def __str__(self) -> str:
        name, value = self.what
        before = {"all": "all clients", "key": f"connections for {value}"}
        text = before.get(name, f"clients from {value}")
        if self.apps is None:
            return text
        return f"{text} with app {' or '.join(app or '(none)' for app in self.apps)}"

    def matches(self, client: Client) -> bool:
        """Whether a connection passes the filters, that by key excepted."""
        if self.apps is not None and client.app_name not in self.apps:
            return False
        if self._addresses is None:
            return True
        first, last = self._addresses
        packed = _packed(client.host)
        return len(packed) == len(first) and first <= packed <= last

    @cached_property
    def _addresses(self) -> tuple[bytes, bytes] | None:
        """The first and the last address that pass; None passes them all."""
        if self.cidr is not None:
            first, last = self.cidr.network_address, self.cidr.broadcast_address
            return first.packed, last.packed
        return (self.ip.packed, self.ip.packed) if self.ip is not None else None

    def is_past_cursor(self, position: Position) -> bool:
        """Whether a connection belongs on this page or a later one."""
        if self.after is None:
            return True
        return position < self.after if self.descending else position > self.after

    def link(self, after: str, connection: str) -> str:
        """Link to the page that begins beyond a value. Source: ``link``.

        Args:
            after: The value of the last connection shown.
            connection: Its number; empty where that is the value itself.
        """
        name, value = self.what
        parameters: dict[str, str | tuple[str, ...]] = {
            name: value,
            "app": self.apps or (),
            "sort": f"-{self.sort}" if self.descending else self.sort,
            "after": after,
            "afterconn": connection,
            "limit": "" if self.limit == DEFAULT_LIMIT else str(self.limit),
            "format": "json" if self.json else "",
        }
        pairs = sorted((name, value) for name, value in parameters.items() if value)
        return f"?{urlencode(pairs, doseq=True)}"


# Reading a query. Of each name the first value counts, as in Go.


def parse_query(text: str, now: int) -> Query | None:
    """Read the query of a URL; None if it selects nothing.

    Args:
        text: What follows the question mark, not decoded.
        now: Nanoseconds since the Unix epoch; a duration counts back from it.

    Raises:
        BadQuery: A value makes no sense.
    """
    values = parse_qs(text, keep_blank_values=True)
    given = {name: found[0] for name, found in values.items()}
    style = given.get("format", "")
    if style not in ("", "json", "html"):
        raise BadQuery("format", style, "; want json or html")
    ip, cidr, key = _ip(given), _cidr(given), _key(given)
    filters = sum(found is not None for found in (ip, cidr, key)) + ("all" in given)
    if filters > 1:
        raise BadQuery("", "", "only one of all, ip, cidr, or key may be given")
    if filters == 0 and "app" not in given:
        return None
    sort, descending = _sort(given)
    return Query(
        ip=ip,
        cidr=cidr,
        key=key,
        apps=tuple(values["app"]) if "app" in values else None,
        sort=sort,
        descending=descending,
        limit=_limit(given),
        after=_cursor(given, sort, now, descending=descending),
        json=style == "json",
    )


def _ip(given: Mapping[str, str]) -> IpAddress | None:
    text = given.get("ip", "")
    if not text:
        return None
    try:
        found = ipaddress.ip_address(text)
    except ValueError:
        raise BadQuery("ip", text, ": not an IP address") from None
    return getattr(found, "ipv4_mapped", None) or found


def _cidr(given: Mapping[str, str]) -> IpNetwork | None:
    text = given.get("cidr", "")
    if not text:
        return None
    try:
        found = ipaddress.ip_network(text, strict=False)
    except ValueError:
        found = None
    # Python would also take a mask, and an address alone.
    if found is None or not re.search(r"/[0-9]{1,3}$", text):
        raise BadQuery("cidr", text, ": not ADDRESS/BITS")
    return found


def _key(given: Mapping[str, str]) -> NodeKey | None:
    text = given.get("key", "")
    if not text:
        return None
    try:
        return parse_node_key(text)
    except BadKeyText as exc:
        raise BadQuery("key", text, f": {exc}") from None


def _sort(given: Mapping[str, str]) -> tuple[str, bool]:
    """Read the order: what by, and whether downwards."""
    text = given.get("sort", "") or "key"
    name = text.removeprefix("-")
    if name not in _SORTS:
        known = f"{', '.join(_SORTS[:-1])}, or {_SORTS[-1]}"
        reason = f"; want {known}, optionally with a leading -"
        raise BadQuery("sort", text, reason)
    return name, name != text


def _limit(given: Mapping[str, str]) -> int:
    text = given.get("limit", "")
    limit = _integer(text) if text else DEFAULT_LIMIT
    if limit is None or limit < 1:
        raise BadQuery("limit", text, "")
    return min(limit, MAX_LIMIT)


def _integer(text: str) -> int | None:
    """Read a number as Go's ParseInt does; None where it would refuse."""
    if not re.fullmatch(r"[+-]?[0-9]{1,40}", text):
        return None
    number = int(text)
    return number if -_INT64 <= number < _INT64 else None


def _cursor(
    given: Mapping[str, str], sort: str, now: int, *, descending: bool
) -> Position | None:
    """Read where the page begins: beyond a value, or a connection with that value."""
    text, number = given.get("after", ""), given.get("afterconn", "")
    if not text:
        return None
    value = _after(text, sort, now, descending=descending)
    if value is None:
        reason = {
            "key": ": not nodekey: and 64 hex digits",
            "ip": ": not an ip:port",
            "connected": "; want Unix nanoseconds or a duration",
        }.get(sort, ": not a number")
        raise BadQuery("after", text, f" for sort by {sort}{reason}")
    if sort == "conn":
        return value
    if not number:
        # Typed by hand: beyond every connection that has the value.
        return (*value, -math.inf if descending else math.inf)
    connection = _integer(number)
    if connection is None:
        raise BadQuery("afterconn", number, ": not a number")
    return (*value, connection)


def _after(text: str, sort: str, now: int, *, descending: bool) -> Position | None:
    """Read the value of a cursor; None if it is none of this order."""
    if sort == "key":
        try:
            return (int.from_bytes(parse_node_key(text)),)
        except BadKeyText:
            return None
    if sort == "ip":
        return _address(text, 0 if descending else _MAX_PORT)
    number = _integer(text)
    if sort == "connected" and number is None:
        duration = _duration(text)
        number = now - duration if duration is not None else None
    if number is None or (sort in COUNTERS and number < 0):
        return None
    return (number,)


def _address(text: str, port: int) -> Position | None:
    """Read `IP:PORT`, or an address alone with the port that stands for all."""
    found = re.fullmatch(r"(?:\[(.+:.+)\]|([0-9.]+)):([0-9]{1,5})", text)
    if found is not None:
        text, port = found[1] or found[2], int(found[3])
    if port > _MAX_PORT:
        return None
    try:
        return address_position(text.partition("%")[0], port)
    except (OSError, ValueError):  # a null byte is the latter
        return None


def address_position(host: str, port: int) -> Position:
    """Order addresses as Go does: the unknown, IPv4, IPv6; then the port.

    Raises:
        OSError: Not an IP literal.
    """
    packed = _packed(host)
    return (len(packed), int.from_bytes(packed), port)


def _packed(host: str) -> bytes:
    """Give the bytes of an IP literal; none for none. All are looked at: it is quick.

    Raises:
        OSError: Not an IP literal.
    """
    if not host:
        return b""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.inet_pton(family, host)


def _duration(text: str) -> int | None:
    """Read a duration of Go, `1h30m`, in nanoseconds; None if it is none."""
    rest = text[1:] if text[:1] in ("+", "-") else text
    parts = list(_DURATION.finditer(rest))
    if not parts or "".join(part[0] for part in parts) != rest:
        return None
    total = sum(round(float(part[1]) * _UNITS[part[2]]) for part in parts)
    return -total if text.startswith("-") else total
