"""What only the registry in memory does: it forgets on demand."""

from contextlib import aclosing

import pytest

from derpmesh.membership.errors import RevisionCompacted
from derpmesh.membership.memory import MemoryRegistry
from tests.mesh.membership.scene import A, B, C, D, content, membership


@pytest.fixture
def registry():
    """A registry that holds `A`, at revision 1."""
    return MemoryRegistry(membership(1, A))


async def test_changes_are_kept(registry):
    """Who asks late is told each of them."""
    await registry.put(membership(2, A, B))
    await registry.put(membership(5, B))
    async with aclosing(registry.changes(1)) as changes:
        assert [(await anext(changes)).revision for _ in range(2)] == [2, 5]


async def test_past_that_is_forgotten_cannot_be_told(registry):
    """Who wants it must read anew."""
    await registry.put(membership(2, A, B))
    await registry.compact()
    with pytest.raises(RevisionCompacted, match="revision 1 is compacted; read anew"):
        await anext(registry.changes(1))
    assert content(await registry.read()) == content(membership(2, A, B))


async def test_regression_half_of_the_past_is_forgotten(registry):
    """What came after it must not be told alone.

    The change that was forgotten was skipped, and a follower never learned of B.
    """
    await registry.put(membership(2, A, B))
    await registry.compact()
    await registry.put(membership(3, A, B, C))
    with pytest.raises(RevisionCompacted):
        await anext(registry.changes(1))


async def test_who_knows_what_is_forgotten_misses_nothing(registry):
    """Only what came before what it knows is gone."""
    await registry.put(membership(2, A, B))
    await registry.compact()
    await registry.put(membership(3, A, B, D))
    async with aclosing(registry.changes(2)) as changes:
        assert (await anext(changes)).put == (D,)
