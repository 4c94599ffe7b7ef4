"""How many clients are moved home at a time, from which node to which. Pure."""

import math
from collections.abc import Collection, Mapping


Moves = Mapping[str, Mapping[str, int]]
"""Counts of clients by the node that they are on, then by the one they prefer."""


def budget(strays: int, share: float) -> int:
    """Give how many clients may be moved in one round: a share, one at least."""
    return max(1, math.ceil(strays * share)) if strays else 0


def plan(movable: Moves, ready: Collection[str], most: int) -> Moves:
    """Share out a round: one client after the other, from where most are.

    Args:
        movable: Clients that may be moved.
        ready: Nodes that have been serving for a while; others get nobody.
        most: Clients to move.
    """
    left = {
        (source, ideal): count
        for source, ideals in movable.items()
        for ideal, count in ideals.items()
        if ideal in ready and ideal != source and count > 0
    }
    found: dict[str, dict[str, int]] = {}
    for _ in range(min(most, sum(left.values()))):
        pair = max(left, key=lambda one: (left[one], one))
        left[pair] -= 1
        moves = found.setdefault(pair[0], {})
        moves[pair[1]] = moves.get(pair[1], 0) + 1
    return found
