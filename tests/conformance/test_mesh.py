"""C35 to C38 and C43: what a mesh peer sees of one node, and may do there."""

import asyncio
import ipaddress

import pytest

from derpnode.wire.frames import FrameType
from derpnode.wire.handshake import ClientInfo
from derpnode.wire.keys import ZERO_KEY
from derpnode.wire.payloads import (
    WATCH_CONNS,
    PresentFlags,
    close_peer,
    forward_packet,
    parse_peer_present,
)
from tests.conformance.scene import (
    DISCO,
    FAST_START,
    Client,
    Place,
    gone,
    new_key,
    presents,
)


NOT_HERE = 1
NOT_IDEAL = FAST_START.replace(b"\r\n\r\n", b"\r\nIdeal-Node: 900b\r\n\r\n")


def found(payloads: list[bytes], client: Client) -> bytes:
    """Pick the announcement of one client."""
    (payload,) = (data for data in payloads if data.startswith(client.key))
    return payload


async def test_c35_the_flood_has_everybody(place: Place):
    """Clients, other mesh peers, and the watcher itself."""
    clients = [await place.login() for _ in range(3)]
    peer = await place.login(mesh=True)
    watcher = await place.login(mesh=True)
    keys = {client.key for client in [*clients, peer, watcher]}
    assert presents(await watcher.watch()) >= keys


async def test_c35_an_announcement_is_exact(place: Place):
    """Key, address, port, flags and name. Source: changes-1.104.md 2.1."""
    client = await place.login()
    watcher = await place.login(mesh=True)
    host, port = client.writer.get_extra_info("sockname")
    mapped = ipaddress.IPv6Address(f"::ffff:{host}").packed
    expected = client.key + mapped + port.to_bytes(2) + b"\x01\x00"
    assert found(await watcher.watch(), client) == expected


@pytest.mark.parametrize(
    ("mesh", "prober", "ideal", "flags"),
    [
        (False, False, True, 1),
        (True, False, True, 2),
        (False, True, True, 4),
        (False, False, False, 8),
        (True, True, False, 14),
        (False, True, False, 12),
    ],
)
async def test_c35_flags(place: Place, mesh, prober, ideal, flags):
    """Bit 0 stands alone. Source: protocol.md 4.2."""
    info = ClientInfo(place.mesh_key if mesh else None, is_prober=prober)
    client = await place.login(info=info, request=FAST_START if ideal else NOT_IDEAL)
    watcher = await place.login(mesh=True)
    present = parse_peer_present(found(await watcher.watch(), client))
    assert present.flags == PresentFlags(flags)


@pytest.mark.parametrize("name", ["", "x", "test-app", " ~", "x" * 32])
async def test_c35_names(place: Place, name):
    """A length byte and the name, in the flood and in a change."""
    watcher = await place.login(mesh=True)
    await watcher.watch()
    client = await place.login(info=ClientInfo(app_name=name))
    later = await place.login(mesh=True)
    for payload in (
        await watcher.until(FrameType.PEER_PRESENT),
        found(await later.watch(), client),
    ):
        assert payload[51:] == bytes([len(name)]) + name.encode()


async def test_c35_changes(place: Place):
    """Who comes and who goes, in that order, to every watcher."""
    watchers = [await place.login(mesh=True) for _ in range(3)]
    for watcher in watchers:
        await watcher.watch()
    client = await place.login()
    client.leave()
    for watcher in watchers:
        while not (await watcher.until(FrameType.PEER_PRESENT)).startswith(client.key):
            pass
        while await watcher.until(FrameType.PEER_GONE) != client.key + b"\0":
            pass


@pytest.mark.parametrize("data", [b"", b"data", DISCO, bytes(65_536)], ids=len)
async def test_c36_forwarded_packets_arrive(place: Place, data):
    """As from their source, which nobody checks. Source: protocol.md 5.3."""
    peer, client, source = await place.login(mesh=True), await place.login(), new_key()
    await peer.say(forward_packet(source.public, client.key, data))
    assert await client.packet() == (source.public, data)


async def test_c36_from_nobody(place: Place):
    """A zero source makes a frame of version 1. Source: protocol.md 4.2."""
    peer, client = await place.login(mesh=True), await place.login()
    await peer.say(forward_packet(ZERO_KEY, client.key, b"data"))
    assert await client.frame() == (FrameType.RECV_PACKET, b"data")


async def test_c36_for_nobody(place: Place):
    """The peer is told, if it was path discovery, and at most three times at once."""
    peer, nobody = await place.login(mesh=True), new_key().public
    await peer.say(forward_packet(new_key().public, nobody, b"data"))
    assert gone(await peer.sync()) == []
    await peer.say(forward_packet(new_key().public, nobody, DISCO) * 6)
    assert gone(await peer.sync()) == [(nobody, NOT_HERE)] * 3


async def test_c37_close_peer_closes_every_connection(place: Place):
    """All of a key, and no other; nothing is answered."""
    peer, other = await place.login(mesh=True), await place.login()
    twins = [await place.login(name := new_key().public.hex()), await place.login(name)]
    await peer.say(close_peer(twins[0].key))
    for twin in twins:
        await twin.rest()
    assert gone(await peer.sync()) == []
    assert await other.sync() == []


async def test_c37_an_unknown_key_is_harmless(place: Place):
    """Nothing happens."""
    peer = await place.login(mesh=True)
    await peer.say(close_peer(new_key().public))
    assert await peer.sync() == []


async def test_c37_oneself(place: Place):
    """Whoever asks for it is closed too."""
    peer = await place.login(mesh=True)
    await peer.say(close_peer(peer.key))
    await peer.rest()


async def test_c38_watching_again_floods_again(place: Place):
    """And changes still come once."""
    client, watcher = await place.login(), await place.login(mesh=True)
    for _ in range(2):
        assert {client.key, watcher.key} <= presents(await watcher.watch())
    came = await place.login()
    frames = await watcher.sync()
    assert [data for _, data in frames if data.startswith(came.key)] == [frames[0][1]]


async def test_c38_the_flood_ends_before_the_pong(place: Place):
    """So a ping behind WatchConns marks its end. Source: changes-1.104.md 3.2."""
    clients = [await place.login() for _ in range(30)]
    watcher = await place.login(mesh=True)
    await watcher.say(WATCH_CONNS, b"\x12\0\0\0\x08after it")
    seen = []
    while (frame := await watcher.frame())[0] != FrameType.PONG:
        seen.append(frame[1])
    assert presents(seen) >= {client.key for client in clients}


async def test_c43_presence_is_fast(place: Place):
    """Below the 100 ms that derpprobe waits. Measured at the median of 20."""
    watcher = await place.login(mesh=True)
    await watcher.watch()
    loop = asyncio.get_running_loop()
    took = []
    for _ in range(20):
        client = await place.login()
        since = loop.time()
        while not (await watcher.until(FrameType.PEER_PRESENT)).startswith(client.key):
            pass
        took.append(loop.time() - since)
    assert sorted(took)[10] < 0.1
