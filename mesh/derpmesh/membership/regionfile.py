"""The region's file as text: what is read from it, and how one is written. Pure."""

import reprlib
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import yaml
from pydantic import ConfigDict, ValidationError

from derpmesh.membership.errors import RegistryInvalid
from derpmesh.membership.model import Drain, Member, Record, Region, Rule
from derpnode.wire.errors import BadKeyText
from derpnode.wire.keys import NodeKey, node_key_text, parse_node_key


MAX_SIZE = 1 << 20
"""Bytes of a file that is still read."""

_HINT = "see docs/reference/region-file.md"

_SHORT = reprlib.Repr()  # aliases of aliases make a few lines fill any memory
_SHORT.maxlevel = 2
_SHORT.maxstring = _SHORT.maxother = 100


class _RegionEntry(Region):
    model_config = ConfigDict(extra="forbid")


class _MemberEntry(Member):
    model_config = ConfigDict(extra="forbid")

    drain: bool = False
    """Whether the node is to send its clients to the others."""


class _ClientsEntry(Record):
    model_config = ConfigDict(extra="forbid")

    allow: list[str] = []  # noqa: RUF012 - pydantic copies it
    """`nodekey:…` of clients that are let in, whatever admission says."""

    deny: list[str] = []  # noqa: RUF012
    """`nodekey:…` of clients that are kept out."""


class _RegionFile(Record):
    """The whole file: a region and its nodes, in the order of the map."""

    model_config = ConfigDict(extra="forbid")

    region: _RegionEntry
    nodes: list[_MemberEntry]
    clients: _ClientsEntry = _ClientsEntry()


@dataclass(frozen=True)
class RegionText:
    """What a region file says."""

    region: Region
    members: tuple[Member, ...]
    drains: Mapping[str, Drain]
    clients: Mapping[NodeKey, Rule]


def parse_region(content: bytes, where: str) -> RegionText:
    """Judge the content of a region file.

    Raises:
        RegistryInvalid: It is no region file, or too large; says where and why.
    """
    if len(content) > MAX_SIZE:
        reason = f"{len(content)} bytes, limit is {MAX_SIZE}"
        raise RegistryInvalid(where, reason, _HINT)
    return parse_region_text(content.decode("utf-8", "replace"), where)


def parse_region_text(text: str, where: str) -> RegionText:
    """Judge the content of a region file.

    Raises:
        RegistryInvalid: It is no region file; says where and why.
    """
    try:
        found = _RegionFile.model_validate(_yaml(text))
    except yaml.YAMLError as exc:
        reason = f"not YAML: {' '.join(str(exc).split())}"
        raise RegistryInvalid(where, reason, _HINT) from exc
    except ValidationError as exc:
        error = exc.errors()[0]
        place = ".".join(str(part) for part in error["loc"]) or "the file"
        reason = f"{place} = {_SHORT.repr(error['input'])}: {error['msg']}"
        raise RegistryInvalid(where, reason, _HINT) from exc
    names = Counter(member.name for member in found.nodes)
    for name, count in names.items():
        if count > 1:
            raise RegistryInvalid(where, f"nodes: {name} stands there twice", _HINT)
    region = Region(**found.region.model_dump())
    members = tuple(Member(**dict(member)) for member in found.nodes)
    drains = {member.name: Drain() for member in found.nodes if member.drain}
    return RegionText(region, members, drains, _rules(found.clients, where))


def _rules(said: _ClientsEntry, where: str) -> dict[NodeKey, Rule]:
    """Read the keys of clients.

    Raises:
        RegistryInvalid: One is none, or is both let in and kept out.
    """
    found: dict[NodeKey, Rule] = {}
    lists: tuple[tuple[Rule, list[str]], ...] = (
        ("allow", said.allow),
        ("deny", said.deny),
    )
    for rule, texts in lists:
        for number, text in enumerate(texts):
            place = f"clients.{rule}.{number}"
            try:
                key = parse_node_key(text)
            except BadKeyText as exc:
                raise RegistryInvalid(where, f"{place}: {exc}", _HINT) from None
            if found.setdefault(key, rule) != rule:
                reason = f"{place} = {text}: it is in the other list, too"
                raise RegistryInvalid(where, reason, _HINT)
    return found


def _yaml(text: str) -> object:
    """Read YAML.

    Raises:
        yaml.YAMLError: It is none, or holds what the library cannot make: the 31st
            of February, a number of 5,000 digits, lists in lists without end.
    """
    try:
        value: object = yaml.safe_load(text)
    except (
        ValueError,
        LookupError,
        TypeError,
        AttributeError,
        RecursionError,
    ) as exc:
        raise yaml.YAMLError(exc) from exc
    return value


def dump_member(member: Member) -> str:
    """Write one entry for the `nodes` of a region file."""
    text: str = yaml.safe_dump([member.plain()], sort_keys=False)
    return text


def dump_region(
    region: Region, members: Iterable[Member], clients: Mapping[NodeKey, Rule]
) -> str:
    """Write a whole region file."""
    tree: dict[str, object] = {
        "region": region.plain(),
        "nodes": [member.plain() for member in members],
    }
    lists = {
        rule: [node_key_text(key) for key, said in clients.items() if said == rule]
        for rule in ("allow", "deny")
    }
    if any(lists.values()):
        tree["clients"] = {rule: keys for rule, keys in lists.items() if keys}
    text: str = yaml.safe_dump(tree, sort_keys=False)
    return text
