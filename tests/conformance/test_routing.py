"""C30 to C34: where packets go, and who is told of it."""

import asyncio

import pytest

from derpnode.wire.frames import FrameType, encode_frame
from derpnode.wire.payloads import note_preferred, send_packet
from tests.conformance.scene import DISCO, PATIENCE, Client, Frame, Place, gone, new_key


NOT_HERE = 1
DISCONNECTED = 0


@pytest.mark.parametrize(
    ("data", "told"),
    [
        pytest.param(b"no path discovery" * 10, False, id="data"),
        pytest.param(DISCO[:61], False, id="61 bytes"),
        pytest.param(DISCO, True, id="62 bytes"),
        pytest.param(DISCO + bytes(1000), True, id="more"),
        pytest.param(DISCO[:4] + bytes(100), False, id="half a magic"),
    ],
)
async def test_c30_who_is_told_that_a_peer_is_not_here(place: Place, data, told):
    """Whoever looks for a path. Source: protocol.md 5.6."""
    client, nobody = await place.login(), new_key().public
    await client.send(nobody, data)
    assert gone(await client.sync()) == ([(nobody, NOT_HERE)] if told else [])


async def test_c30_not_more_often_than_that(place: Place):
    """Three at once, and one more after a second, for each client."""
    client, nobody = await place.login(), new_key().public
    for _ in range(6):
        await client.send(nobody, DISCO)
    assert gone(await client.sync()) == [(nobody, NOT_HERE)] * 3
    await asyncio.sleep(1.1)
    for _ in range(3):
        await client.send(nobody, DISCO)
    assert gone(await client.sync()) == [(nobody, NOT_HERE)]


async def test_c30_each_client_has_its_own_measure(place: Place):
    """What one asks costs the other nothing."""
    nobody = new_key().public
    for _ in range(2):
        client = await place.login()
        await client.say(send_packet(nobody, DISCO) * 4)
        assert len(gone(await client.sync())) == 3


async def test_c31_those_who_heard_from_a_peer_are_told_that_it_left(place: Place):
    """Those who only sent to it are not. Source: protocol.md 5.6."""
    peer, heard, spoke = [await place.login() for _ in range(3)]
    await peer.send(heard, b"hello")
    await heard.packet()
    await spoke.send(peer, b"hello")
    await peer.packet()
    peer.leave()
    assert await heard.until(FrameType.PEER_GONE) == peer.key + bytes([DISCONNECTED])
    assert await spoke.sync() == []


@pytest.mark.parametrize("server", ["ours"])
async def test_c31_every_time(place: Place):
    """Unlike derper, also when it came back and leaves again."""
    heard = await place.login()
    for _ in range(3):
        peer = await place.login("the same")
        await peer.send(heard, b"hello")
        await heard.packet()
        peer.leave()
        await heard.until(FrameType.PEER_GONE)


async def twins(place: Place, count: int = 2) -> tuple[Client, list[Client]]:
    """Log somebody in, and so many clients that share one key, oldest first."""
    name = new_key().public.hex()
    return await place.login(), [await place.login(name) for _ in range(count)]


async def receivers(sender: Client, clients: list[Client]) -> list[int]:
    """Send a packet to the key they share; say which of them got it."""
    mark = new_key().public[:8]
    await sender.send(clients[0], mark)
    loop = asyncio.get_running_loop()
    waiting = [loop.create_task(client.packet()) for client in clients]
    await asyncio.wait(waiting, timeout=1, return_when=asyncio.FIRST_COMPLETED)
    await asyncio.sleep(0.05)  # whether another gets it too, nobody announces
    got = [number for number, task in enumerate(waiting) if task.done()]
    for task in waiting:
        task.cancel()
    ended = await asyncio.gather(*waiting, return_exceptions=True)
    assert all(ended[number] == (sender.key, mark) for number in got)
    return got


async def comes_to(sender: Client, clients: list[Client], expected: int) -> None:
    """Wait until one of them gets the packets, and nobody else."""
    async with asyncio.timeout(PATIENCE):
        while await receivers(sender, clients) != [expected]:
            pass


async def test_c32_the_newest_connection_gets_the_packets(place: Place):
    """The old ones stay open. Source: protocol.md 5.2."""
    sender, clients = await twins(place, 3)
    assert await receivers(sender, clients) == [2]
    for client in clients:
        assert await client.sync() == []


SPEECHES = {
    "ping": encode_frame(FrameType.PING, b"12345678"),
    "pong": encode_frame(FrameType.PONG, b"12345678"),
    "unknown": encode_frame(0x7F, b"?"),
    "home": note_preferred(True),
    "packet": send_packet(new_key().public, b"?"),
}


@pytest.mark.parametrize("speech", SPEECHES.values(), ids=SPEECHES)
async def test_c32_whoever_spoke_last_gets_the_packets(place: Place, speech):
    """Any frame of an older connection takes them back."""
    sender, clients = await twins(place, 3)
    await clients[0].say(speech)
    await comes_to(sender, clients, 0)
    await clients[1].say(speech)
    await comes_to(sender, clients, 1)


async def test_c32_the_survivor_takes_over(place: Place):
    """The one that spoke last, without another word of its own."""
    sender, (first, second, third) = await twins(place, 3)
    await second.sync()
    await first.sync()
    first.leave()
    await comes_to(sender, [second, third], 0)
    second.leave()
    await comes_to(sender, [third], 0)


async def test_c32_watchers_hear_of_each_and_of_the_last_end(place: Place):
    """Present for every connection, gone for the last one of its key."""
    watcher = await place.login(mesh=True)
    await watcher.watch()
    sender, (one, other) = await twins(place)
    came = [kind for kind, data in await watcher.sync() if data.startswith(one.key)]
    assert came == [FrameType.PEER_PRESENT] * 2
    other.leave()
    await comes_to(sender, [one], 0)
    assert gone(await watcher.sync()) == []
    one.leave()
    assert await watcher.until(FrameType.PEER_GONE) == one.key + bytes([DISCONNECTED])


async def test_c33_a_stalled_receiver(place: Place):
    """It is cut after two seconds; nobody else waits for it or loses a packet."""
    sender, stalled, other = [await place.login() for _ in range(3)]
    started = asyncio.get_running_loop().time()
    frames: list[Frame] = []
    count = 0
    while (stalled.key, NOT_HERE) not in gone(frames):
        count += 1
        await sender.send(stalled, bytes(60_000))
        await sender.send(other, b"%d" % count)
        assert await other.packet() == (sender.key, b"%d" % count)
        await sender.send(stalled, DISCO)
        frames = await sender.sync()
    assert 2 < asyncio.get_running_loop().time() - started < 10


async def test_c34_bulk(place: Place):
    """600 packets of 64 KiB, 30 of them under way: in order, and none is lost."""
    sender, receiver = await place.login(), await place.login()
    sent = 0
    for count in range(600):
        while sent < min(count + 30, 600):
            await sender.send(receiver, sent.to_bytes(4) + bytes(65_532))
            sent += 1
        _, data = await receiver.packet()
        assert (int.from_bytes(data[:4]), len(data)) == (count, 65_536)
