"""Reads a map from JSON, as strict and as lenient as Go's decoder."""

import json
import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields
from types import MappingProxyType
from typing import TypeVar

from derpctl.map.errors import BadMap
from derpctl.map.model import DerpMap, HomeParams, Node, Region


_Struct = TypeVar("_Struct", Node, Region, HomeParams, DerpMap)
_Reader = Callable[[str, object], object]
_INT64 = range(-(1 << 63), 1 << 63)
_NUMBER_KEY = re.compile(r"[+-]?[0-9]{1,100}")  # as Go's ParseInt takes it

KEYS: Mapping[str, str] = {
    str(item.metadata["json"]).lower(): str(item.metadata["json"])
    for struct in (DerpMap, HomeParams, Region, Node)
    for item in fields(struct)
}
"""Keys as Go spells them, by how headscale does."""


def parse_derp_map(text: str) -> DerpMap:
    """Read plain DERPMap JSON.

    Raises:
        BadMap: It is something else; says where and why.
    """
    try:
        tree: object = json.loads(text)
    except ValueError as exc:
        raise BadMap("", text, f"not JSON: {exc}") from exc
    return read_derp_map(tree)


def read_derp_map(tree: object) -> DerpMap:
    """Read a map from what JSON, or something like it, was read into.

    Raises:
        BadMap: It is something else; says where and why.
    """
    return _read(DerpMap, "", tree)


def read_node(path: str, tree: object) -> Node:
    """Read one node, a DERPNode.

    Raises:
        BadMap: It is none.
    """
    return _read(Node, path, tree)


def _read(struct: type[_Struct], path: str, tree: object) -> _Struct:
    """Fill in a struct: names match in any case, unknown ones are left out."""
    if not isinstance(tree, dict):
        raise BadMap(path, tree, "not an object")
    known = {
        str(item.metadata["json"]).lower(): (item.name, str(item.metadata["json"]))
        for item in fields(struct)
    }
    values: dict[str, object] = {}
    for key, value in tree.items():
        name, json_name = known.get(str(key).lower(), ("", ""))
        if name and value is not None:  # null leaves a field as it is
            values[name] = _READERS[name](f"{path}.{json_name}".lstrip("."), value)
    for item in fields(struct):
        if item.name in _ZEROS:
            values.setdefault(item.name, _ZEROS[item.name])
    # Each reader has checked its field, which mypy cannot see.
    made: _Struct = type.__call__(struct, **values)
    return made


_ZEROS: Mapping[str, object] = {"name": "", "region_id": 0, "host_name": ""}
"""What Go leaves in fields that the model wants to be given."""


def _text(path: str, value: object) -> str:
    if not isinstance(value, str):
        raise BadMap(path, value, "not text")
    # Go, too, takes half a surrogate pair for U+FFFD; no terminal would show it.
    return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _integer(path: str, value: object) -> int:
    if type(value) is not int:  # Python's bool is an int, Go's is not
        raise BadMap(path, value, "not a whole number, written without a point")
    if value not in _INT64:
        raise BadMap(path, value, "a number of more than 64 bits")
    return value


def _number(path: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise BadMap(path, value, "not a number")
    try:
        found = float(value)
    except OverflowError:  # an integer may have any number of digits
        found = math.inf
    if not math.isfinite(found):
        raise BadMap(path, value, "not a number that fits 64 bits")
    return found


def _flag(path: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise BadMap(path, value, "not true or false")
    return value


def _nodes(path: str, value: object) -> tuple[Node, ...]:
    if not isinstance(value, list):
        raise BadMap(path, value, "not a list")
    return tuple(
        _read(Node, f"{path}[{number}]", item)
        for number, item in enumerate(value)
        if item is not None
    )


def _regions(path: str, value: object) -> Mapping[int, Region]:
    """Read regions; a null one is dropped, as clients do."""
    return MappingProxyType(
        {
            number: _read(Region, f"{path}.{number}", item)
            for number, item in _by_number(path, value)
            if item is not None
        }
    )


def _scores(path: str, value: object) -> Mapping[int, float]:
    return MappingProxyType(
        {
            number: _number(f"{path}.{number}", item)
            for number, item in _by_number(path, value)
        }
    )


def _by_number(path: str, value: object) -> Iterator[tuple[int, object]]:
    if not isinstance(value, dict):
        raise BadMap(path, value, "not an object")
    for key, item in value.items():
        text = str(key)
        if not _NUMBER_KEY.fullmatch(text) or int(text) not in _INT64:
            raise BadMap(path, text, "a region's key is its number")
        yield int(text), item


def _home_params(path: str, value: object) -> HomeParams:
    return _read(HomeParams, path, value)


_READERS: Mapping[str, _Reader] = {
    "name": _text,
    "region_id": _integer,
    "host_name": _text,
    "cert_name": _text,
    "ipv4": _text,
    "ipv6": _text,
    "stun_port": _integer,
    "stun_only": _flag,
    "derp_port": _integer,
    "insecure_for_tests": _flag,
    "stun_test_ip": _text,
    "can_port80": _flag,
    "region_code": _text,
    "region_name": _text,
    "latitude": _number,
    "longitude": _number,
    "avoid": _flag,
    "no_measure_no_home": _flag,
    "nodes": _nodes,
    "region_score": _scores,
    "home_params": _home_params,
    "regions": _regions,
    "omit_default_regions": _flag,
}
