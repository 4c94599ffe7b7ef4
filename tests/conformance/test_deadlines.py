"""C12: whoever does not get on with it is closed. Shortened, but for the numbers.

Unlike derper: 5 s to the first byte, 10 s for TLS, 5 s for the head, 10 s for DERP and
20 s in all, where derper has 30 s for all that comes before DERP.
"""

import asyncio

import pytest

from derpnode.plane.contract import AcceptLimits
from derpnode.server import front
from tests.conformance.scene import FAST_START, UPGRADE, http, read_answer


SHORT = 0.4


@pytest.fixture
def hurry(monkeypatch):
    """Give every stage but the named one its full time."""

    def hurry(stage: str) -> None:
        if hasattr(front, stage):
            monkeypatch.setattr(front, stage, SHORT)
        else:
            defaults = AcceptLimits.__init__.__kwdefaults__
            monkeypatch.setitem(defaults, stage, SHORT)

    return hurry


def test_c12_the_numbers():
    """As docs/reference/conformance.md has them."""
    limits = AcceptLimits()
    assert (limits.first_byte, limits.tls_handshake) == (5, 10)
    assert (front.HEAD_TIMEOUT, front.LOGIN_TIMEOUT) == (5, 10)
    assert front.TOTAL_TIMEOUT == 20


async def took(peer) -> float:
    """Measure how long a connection lasts that says nothing more."""
    loop = asyncio.get_running_loop()
    started = loop.time()
    await peer.rest()
    return loop.time() - started


def soon(seconds: float) -> bool:
    """Whether it was about the shortened time: ticks are a quarter of a second."""
    return SHORT / 2 < seconds < SHORT + 3


async def test_c12_silent_after_tcp(start, hurry):
    """Not one byte comes."""
    hurry("first_byte")
    _, place = await start()
    assert soon(await took(await place.dial_plain(place.derp_port)))


@pytest.mark.parametrize("said", [b"\x16", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc"])
async def test_c12_silent_within_tls(start, hurry, said):
    """The handshake begins and does not go on."""
    hurry("tls_handshake")
    _, place = await start()
    peer = await place.dial_plain(place.derp_port)
    await peer.say(said)
    assert soon(await took(peer))


@pytest.mark.parametrize("said", [b"", b"GET /derp HTTP/1.1\r\nHost"])
async def test_c12_silent_after_tls(start, hurry, said):
    """No request comes, or half of one."""
    hurry("HEAD_TIMEOUT")
    node, place = await start()
    peer = await place.dial()
    await peer.say(said)
    assert soon(await took(peer))
    assert node.front.timeouts["http"] == 1


async def test_c12_dripping(start, hurry):
    """A byte now and then gains no time."""
    hurry("HEAD_TIMEOUT")
    _, place = await start()
    peer = await place.dial()
    ended = asyncio.get_running_loop().create_task(took(peer))
    while not ended.done():
        await peer.say(b"G")
        await asyncio.wait([ended], timeout=SHORT / 10)
    assert soon(await ended)


async def test_c12_silent_after_an_answer(start, hurry):
    """The next request has its time too, and its head no more than the first."""
    hurry("IDLE_TIMEOUT")
    _, place = await start()
    peer = await place.dial()
    await peer.say(http("GET", "/derp/probe"))
    await read_answer(peer)
    assert soon(await took(peer))


async def test_c12_half_a_second_request(start, hurry):
    """Its head has the time of a head, not the time of an idle connection."""
    hurry("HEAD_TIMEOUT")
    _, place = await start()
    peer = await place.dial()
    await peer.say(http("GET", "/derp/probe"))
    await read_answer(peer)
    await peer.say(b"GET /")
    assert soon(await took(peer))


@pytest.mark.parametrize("request_", [UPGRADE, FAST_START], ids=["101", "fast"])
@pytest.mark.parametrize("said", [b"", b"\x02\x00\x00\x01\x00half of it"])
async def test_c12_silent_after_the_upgrade(start, hurry, request_, said):
    """No ClientInfo comes, or half of one: 10 s as in derper."""
    hurry("LOGIN_TIMEOUT")
    node, place = await start()
    peer = await place.upgraded(request_)
    await peer.say(said)
    assert soon(await took(peer))
    assert node.front.timeouts["derp"] == 1


async def test_c12_everything_together(start, hurry):
    """Each stage in time, and all of them too slow."""
    hurry("TOTAL_TIMEOUT")
    _, place = await start()
    assert soon(await took(await place.upgraded()))


async def test_c12_a_client_has_all_the_time(start, hurry):
    """Once it is logged in, no deadline is left. Source: protocol.md 8.13."""
    hurry("LOGIN_TIMEOUT")
    hurry("TOTAL_TIMEOUT")
    _, place = await start()
    client = await place.login()
    await asyncio.sleep(SHORT * 2)
    assert await client.sync() == []
