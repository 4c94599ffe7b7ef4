"""The region that the tests of the membership are about."""

from derpmesh.membership.model import Member, Membership, Region


REGION = Region(id=901, code="test", name="Test")


def member(letter: str, **about: object) -> Member:
    """Make a member by its letter."""
    plain = {"name": f"901{letter}", "host": f"{letter}.example.com"}
    return Member.model_validate(plain | about)


A, B, C, D = map(member, "abcd")


def membership(revision: int, *members: Member, region: Region = REGION) -> Membership:
    """Make a snapshot; the members are in the order of the map."""
    return Membership(revision, region, {found.name: found for found in members})


def content(found: Membership) -> tuple[Region, list[Member]]:
    """Give what a snapshot says, in the order of the map, and not its revision."""
    return found.region, list(found.members.values())
