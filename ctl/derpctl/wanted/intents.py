"""Writes what an operator wants of a region's clients and nodes into the registry."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from derpctl.config import CtlConfig
from derpctl.errors import CtlError
from derpctl.exits import Exit
from derpctl.wanted import changes as region_change
from derpctl.wanted import registry
from derpmesh.membership.edits import Wanted
from derpmesh.membership.errors import RegistryInvalid
from derpmesh.membership.model import Rule
from derpmesh.membership.operator import Operator
from derpmesh.membership.records import RegionIntent
from derpmesh.membership.regionfile import RegionText, parse_region
from derpnode.wire.errors import BadKeyText
from derpnode.wire.keys import NodeKey, node_key_text, parse_node_key


_CODE = re.compile(r"[a-z0-9-]{1,32}")
_LONGEST = 100  # characters of the code and the name of a region


@dataclass(frozen=True, slots=True)
class ClientRule:
    """What is said of one client."""

    key: NodeKey
    rule: Rule
    author: str
    """Who said it."""

    def members(self) -> dict[str, object]:
        """Give it as JSON has it."""
        key = node_key_text(self.key)
        return {"key": key, "rule": self.rule, "author": self.author}


def client_key(text: str) -> NodeKey:
    """Read the key of a client.

    Raises:
        CtlError: It is none. What was given is not shown: it may be a private key.
    """
    try:
        return parse_node_key(text)
    except BadKeyText as exc:
        hint = "give nodekey: and 64 hex digits, as `tailscale status --json` does"
        raise CtlError("KEY", str(exc), hint, Exit.USAGE) from None


async def rule_clients(
    config: CtlConfig, keys: Sequence[NodeKey], rule: Rule
) -> list[tuple[NodeKey, int]]:
    """Let clients in, keep them out, or say no more of them; give the revisions.

    Raises:
        CtlError: The registry cannot be had.
    """

    async def write(operator: Operator) -> list[tuple[NodeKey, int]]:
        if (await operator.region())[0] is None:
            raise registry.no_region(config)  # no node would hear of it
        return [(key, await operator.rule(key, rule)) for key in keys]

    return await registry.ask(config, write)


async def client_rules(config: CtlConfig) -> list[ClientRule]:
    """List what is said of clients, sorted by key.

    Raises:
        CtlError: The registry cannot be had.
    """
    found = await registry.ask(config, lambda operator: operator.clients())
    return [
        ClientRule(key, one.rule, one.author)
        for key, one in sorted(found.items())
        if one.rule != "none"
    ]


async def region(config: CtlConfig) -> tuple[RegionIntent, int]:
    """Give what is wanted of the region, and at which revision that was written.

    Raises:
        CtlError: The registry cannot be had, or nobody has said anything yet.
    """
    found, revision = await registry.ask(config, lambda operator: operator.region())
    if found is None:
        raise registry.no_region(config)
    return found, revision


def region_changes(
    config: CtlConfig, changes: Mapping[str, object]
) -> Callable[[Wanted | None], Wanted]:
    """Give how the region changes with what was said of it.

    Raises:
        CtlError: A text cannot be used; or, when it is called, nobody has said yet
            what the region is called.
    """
    for key in ("code", "name"):
        if key in changes:
            _check_text(f"--{key}", str(changes[key]))

    def plan(seen: Wanted | None) -> Wanted:
        if seen is not None:
            return region_change.set_region(seen, changes)
        if not {"code", "name"} <= changes.keys():
            raise registry.no_region(config)  # what is made up here goes into the map
        region = RegionIntent(id=config.region, code="", name="")
        return region_change.set_region(Wanted(region, (), 0), changes)

    return plan


def read_region(config: CtlConfig, file: Path) -> RegionText:
    """Read a region's file.

    Raises:
        CtlError: It cannot be used, or is of another region.
    """
    try:
        text = parse_region(file.read_bytes(), str(file))
    except OSError as exc:
        reason = (exc.strerror or "cannot be read").lower()
        raise CtlError(str(file), reason, "check the path", Exit.USAGE) from exc
    except RegistryInvalid as exc:
        raise CtlError(exc.where, exc.reason, exc.hint, Exit.INVALID) from exc
    if text.region.id != config.region:
        value, reason = str(file), f"it is of region {text.region.id}"
        hint = f"derpctl's configuration is of region {config.region}"
        raise CtlError(value, reason, hint, Exit.INVALID)
    return text


async def import_region(
    config: CtlConfig, text: RegionText
) -> tuple[list[str], list[str]]:
    """List what a region's file lists and is not there.

    Returns:
        What was written, and the nodes that were not as an operator took them out.

    Raises:
        CtlError: The registry cannot be had.
    """

    async def write(operator: Operator) -> tuple[list[str], list[str]]:
        written = await operator.import_region(text)
        there = await operator.nodes()
        names = [member.name for member in text.members if member.name in there]
        return written, [name for name in names if there[name].intent.removed]

    return await registry.ask(config, write)


async def export_region(config: CtlConfig) -> str:
    """Give what the registry has as a region's file.

    Raises:
        CtlError: The registry cannot be had, or has no such region.
    """
    await region(config)  # says what to do where there is none
    return await registry.ask(config, lambda operator: operator.export_region())


def _check_text(option: str, text: str) -> None:
    """See that a text may stand in the map, and in a record.

    Raises:
        CtlError: It may not.
    """
    if option == "--code" and not _CODE.fullmatch(text):
        value, hint = f"{option} = {text!r:.80}", "give 1 to 32 of a to z, 0 to 9 and -"
        raise CtlError(value, "not a short tag", hint, Exit.USAGE)
    value, hint = (
        f"{option} = {text!r:.80}",
        f"give 1 to {_LONGEST} printable characters",
    )
    if not text.strip() or not text.isprintable():
        raise CtlError(value, "empty, or not printable", hint, Exit.USAGE)
    if len(text) > _LONGEST:
        reason = f"{len(text)} characters, limit is {_LONGEST}"
        raise CtlError(value, reason, hint, Exit.USAGE)
