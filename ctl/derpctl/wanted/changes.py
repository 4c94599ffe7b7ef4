"""What operators change of a region's map, as functions of what is wanted. Pure."""

from collections.abc import Mapping, Sequence

from derpctl.errors import CtlError
from derpctl.exits import Exit
from derpctl.wanted.members import member_of
from derpmesh.membership.edits import Wanted, in_order
from derpmesh.membership.model import Member
from derpmesh.membership.records import RegionIntent


def set_order(before: Wanted, names: Sequence[str]) -> Wanted:
    """Put the nodes of a region in another order; those not named follow.

    Raises:
        CtlError: One is not there, or is named twice.
    """
    for name in names:
        node_of(before, name)
        if names.count(name) > 1:
            value, hint = f"NAMES = {','.join(names)}", "name each node once"
            raise CtlError(value, f"{name} is in it twice", hint, Exit.USAGE)
    rest = [one.name for one in before.members if one.name not in names]
    intent = before.intent.model_copy(update={"order": [*names, *rest]})
    return in_order(intent, nodes_of(before), before.revision)


def set_node(before: Wanted, name: str, said: Mapping[str, object]) -> Wanted:
    """Change what is recorded of a node.

    Args:
        before: The region.
        name: Of the node.
        said: What is new, by field; None takes it out.

    Raises:
        CtlError: There is no such node, or it cannot be so.
    """
    there = node_of(before, name).plain()
    fields = {key: value for key, value in {**there, **said}.items() if key != "name"}
    nodes = {**nodes_of(before), name: member_of(name, fields, "node set")}
    return in_order(before.intent, nodes, before.revision)


def add_nodes(before: Wanted, *members: Member) -> Wanted:
    """List more nodes, at the end of the order."""
    nodes = nodes_of(before) | {member.name: member for member in members}
    return in_order(before.intent, nodes, before.revision)


def remove_node(before: Wanted, name: str) -> Wanted:
    """Take a node out.

    Raises:
        CtlError: There is no such node.
    """
    node_of(before, name)
    nodes = {key: one for key, one in nodes_of(before).items() if key != name}
    return in_order(before.intent, nodes, before.revision)


def set_region(before: Wanted, said: Mapping[str, object]) -> Wanted:
    """Change what is said of the region as a whole."""
    plain = {**before.intent.plain(), **said}
    intent = RegionIntent.model_validate(plain)
    return in_order(intent, nodes_of(before), before.revision)


def nodes_of(wanted: Wanted) -> dict[str, Member]:
    """Give the nodes by name."""
    return {member.name: member for member in wanted.members}


def node_of(wanted: Wanted, name: str) -> Member:
    """Find a node.

    Raises:
        CtlError: There is none of that name.
    """
    found = nodes_of(wanted)
    if name not in found:
        reason = f"not in region {wanted.intent.id}, as the registry has it"
        hint = f"there is {', '.join(found) or 'none'}"
        raise CtlError(name, reason, hint, Exit.NOT_FOUND)
    return found[name]
