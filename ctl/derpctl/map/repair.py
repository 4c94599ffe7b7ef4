"""What in a map has but one meaning, and is written wrongly: how to mend it. Pure.

A region's key says which it is; its `RegionID` and those of its nodes follow. `Avoid`
(DM016) is left alone: `NoMeasureNoHome` is not the same to clients, and unknown to old
ones.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass

from derpctl.map.edit import Edit
from derpctl.map.hujson import Located
from derpctl.map.lint.dialling import wrong_host
from derpctl.map.lint.trust import PIN
from derpctl.map.model import DEFAULT_DERP_PORT, PIN_PREFIX
from derpctl.map.read import KEYS
from derpctl.map.spot import Spot
from derpctl.map.texts import Edits, MapText


_REGION_ID, _HOST, _PORT, _CERT = "RegionID", "HostName", "DERPPort", "CertName"
_WHOLE = (_PORT, "STUNPort")
_EXACT = 1 << 53
"""Up to here a number with a point is the same without one."""
_MOST_PORT = 65_535
_MOST_SHOWN = 90  # characters of a value
_NUMBER = re.compile(r"[1-9][0-9]{0,15}")
_HOST_AND_PORT = re.compile(
    r"\[(?P<literal>[^\[\]]*)\](?::(?P<after>[0-9]{1,5}))?"
    r"|(?P<name>[^:\[\]]*)(?::(?P<port>[0-9]{1,5}))?"
)


@dataclass(frozen=True, slots=True)
class Repair:
    """One thing to mend."""

    rule: str
    """`DM001`."""
    path: str
    """`Regions.900.RegionID`."""
    words: str
    """What was there, and what will be."""
    edits: tuple[Edit, ...]
    line: int | None = None
    """In the file as it was; None if that is not known."""

    def __str__(self) -> str:
        return f"{self.rule}: {self.path} {self.words}"


def repairs(text: MapText, located: Located) -> Iterator[Repair]:
    """Find what can be mended in a map.

    Args:
        text: The file.
        located: The map in it.
    """
    if located.spot is None:
        return
    yield from _keys(text, located.spot, "")
    for number, region in _regions(located.spot):
        path = f"Regions.{number}"
        yield from _identity(text, region, None, f"{path}.{_REGION_ID}", number)
        for place, node in _nodes(region):
            yield from _node(text, node, f"{path}.Nodes[{place}]", number)


def _regions(spot: Spot) -> Iterator[tuple[int, Spot]]:
    found = spot.only("Regions")
    for key, region in found.members if found is not None else ():
        if _NUMBER.fullmatch(key) and _is_object(region):
            yield int(key), region


def _nodes(region: Spot) -> Iterator[tuple[int, Spot]]:
    """Yield nodes as the rules count them: without those that are null."""
    found = region.only("Nodes")
    items = found.items if found is not None else ()
    for place, node in enumerate(one for one in items if one.value is not None):
        if _is_object(node):
            yield place, node


def _is_object(spot: Spot) -> bool:
    """Tell whether something is an object whose members can be told apart."""
    return isinstance(spot.value, dict) and bool(spot.members or not spot.value)


def _node(text: MapText, node: Spot, path: str, number: int) -> Iterator[Repair]:
    name = node.only("Name")
    yield from _identity(text, node, name, f"{path}.{_REGION_ID}", number)
    yield from _host(text, node, path)
    yield from _pin(text, node, path)
    for field in _WHOLE:
        spot = node.only(field)
        if spot is not None and isinstance(spot.value, float):
            value = _whole(spot.value)
            if value is not None:
                edits = text.set(spot, value)
                yield from _made("DM025", f"{path}.{field}", spot, value, edits)


def _identity(
    text: MapText, spot: Spot, beside: Spot | None, path: str, number: int
) -> Iterator[Repair]:
    """Have something say which region it is of."""
    rule = "DM002" if "Nodes" in path else "DM001"
    there = spot.named(_REGION_ID)
    if not there:
        edits = text.add(spot, beside, _REGION_ID, number)
        if edits is None and beside is not None:
            edits = text.add(spot, None, _REGION_ID, number)
        yield from _made(rule, path, None, number, edits)
    elif len(there) == 1 and _may_be_number(there[0].value, number):
        if isinstance(there[0].value, float):
            rule = "DM025"
        yield from _made(rule, path, there[0], number, text.set(there[0], number))


def _may_be_number(value: object, number: int) -> bool:
    """Tell whether a value is a number, or none, that should be another one."""
    if isinstance(value, float):
        return _whole(value) is not None
    return value is None or (type(value) is int and value != number)


def _whole(value: object) -> int | None:
    """Read a number that has a point, or none, and nothing behind it."""
    if type(value) is int:
        return value
    if isinstance(value, float) and value.is_integer() and abs(value) < _EXACT:
        return int(value)
    return None


def _host(text: MapText, node: Spot, path: str) -> Iterator[Repair]:
    """Take scheme and port out of a host name; the port has a place of its own."""
    spot = node.only(_HOST)
    found = bare_host(spot.value) if spot is not None else None
    if spot is None or found is None:
        return
    host, port = found
    edits, words = text.set(spot, host), ""
    if port is not None and port != _dialled(node):
        more = _port(text, node, spot, port)
        edits = None if edits is None or more is None else [*edits, *more]
        words = f", and {_PORT} is {port}"
    yield from _made("DM007", f"{path}.{_HOST}", spot, host, edits, words)


def _dialled(node: Spot) -> int | None:
    """Give the port that clients dial as it is; None if there is no telling."""
    given = node.named(_PORT)
    if not given:
        return DEFAULT_DERP_PORT
    value = given[0].value if len(given) == 1 else ""
    number = 0 if value is None else _whole(value)
    return number or (None if number is None else DEFAULT_DERP_PORT)


def _port(text: MapText, node: Spot, beside: Spot, port: int) -> Edits:
    """Give a node a port, if it has none."""
    given = node.named(_PORT)
    if not given:
        return text.add(node, beside, _PORT, port)
    value = given[0].value
    if len(given) == 1 and (value is None or (type(value) is int and value == 0)):
        return text.set(given[0], port)
    return None  # it says another one


def bare_host(value: object) -> tuple[str, int | None] | None:
    """Take a host name out of what has a scheme or a port, too; None if it has not.

    Only https is what clients speak: another scheme may mean another server.
    """
    if not isinstance(value, str) or not wrong_host(value):
        return None
    text = value
    if "://" in value:
        scheme, _, text = value.partition("://")
        if scheme.lower() != "https":
            return None
        text = text.removesuffix("/")
    if not wrong_host(text):
        return text, None
    match = _HOST_AND_PORT.fullmatch(text)
    if match is None:
        return None
    host = match["literal"] if match["name"] is None else match["name"]
    port = match["after"] or match["port"]
    if wrong_host(host) or (port and not 1 <= int(port) <= _MOST_PORT):
        return None
    return host, int(port) if port else None


def _pin(text: MapText, node: Spot, path: str) -> Iterator[Repair]:
    """Write a pin as clients do: they compare texts."""
    spot = node.only(_CERT)
    if spot is None or not isinstance(spot.value, str):
        return
    lower = spot.value.lower()
    if not lower.startswith(PIN_PREFIX) or PIN.fullmatch(spot.value):
        return
    pin = PIN_PREFIX + lower.removeprefix(PIN_PREFIX).replace(":", "")
    if PIN.fullmatch(pin):
        path = f"{path}.{_CERT}"
        yield from _made("DM010", path, spot, pin, text.set(spot, pin))


def _keys(text: MapText, spot: Spot, path: str) -> Iterator[Repair]:
    """Write keys in lower case where headscale reads no others."""
    for key, member in spot.members:
        where = f"{path}.{key}".lstrip(".")
        lower = key.lower()
        if key != lower and lower in KEYS and spot.only(lower) is not None:
            edits = text.rename(member, lower)
            if edits is not None:
                yield Repair("DM024", where, f"is {lower} now", tuple(edits))
        yield from _keys(text, member, where)
    for number, item in enumerate(spot.items):
        yield from _keys(text, item, f"{path}[{number}]")


def _made(
    rule: str,
    path: str,
    old: Spot | None,
    new: int | str,
    edits: Edits,
    more: str = "",
) -> Iterator[Repair]:
    if edits is not None:
        was = "missing" if old is None else _shown(old.value)
        words = f"was {was}, is {_shown(new)}{more}"
        yield Repair(rule, path, words, tuple(edits))


def _shown(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)[:_MOST_SHOWN]
