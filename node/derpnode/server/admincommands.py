"""What an operator can tell a node to do, over the admin listener."""

from collections.abc import Mapping

from derpnode.errors import LastServingNode, NodeError
from derpnode.server.facts import NodeFacts


GRACE = 120.0
"""Seconds that a drain may take, where the operator names none."""

MOST_GRACE = 3600.0


class BadCommand(NodeError):
    """The command makes no sense; says why."""


class RefusedCommand(NodeError):
    """The command would do harm; says what, and how to insist."""


def drain(facts: NodeFacts, query: Mapping[str, str]) -> dict[str, object]:
    """Send the clients elsewhere; returns at once, the state tells how far it is.

    Args:
        facts: The node.
        query: `grace`, seconds, and `force`, `1` to drain the last serving node.

    Raises:
        BadCommand: A value is none.
        RefusedCommand: No other node takes clients.
    """
    grace = _seconds(query.get("grace", str(GRACE)))
    try:
        facts.drain(grace=grace, force=query.get("force") == "1")
    except LastServingNode as exc:
        raise RefusedCommand(str(exc)) from exc
    return _state(facts)


def undrain(facts: NodeFacts, query: Mapping[str, str]) -> dict[str, object]:
    """Take clients again."""
    facts.undrain()
    return _state(facts)


def confirm(facts: NodeFacts, query: Mapping[str, str]) -> dict[str, object]:
    """Believe the registry that the members it has lost are gone."""
    del query
    return {"name": facts.config.node.name, "let_go": facts.region.confirm()}


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= MOST_GRACE:
        message = f"grace = {text}: not seconds from 0 to {MOST_GRACE:g}"
        raise BadCommand(message)
    return value


def _state(facts: NodeFacts) -> dict[str, object]:
    return {"name": facts.config.node.name, "state": facts.state}
