"""Writes what an operator wants of a region's clients and nodes into the registry."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from derpctl import registry
from derpctl.config import CtlConfig
from derpctl.errors import CtlError
from derpctl.exits import Exit
from derpmesh.membership.errors import RegistryInvalid, RegistryUnavailable
from derpmesh.membership.model import Member, Rule
from derpmesh.membership.operator import Operator
from derpmesh.membership.records import RegionIntent
from derpmesh.membership.regionfile import RegionText, parse_region
from derpnode.wire.errors import BadKeyText
from derpnode.wire.keys import NodeKey, node_key_text, parse_node_key


_Value = TypeVar("_Value")

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


async def ask(
    config: CtlConfig, question: Callable[[Operator], Awaitable[_Value]]
) -> _Value:
    """Use the registry for one thing.

    Raises:
        CtlError: It cannot be had, or refuses.
    """
    try:
        async with registry.opened(config) as operator:
            return await question(operator)
    except RegistryUnavailable as exc:
        raise registry.unreachable(exc) from exc


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

    return await ask(config, write)


async def client_rules(config: CtlConfig) -> list[ClientRule]:
    """List what is said of clients, sorted by key.

    Raises:
        CtlError: The registry cannot be had.
    """
    found = await ask(config, lambda operator: operator.clients())
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
    found, revision = await ask(config, lambda operator: operator.region())
    if found is None:
        raise registry.no_region(config)
    return found, revision


async def set_region(
    config: CtlConfig, changes: Mapping[str, object]
) -> tuple[RegionIntent, int]:
    """Change what is wanted of the region; give it, and the revision.

    Raises:
        CtlError: The registry cannot be had, or somebody else writes it too; or
            nobody has said yet what the region is called; or a text cannot be used.
    """
    for key in ("code", "name"):
        if key in changes:
            _check_text(f"--{key}", str(changes[key]))

    async def write(operator: Operator) -> tuple[RegionIntent, int]:
        found, before = await operator.region()
        if found is None:
            if not {"code", "name"} <= changes.keys():
                raise registry.no_region(
                    config
                )  # what is made up here goes into the map
            found = RegionIntent(id=config.region, code="", name="")
        said = {**changes, "author": registry.author()}
        intent = found.model_copy(update=said)
        revision = await operator.put_region(intent, before)
        if revision is None:
            value = f"region {config.region}"
            reason, hint = "somebody else writes it at the same time", "try again"
            raise CtlError(value, reason, hint, Exit.REFUSED)
        return intent, revision

    return await ask(config, write)


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

    return await ask(config, write)


async def export_region(config: CtlConfig) -> str:
    """Give what the registry has as a region's file.

    Raises:
        CtlError: The registry cannot be had, or has no such region.
    """
    await region(config)  # says what to do where there is none
    return await ask(config, lambda operator: operator.export_region())


async def add_node(config: CtlConfig, member: Member) -> tuple[str, int]:
    """List a node, or list it again; give its name and the revision.

    Raises:
        CtlError: It is listed already, or the registry cannot be had.
    """
    if not member.name.startswith(str(config.region)):
        value, reason = f"NAME = {member.name}", f"this is region {config.region}"
        hint = f"names are unique over all regions: {config.region} and a letter"
        raise CtlError(value, reason, hint, Exit.USAGE)
    return await ask(config, lambda operator: operator.add(member))


async def remove_node(config: CtlConfig, name: str) -> int:
    """Take a node out, so that it does not come back by itself; give the revision.

    Raises:
        CtlError: There is none of that name, or the registry cannot be had.
    """
    return (await ask(config, lambda operator: operator.remove(name))).revision


def _check_text(option: str, text: str) -> None:
    """See that a text may stand in the map, and in a record.

    Raises:
        CtlError: It may not.
    """
    value, hint = (
        f"{option} = {text!r:.80}",
        f"give 1 to {_LONGEST} printable characters",
    )
    if not text.strip() or not text.isprintable():
        raise CtlError(value, "empty, or not printable", hint, Exit.USAGE)
    if len(text) > _LONGEST:
        reason = f"{len(text)} characters, limit is {_LONGEST}"
        raise CtlError(value, reason, hint, Exit.USAGE)
