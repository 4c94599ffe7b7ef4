"""The proof of a demo: what it counts, and what it says when packets are lost."""

import pytest

from derpctl.demo import proof
from derpctl.demo.proof import Place, Trips, prove
from derpctl.errors import CtlError
from derpctl.exits import Exit
from tests.ctl.standins import DerpStandIn, serving


def places(port: int) -> list[Place]:
    """Three clients of a plain server."""
    return [
        Place(name, "900a", number, "127.0.0.1", port, (), None)
        for number, name in enumerate("abc")
    ]


async def test_proof(monkeypatch: pytest.MonkeyPatch):
    """Every ordered pair, every size, there and back."""
    monkeypatch.setattr(proof, "ROUNDS", 5)
    async with serving(DerpStandIn()) as port:
        found = await prove(places(port))
    pairs = [(trips.source, trips.target) for trips in found.pairs]
    assert pairs == [
        ("a", "b"),
        ("a", "c"),
        ("b", "a"),
        ("b", "c"),
        ("c", "a"),
        ("c", "b"),
    ]
    assert found.packets == 6 * (3 + 2 * 5)
    assert [trips.source for trips in found.pings] == ["a", "b", "c"]
    members = found.members()
    assert members["sizes"] == [1, 1_400, 65_536]
    assert set(members["pairs"][0]) == {"from", "to", "rtt_median", "rtt_p95"}


async def test_lost_packet(monkeypatch: pytest.MonkeyPatch):
    """It does not relay: critical."""
    monkeypatch.setattr(proof, "_PATIENCE", 0.2)
    async with serving(DerpStandIn(relays=False)) as port:
        with pytest.raises(CtlError) as found:
            await prove(places(port))
    assert str(found.value).startswith(
        "the first packet: did not arrive in 0.2 s; see the node"
    )
    assert found.value.exit is Exit.CRITICAL


async def test_refused():
    """The layer is named."""
    async with serving(DerpStandIn(admits=False)) as port:
        with pytest.raises(
            CtlError, match=r"^the proof: login: nodekey:.*; see whether"
        ):
            await prove(places(port))


def test_percentile():
    """Of 50, the third from the end."""
    trips = Trips("a", "b", [float(number) for number in range(1, 51)])
    assert (trips.median, trips.p95) == (25.5, 48.0)
    assert Trips("a", "b", [1.0]).p95 == 1.0
