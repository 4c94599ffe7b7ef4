"""Yes or no, why, and whether it is counted."""

from dataclasses import dataclass, field

import pytest

from derpnode.plane.contract import Endpoint
from derpnode.server import logins as logins_module
from derpnode.server.logins import Logins, who
from derpnode.server.meshkeys import proves_nothing
from derpnode.wire.frames import FrameType
from derpnode.wire.handshake import ClientInfo, Login, open_client_info
from derpnode.wire.keys import MeshKey, NodeKey
from derpnode.wire.meshring import MeshRing
from tests.node.server.desk import (
    ALLOW,
    DENY,
    MESH_KEY,
    NODE,
    PEER,
    FakeAdmission,
    client_info,
    private_key,
)


ALICE = private_key("alice")


@dataclass
class Caller:
    """Somebody who wants to log in, and what came of it."""

    peer: Endpoint = PEER
    admitted: list[tuple[NodeKey, bool]] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)

    def admit(self, login: Login, *, mesh: bool) -> None:
        self.admitted.append((login.key, mesh))

    def refuse(self, reason: str) -> None:
        self.refused.append(reason)


class Office:
    """Logins with an admission that says what it is told to."""

    def __init__(self, is_mesh_key=MESH_KEY.matches, disallowed=()):
        self.now = 0.0
        self.admission = FakeAdmission()
        self.waiting = []
        self.logins = Logins(
            NODE,
            is_mesh_key,
            self.admission,
            disallowed=disallowed,
            clock=lambda: self.now,
            spawn=self.waiting.append,
        )
        self._nonce = 0

    def caller(self, info=None, private=ALICE, nonce=None) -> Caller:
        """Have somebody log in."""
        self._nonce += 1
        frame = client_info(private, info, nonce or self._nonce.to_bytes(24, "little"))
        caller = Caller()
        self.logins.begin(frame[5:], caller)
        return caller

    @property
    def outcomes(self) -> dict[str, int]:
        """How logins ended."""
        return dict(self.logins.outcomes)


def test_somebody_known():
    """Is let in at once."""
    office = Office()
    assert office.caller().admitted == [(ALICE.public, False)]
    assert office.outcomes == {"ok": 1}


def test_somebody_known_not_to_be_let_in():
    """Is refused at once."""
    office = Office()
    office.admission.seen = DENY
    assert office.caller().refused == ["may not"]
    assert office.outcomes == {"admission": 1}


@pytest.mark.parametrize(("verdict", "outcome"), [(ALLOW, "ok"), (DENY, "admission")])
async def test_somebody_unknown(verdict, outcome):
    """Is asked about, by key and address."""
    office = Office()
    office.admission.seen = None
    caller = office.caller()
    assert (caller.admitted, caller.refused, office.outcomes) == ([], [], {})
    office.admission.verdict = verdict
    await office.waiting.pop()
    assert office.admission.asked == [(ALICE.public, "192.0.2.7")]
    assert bool(caller.admitted) == verdict.allowed
    assert office.outcomes == {outcome: 1}


def test_a_mesh_peer():
    """Nobody is asked about whoever proves the mesh key."""
    office = Office()
    office.admission.seen = DENY
    caller = office.caller(ClientInfo(MESH_KEY.secret))
    assert caller.admitted == [(ALICE.public, True)]
    assert office.outcomes == {"mesh": 1}


@pytest.mark.parametrize("number", [1, 2, 3])
def test_a_mesh_peer_with_another_key_of_the_ring(number):
    """It has the mesh right while the key is being replaced, whichever it has."""
    old, new, other = (MeshKey(bytes([one]) * 32) for one in (1, 2, 3))
    office = Office(MeshRing(MESH_KEY, old, new).accepts)
    caller = office.caller(ClientInfo((old, new, MESH_KEY)[number - 1].secret))
    assert caller.admitted == [(ALICE.public, True)]
    caller = office.caller(ClientInfo(other.secret))
    assert caller.admitted == [(ALICE.public, False)]


@pytest.mark.parametrize("key", [b"\0" * 32, MESH_KEY.secret])
def test_a_node_without_a_mesh_key(key):
    """Nobody has the mesh right there, whatever is proved."""
    office = Office(is_mesh_key=proves_nothing)
    assert office.caller(ClientInfo(key)).admitted == [(ALICE.public, False)]


@pytest.mark.parametrize("payload", [b"", bytes(56), b"\1" * 56, b"\1" * 100])
def test_noise(payload):
    """Is refused, and counted as a bad handshake."""
    office, caller = Office(), Caller()
    office.logins.begin(payload, caller)
    assert len(caller.refused) == 1
    assert office.outcomes == {"handshake": 1}


def test_the_key_of_the_node():
    """Only a mesh peer may have it."""
    office = Office()
    assert office.caller(private=NODE).refused == ["the key is this node's own"]
    assert office.caller(ClientInfo(MESH_KEY.secret), NODE).admitted
    assert office.outcomes == {"key": 1, "mesh": 1}


def test_a_key_of_ones(monkeypatch):
    """It is refused even from who could seal with it."""
    ones = NodeKey(b"\xff" * 32)
    office = Office()

    def opened(payload, private):
        login = open_client_info(payload, private)
        return Login(ones, login.info, login.nonce, login.box)

    monkeypatch.setattr(logins_module, "open_client_info", opened)
    assert office.caller().refused == ["the key is no point"]


def test_a_replay():
    """The same login again is refused, whoever sends it; a new one is not."""
    office = Office()
    assert office.caller(nonce=b"n" * 24).admitted
    assert office.caller(nonce=b"n" * 24).refused == ["this login was seen before"]
    assert office.caller(nonce=b"m" * 24).admitted
    assert office.outcomes == {"ok": 2, "replay": 1}
    assert office.logins.replays.refused == 1


def test_a_replay_of_a_mesh_peer():
    """The mesh key is no excuse."""
    office = Office()
    info = ClientInfo(MESH_KEY.secret)
    assert office.caller(info, nonce=b"n" * 24).admitted
    assert office.caller(info, nonce=b"n" * 24).refused


@pytest.mark.parametrize(
    ("name", "mesh", "admitted"),
    [
        ("bad", False, False),
        ("worse", False, False),
        ("bad", True, True),
        ("Bad", False, True),
        ("", False, True),
        ("good", False, True),
    ],
)
def test_disallowed_names(name, mesh, admitted):
    """Trimmed, exact, and an empty entry is nobody."""
    office = Office(disallowed=(" bad", "worse ", "", " "))
    info = ClientInfo(MESH_KEY.secret if mesh else None, app_name=name)
    assert bool(office.caller(info).admitted) == admitted
    assert ("app_name" in office.outcomes) == (not admitted)


def test_who():
    """A login in a log is its short key."""
    login = open_client_info(client_info(ALICE)[5:], NODE)
    assert who(login).startswith("[")
    assert client_info(ALICE)[0] == FrameType.CLIENT_INFO
