"""Turns a map that somebody has into a region's records: no I/O."""

from collections.abc import Sequence
from dataclasses import dataclass

from derpctl.cluster import map_of
from derpctl.errors import CtlError
from derpctl.exits import Exit
from derpctl.map.diff import Difference, diff
from derpctl.map.lint import Severity, Terms, lint
from derpctl.map.model import PIN_PREFIX, DerpMap, Node, Region
from derpctl.wanted.members import member_of
from derpmesh.membership.edits import Wanted, in_order
from derpmesh.membership.model import Member
from derpmesh.membership.records import RegionIntent


_OURS = range(900, 1000)


@dataclass(frozen=True, slots=True)
class Imported:
    """A region of a map, as the registry would have it."""

    intent: RegionIntent
    members: Sequence[Member]
    left_out: Sequence[int]
    """Other regions that are in the map."""
    difference: Difference
    """How the map of these records differs from the one that was given."""


def import_map(derp_map: DerpMap, name: str, number: int | None) -> Imported:
    """Take one region out of a map.

    Args:
        derp_map: The map.
        name: What it was read from, for errors.
        number: Of the region; None: the only one that is somebody's own.

    Raises:
        CtlError: There is no such region, or it is not one that works, or it has what
            no record has a place for.
    """
    region = _region(derp_map, name, number)
    alone = DerpMap(regions={region.region_id: region})
    for finding in lint(alone, Terms(allow_system_ids=True, allow_insecure=True)):
        if finding.severity is Severity.ERROR:
            value = f"{name}: {finding.rule}: {finding.path}"
            hint = f"derpctl map lint {name} shows all; --fix mends some"
            raise CtlError(value, finding.message, hint, Exit.INVALID)
    members = [_member(name, node) for node in region.nodes]
    intent = RegionIntent(
        id=region.region_id,
        code=region.region_code,
        name=region.region_name,
        latitude=region.latitude,
        longitude=region.longitude,
        measure=not (region.no_measure_no_home or region.avoid),
        order=[member.name for member in members],
    )
    others = sorted(derp_map.regions.keys() - {region.region_id})
    difference = diff(alone, map_of(intent.region, members))
    return Imported(intent, members, others, difference)


def merge(seen: Wanted | None, found: Imported, *, replace: bool) -> Wanted:
    """Have a region be as it was imported.

    Args:
        seen: What the registry has; None: nothing.
        found: What was imported.
        replace: Take out the nodes that are not in it; else they stay, at the end.
    """
    nodes = {member.name: member for member in found.members}
    if seen is None:
        return in_order(found.intent, nodes, 0)
    before = {one.name: one for one in seen.members}
    for name, member in nodes.items():
        known = before.get(name)
        if known is not None:  # what no map has a place for stays
            kept = {"admin": known.admin, "dial": known.dial}
            nodes[name] = member.model_copy(update=kept)
    update: dict[str, object] = {
        "code": found.intent.code,
        "name": found.intent.name,
        "latitude": found.intent.latitude,
        "longitude": found.intent.longitude,
        "measure": found.intent.measure,
        "order": list(found.intent.order),
    }
    if not replace:
        rest = [name for name in before if name not in nodes]
        nodes |= {name: before[name] for name in rest}
        update["order"] = [*found.intent.order, *rest]
    return in_order(seen.intent.model_copy(update=update), nodes, seen.revision)


def _region(derp_map: DerpMap, name: str, number: int | None) -> Region:
    there = ", ".join(map(str, sorted(derp_map.regions))) or "none"
    if number is not None:
        if number in derp_map.regions:
            return derp_map.regions[number]
        reason = f"region {number} is not in it; there is {there}"
        hint = "correct the id of the region, there or in derpctl's configuration"
        raise CtlError(name, reason, hint, Exit.NOT_FOUND)
    own = [one for one in sorted(derp_map.regions) if one in _OURS]
    own = own or sorted(derp_map.regions)
    if len(own) == 1:
        return derp_map.regions[own[0]]
    reason = f"there is more than one region in it, or none: {there}"
    raise CtlError(name, reason, "give --region ID", Exit.USAGE)


def _member(name: str, node: Node) -> Member:
    """Record a node.

    Raises:
        CtlError: It has what no record has a place for.
    """
    where = f"{name}: node {node.name}"
    if node.insecure_for_tests and not node.cert_name:
        reason = "InsecureForTests has clients take any certificate"
        hint = "give CertName its pin: derpctl probe node URL shows it"
        raise CtlError(where, reason, hint, Exit.INVALID)
    pin = node.cert_name if node.cert_name.startswith(PIN_PREFIX) else None
    if node.cert_name and pin is None and node.cert_name != node.host_name:
        reason = f"CertName {node.cert_name!r:.80} is another name than HostName"
        hint = "nodes here are known by their own name, or by a pin"
        raise CtlError(where, reason, hint, Exit.INVALID)
    if node.stun_port < 0:
        stun_port: int | None = -1
    else:
        stun_port = node.stun_port or None
    said = {
        "host": node.host_name,
        "ipv4": node.ipv4 or None,
        "ipv6": node.ipv6 or None,
        "derp_port": node.derp_port or None,
        "stun_port": stun_port,
        "pin": pin,
        "can_port80": node.can_port80,
        "stun_only": node.stun_only,
    }
    try:
        return member_of(node.name, said)
    except CtlError as exc:
        value = f"{where}: {exc.value}"
        raise CtlError(value, exc.reason, "correct the map", Exit.INVALID) from exc
