"""The mesh keys of a node as a value: which are taken, and how far a rotation is."""

import pytest

from derpnode.wire.keys import MeshKey
from derpnode.wire.meshring import MeshRing, Phase


OLD, NEW, OTHER = (MeshKey(bytes([number]) * 32) for number in (1, 2, 3))

RINGS = {
    Phase.STEADY: MeshRing(OLD),
    Phase.STAGED: MeshRing(OLD, next=NEW),
    Phase.SWITCHED: MeshRing(NEW, previous=OLD),
}


@pytest.mark.parametrize("phase", Phase)
def test_phases(phase):
    """The keys that there are say how far it has come."""
    assert RINGS[phase].phase is phase


@pytest.mark.parametrize(
    ("ring", "taken"),
    [
        (RINGS[Phase.STEADY], [OLD]),
        (RINGS[Phase.STAGED], [OLD, NEW]),
        (RINGS[Phase.SWITCHED], [NEW, OLD]),
        (MeshRing(OLD, NEW, OTHER), [OLD, NEW, OTHER]),
    ],
)
def test_what_is_taken(ring, taken):
    """Each key of the ring, and no other; the one that is sent is tried first."""
    assert list(ring.keys) == taken
    for key in (OLD, NEW, OTHER):
        assert ring.accepts(key.secret) == (key in taken)
    for nothing in (None, b"", bytes(32), OLD.secret[:-1]):
        assert not ring.accepts(nothing)


def test_every_key_is_compared(monkeypatch):
    """How long it takes says nothing of which key it was."""
    compared = []
    matches = MeshKey.matches

    def note(key, candidate):
        compared.append(key)
        return matches(key, candidate)

    monkeypatch.setattr(MeshKey, "matches", note)
    assert MeshRing(OLD, NEW, OTHER).accepts(OLD.secret)
    assert len(compared) == 3


@pytest.mark.parametrize(
    ("keys", "ring"),
    [
        ((OLD, OLD, None), MeshRing(OLD)),
        ((OLD, None, OLD), MeshRing(OLD)),
        ((OLD, NEW, OLD), MeshRing(OLD, NEW)),
        ((OLD, NEW, NEW), MeshRing(OLD, NEW)),
        ((NEW, NEW, OLD), MeshRing(NEW, previous=OLD)),
    ],
)
def test_each_key_is_in_it_once(keys, ring):
    """Files may hold one key twice while they change places."""
    assert MeshRing.of(*keys) == ring


def test_nothing_shows_a_key():
    """Fingerprints stand for them, in JSON, in logs and in reprs."""
    ring = MeshRing(OLD, next=NEW)
    assert ring.fingerprints() == {
        "current": OLD.fingerprint(),
        "next": NEW.fingerprint(),
        "previous": None,
    }
    assert str(ring) == f"current {OLD.fingerprint()}, next {NEW.fingerprint()}"
    for key in (OLD, NEW):
        for text in (repr(ring), str(ring), repr(ring.fingerprints())):
            assert key.text() not in text
            assert repr(key.secret) not in text
