"""Who is said to be in doubt, and when."""

from derpmesh.membership.witness import PATIENCE, Witnesses


NAMES = ["901b", "901c"]


class Clock:
    """A clock that stands still until it is moved."""

    now = 100.0

    def __call__(self) -> float:
        """Give the time."""
        return self.now


def test_two_witnesses():
    """A lease that is gone for long is told, with what the link says."""
    clock = Clock()
    witnesses = Witnesses(clock)
    witnesses.look(NAMES, [])
    assert witnesses.notes([]) == []
    clock.now += PATIENCE + 0.1
    witnesses.look(NAMES, ["901b"])
    assert witnesses.notes(["901c"]) == [
        "901c: unverified: it has no lease in etcd, and its link is up"
    ]
    assert witnesses.notes([]) == [
        "901c: lost: it has no lease in etcd, and its link is down; it stays in the map"
        " until: derpctl node remove 901c"
    ]


def test_lease_that_is_back():
    """Nothing is told of it, and the time begins anew when it ends again."""
    clock = Clock()
    witnesses = Witnesses(clock)
    witnesses.look(NAMES, NAMES[:1])
    clock.now += PATIENCE
    witnesses.look(NAMES, NAMES)
    clock.now += PATIENCE
    witnesses.look(NAMES, NAMES[:1])
    assert witnesses.notes([]) == []


def test_member_that_was_taken_out():
    """It is nobody's business any more."""
    clock = Clock()
    witnesses = Witnesses(clock)
    witnesses.look(NAMES, [])
    clock.now += 2 * PATIENCE
    witnesses.look(NAMES[:1], [])
    assert [note[:4] for note in witnesses.notes([])] == ["901b"]


def test_etcd_is_away():
    """Then no lease can be seen, and nobody is in doubt by that."""
    clock = Clock()
    witnesses = Witnesses(clock)
    witnesses.look(NAMES, [])
    clock.now += 2 * PATIENCE
    witnesses.forget()
    assert witnesses.notes([]) == []
