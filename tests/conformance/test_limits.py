"""C48 and C49: what one client may send, and how many may come."""

import asyncio

import pytest

from derpnode.plane.python import acceptor
from tests.conformance.scene import LOOPBACK, Client, Place


CHUNK = 10_000


async def pushed(place: Place, seconds: float, *, mesh: bool = False) -> float:
    """Push packets; return how many bytes a second arrived after the first burst."""
    sender, receiver = await place.login(mesh=mesh), await place.login()
    loop = asyncio.get_running_loop()

    async def push() -> None:
        while True:
            await sender.send(receiver, bytes(CHUNK))

    pushing = loop.create_task(push())
    for _ in range(100):
        await receiver.packet()
    started, count = loop.time(), 0
    while loop.time() < started + seconds:
        await receiver.packet()
        count += CHUNK
    pushing.cancel()
    await asyncio.gather(pushing, return_exceptions=True)
    return count / (loop.time() - started)


async def test_c48_a_client_is_slowed_down(start):
    """To its rate; the burst is one frame at least. Source: protocol.md 5.11."""
    _, place = await start("limits.receive_rate=1000000", "limits.receive_burst=1")
    assert 800_000 < await pushed(place, 2) < 1_200_000


async def test_c48_mesh_peers_are_exempt(start):
    """Source: protocol.md 5.11."""
    _, place = await start("limits.receive_rate=100000")
    assert await pushed(place, 0.5, mesh=True) > 1_000_000


async def test_c48_no_limit_by_default(start):
    """0 is none."""
    _, place = await start()
    assert await pushed(place, 0.5) > 1_000_000


async def settled(place: Place, count: int) -> list[Client]:
    """Log so many clients in."""
    return [await place.login() for _ in range(count)]


async def is_refused(place: Place) -> bool:
    """Whether a connection is closed at once, before a byte of TLS."""
    peer = await place.dial_plain(place.derp_port)
    try:
        async with asyncio.timeout(1):
            return await peer.reader.read(1) == b""
    except ConnectionError:
        return True
    except TimeoutError:
        return False


@pytest.fixture
def strangers(monkeypatch):
    """Have caps apply to loopback, but for the node's own address."""
    monkeypatch.setattr(
        acceptor, "source_of", lambda host: b"" if host == LOOPBACK else host.encode()
    )


async def test_c49_too_many_at_once(start, strangers):
    """Over the rate, connections are accepted and closed, and the node survives."""
    node, place = await start("limits.accept_rate=20", "limits.accept_burst=5")
    place.source = "127.0.0.2"
    (client,) = await settled(place, 1)
    refused = await asyncio.gather(*(is_refused(place) for _ in range(40)))
    assert 20 < sum(refused) < 40
    assert await client.sync() == []
    while await is_refused(place):
        pass
    assert node.state == "serving"


async def test_c49_too_many_connections(start):
    """The cap holds, and ends as soon as somebody leaves."""
    _, place = await start("limits.connections=4")
    clients = await settled(place, 3)
    peer = await place.dial_plain(place.derp_port)
    while not await is_refused(place):
        pass
    peer.leave()
    for client in clients:
        assert await client.sync() == []
    while await is_refused(place):
        pass


async def test_c49_too_many_from_one_source(start, strangers):
    """Others have a measure of their own."""
    _, place = await start("limits.source_connections=2")
    for source in ("127.0.0.2", "127.0.0.3"):
        place.source = source
        await settled(place, 2)
        assert await is_refused(place)
