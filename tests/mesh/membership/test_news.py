"""What of a change of membership is told."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from derpmesh.membership.news import tell_changes, tell_held
from derpnode.server.journal import Journal
from tests.mesh.membership.scene import A, B, C, member, membership


@pytest.fixture
def journal():
    """An empty one."""
    return Journal(lambda: datetime(2026, 11, 24, tzinfo=UTC))


def told(journal: Journal) -> list[tuple[str, str, str]]:
    """Give kind, subject and text of each event."""
    return [(event.kind.value, event.subject, event.text) for event in journal.after(0)]


def test_first(journal):
    """Everybody has joined."""
    tell_changes(journal, None, membership(7, A, B))
    assert told(journal) == [
        ("member_joined", "901a", "it is in the region, at a.example.com"),
        ("member_joined", "901b", "it is in the region, at b.example.com"),
    ]
    assert journal.after(0)[0].fields == {"revision": 7}


def test_every_change(journal):
    """Who left, who was taken out, who came, and what is other."""
    other = member("b", derp_port=4433)
    after = replace(membership(8, other, C), struck=frozenset({"901a"}))
    tell_changes(journal, membership(7, A, B), after)
    tell_changes(journal, after, membership(9, other))
    assert told(journal) == [
        ("member_lost", "901a", "an operator took it out"),
        ("member_changed", "901b", "derp_port 4433, was unset"),
        ("member_joined", "901c", "it is in the region, at c.example.com"),
        ("member_lost", "901c", "it is not in the registry"),
    ]


def test_nothing_new(journal):
    """A later revision of the same is no event."""
    tell_changes(journal, membership(7, A, B), membership(9, A, B))
    assert told(journal) == []


def test_held(journal):
    """Each once; that it came back by itself is told as well."""
    tell_held(journal, (), ("901b", "901c"), membership(8, A))
    tell_held(journal, ("901b", "901c"), ("901c",), membership(9, A, B))
    assert told(journal) == [
        ("held", "901b", "it vanished from the registry, and stays in force"),
        ("held", "901c", "it vanished from the registry, and stays in force"),
        ("member_changed", "901b", "it is in the registry again, and held no more"),
    ]
