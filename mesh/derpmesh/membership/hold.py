"""What of a change in the registry is believed. Pure; the clock is given.

A registry that lost its records, or a hand that slipped, must not take a region apart:
members that vanish in numbers stay in force until they are back or somebody confirms.
Source: peers-threats-faults.md 5, rule 8.
"""

import dataclasses
from collections.abc import Callable

from derpmesh.membership.model import Member, Membership, Rule
from derpnode.wire.keys import NodeKey


WINDOW = 30.0
"""Seconds in which members that vanish are counted together."""

MOST_SHARE = 0.34
"""Part of the members that may vanish in that time and be believed."""


class Hold:
    """Judges each membership of a registry before it comes into force.

    Args:
        clock: Gives seconds.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._force: Membership | None = None
        self._found: Membership | None = None
        self._vanished: dict[str, float] = {}  # believed, and when
        self._held: dict[str, Member] = {}
        self._held_rules: dict[NodeKey, Rule] = {}

    @property
    def held_clients(self) -> int:
        """How many clients have a rule in force that the registry does not have."""
        return len(self._held_rules)

    @property
    def held(self) -> tuple[str, ...]:
        """Names in force that the registry does not have any more."""
        return tuple(self._held)

    def judge(self, found: Membership) -> Membership:
        """Give the membership that is to be in force.

        One member that vanishes is believed, unless it is more than a third of them;
        so is whoever an operator took out. With more, all that vanished are held.
        """
        before, now = self._force, self._clock()
        self._found = found
        if before is None:
            self._force = found
            return found
        gone = {
            name: member
            for name, member in before.members.items()
            if name not in found.members and name not in found.struck
        }
        self._vanished = {
            name: since
            for name, since in self._vanished.items()
            if now - since <= WINDOW and name not in found.members
        }
        doubted = self._held.keys() & gone.keys()
        fresh = gone.keys() - doubted
        count = len(self._vanished.keys() | gone.keys())
        size = len(before.members.keys() | self._vanished.keys())
        if doubted or count > 1 or count > MOST_SHARE * size:
            self._held = gone
        else:
            self._held = {}
            self._vanished |= dict.fromkeys(fresh, now)
        self._hold_rules(before, found)
        self._force = self._with_held(before, found)
        return self._force

    def confirm(self) -> Membership | None:
        """Believe what the registry has; None if nothing is held.

        For whoever knows that it is meant.
        """
        if self._found is None or not (self._held or self._held_rules):
            return None
        self._held = {}
        self._held_rules = {}
        self._force = self._found
        return self._force

    def _hold_rules(self, before: Membership, found: Membership) -> None:
        """Keep the rules of clients that vanished: whoever means it says so."""
        self._held_rules = {
            client: rule
            for client, rule in before.clients.items()
            if client not in found.clients and rule != "none"
        }

    def _with_held(self, before: Membership, found: Membership) -> Membership:
        """Add what is held; members where they were in the order of the map."""
        if self._held_rules:
            rules = {**found.clients, **self._held_rules}
            found = dataclasses.replace(found, clients=rules)
        if not self._held:
            return found
        members = {**found.members, **self._held}
        order = [name for name in before.members if name in members]
        names = dict.fromkeys([*order, *found.members])
        region = found.region if found.members else before.region
        drains = {n: wish for n, wish in before.drains.items() if n in self._held}
        return dataclasses.replace(
            found,
            members={name: members[name] for name in names},
            region=region,
            drains={**drains, **found.drains},
        )
