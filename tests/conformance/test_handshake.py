"""C1 to C12: from the first byte to a client that is logged in."""

import asyncio
import json

import pytest

from derpnode.wire.frames import HEADER_SIZE, FrameType, encode_frame
from derpnode.wire.handshake import ClientInfo, server_key_frame
from derpnode.wire.payloads import WATCH_CONNS, ping
from tests.conformance.scene import (
    DISCO,
    FAST_START,
    UPGRADE,
    header,
    new_key,
)


USUAL = b'{"version":2,"CanAckPings":true}'
PING = ping(b"12345678")
PONG = (FrameType.PONG, b"12345678")


async def test_c01_the_answer_to_an_upgrade_is_exact(place):
    """The 101 is derper's, byte for byte, and ServerKey follows unasked."""
    peer = await place.dial()
    await peer.say(UPGRADE)
    assert await peer.take(len(place.switching)) == place.switching
    assert await peer.take(45) == server_key_frame(place.server_key)


async def test_c02_a_fast_start_begins_with_the_first_frame(place):
    """No byte of HTTP comes back. Source: protocol.md 2.7."""
    peer = await place.dial()
    await peer.say(FAST_START)
    assert await peer.take(45) == server_key_frame(place.server_key)


@pytest.mark.parametrize("value", [b"true", b"0", b"2", b"11", b""])
async def test_c03_only_a_one_is_a_fast_start(place, value):
    """Any other value gets a 101."""
    peer = await place.dial()
    await peer.say(FAST_START.replace(b"Start: 1", b"Start: " + value))
    assert await peer.take(len(place.switching)) == place.switching


@pytest.mark.parametrize("request_", [UPGRADE, FAST_START], ids=["101", "fast"])
async def test_c04_server_info_is_exact(place, request_):
    """It opens with the client's key, and is version 2 and nothing else."""
    await place.login(request=request_)


@pytest.mark.parametrize("request_", [UPGRADE, FAST_START], ids=["101", "fast"])
async def test_c05_everything_in_one_segment(place, request_):
    """What follows the blank line belongs to DERP, however early it comes."""
    private = new_key()
    peer = await place.dial()
    await peer.say(request_, place.client_info(private, USUAL), PING)
    if request_ == UPGRADE:
        await peer.head()
    assert (await peer.frame())[0] == FrameType.SERVER_KEY
    assert (await peer.frame())[0] == FrameType.SERVER_INFO
    assert await peer.frame() == PONG


async def test_c06_one_byte_at_a_time(place):
    """Where the stream is cut means nothing."""
    peer = await place.dial()
    session = FAST_START + place.client_info(new_key(), USUAL) + PING
    for at in range(len(session)):
        await peer.say(session[at : at + 1])
        await asyncio.sleep(0)
    kinds = [(await peer.frame())[0] for _ in range(3)]
    assert kinds == [FrameType.SERVER_KEY, FrameType.SERVER_INFO, FrameType.PONG]


async def test_c07_server_info_comes_before_anything_else(place):
    """A ping that follows ClientInfo at once is answered after ServerInfo."""
    peer = await place.upgraded()
    await peer.say(place.client_info(new_key(), USUAL), PING)
    assert (await peer.frame())[0] == FrameType.SERVER_INFO
    assert await peer.frame() == PONG


@pytest.mark.parametrize(
    "first",
    [
        pytest.param(PING, id="ping"),
        pytest.param(WATCH_CONNS, id="watch"),
        pytest.param(encode_frame(0x7F, b""), id="unknown"),
        pytest.param(encode_frame(FrameType.CLIENT_INFO, bytes(55)), id="55 bytes"),
        pytest.param(encode_frame(FrameType.CLIENT_INFO, b"\1" * 56), id="no box"),
        pytest.param(encode_frame(FrameType.CLIENT_INFO, b"\1" * 90), id="noise"),
        pytest.param(header(FrameType.CLIENT_INFO, 2**32 - 1), id="4 GiB"),
    ],
)
async def test_c08_a_wrong_first_frame_closes(place, first):
    """Nothing is said about it."""
    peer = await place.upgraded()
    await peer.say(first)
    assert await peer.rest() == b""


def long_info(payload_size: int) -> bytes:
    """Write JSON whose ClientInfo has a payload of so many bytes."""
    size = payload_size - 32 - 24 - 16
    return b"{" + b" " * (size - 2) + b"}"


async def test_c09_the_longest_client_info(place):
    """A payload of 262,144 bytes is taken."""
    assert await place.accepts(long_info(262_144))


@pytest.mark.parametrize("missing", range(1, HEADER_SIZE + 3))
async def test_c09_the_longest_client_info_in_two_pieces(place, missing):
    """The last bytes may come late, whatever was buffered before."""
    private = new_key()
    info = place.client_info(private, long_info(262_144))
    peer = await place.upgraded(FAST_START)
    await peer.say(info[:-missing])
    await asyncio.sleep(0.1)  # so that it arrives in two pieces
    await peer.say(info[-missing:])
    assert (await peer.frame())[0] == FrameType.SERVER_INFO


async def test_c09_one_byte_more_closes(place):
    """The header is enough; its payload is not waited for."""
    peer = await place.upgraded()
    await peer.say(header(FrameType.CLIENT_INFO, 262_145))
    assert await peer.rest() == b""


X32 = "x" * 32


@pytest.mark.parametrize(
    "info",
    [
        b"{}",
        b"null",
        b' {"version":2} ',
        b'{"version":99}',
        b'{"version":-1}',
        b'{"version":null}',
        b'{"something":{"new":[1,2,{"x":null}]},"version":2}',
        b'{"version":1,"version":2}',
        b'{"Version":2,"canackpings":true,"ISPROBER":false}',
        b'{"AppName":null}',
        b'{"AppName":""}',
        b'{"AppName":" ~"}',
        json.dumps({"AppName": X32}).encode(),
        b'{"appname":"x"}',
        b'{"meshKey":"%s"}' % (b"0" * 64),
        b'{"meshKey":"%s"}' % (b"ab" * 32),
        b'{"x":"\xff"}',
    ],
)
async def test_c10_json_that_is_taken(place, info):
    """As in protocol.md 4.3 and changes-1.104.md 2.2."""
    assert await place.accepts(info)


@pytest.mark.parametrize(
    "info",
    [
        b"",
        b"[]",
        b"0",
        b'"x"',
        b"{",
        b"{}x",
        b"{}{}",
        b"{'version':2}",
        b'{"version":2,}',
        b'{"version":"2"}',
        b'{"version":2.5}',
        b'{"version":1e400}',
        b'{"version":NaN}',
        b'{"version":true}',
        b'{"version":99999999999999999999}',
        b'{"version":"2","version":2}',
        b'{"CanAckPings":1}',
        b'{"IsProber":"yes"}',
        b'{"meshKey":""}',
        b'{"meshKey":null}',
        b'{"meshKey":"abcd"}',
        b'{"meshKey":"%s"}' % (b"g" * 64),
        b'{"meshKey":"%s"}' % (b"d1" * 33),
        b'{"meshKey":" %s"}' % (b"d1" * 32),
        b'{"meshKey":7}',
        json.dumps({"AppName": X32 + "x"}).encode(),
        b'{"AppName":"%s"}' % (b"a" * 200_000),
        b'{"AppName":"a\\n"}',
        b'{"AppName":"\\u0000"}',
        b'{"AppName":"\\u007f"}',
        b'{"AppName":"\xc3\xa9"}',
        b'{"AppName":"\xff"}',
        b'{"AppName":"\\ud800"}',
        b'{"AppName":7}',
        b'{"AppName":["x"]}',
        b'{"AppName":{}}',
        b'{"\\u0041ppName":"\\n"}',
    ],
)
async def test_c10_json_that_closes(place, info):
    """After ServerKey, and before ServerInfo: the client is not told why."""
    assert not await place.accepts(info)


async def may_watch(place, info: bytes) -> bool:
    """Whether a client that says this has the mesh right."""
    peer = await place.offered(info)
    assert (await peer.frame())[0] == FrameType.SERVER_INFO
    await peer.say(WATCH_CONNS)
    try:
        return (await peer.frame())[0] == FrameType.PEER_PRESENT
    except (asyncio.IncompleteReadError, ConnectionError):
        return False


@pytest.mark.parametrize("name", [b"meshKey", b"MeshKey", b"MESHKEY"])
@pytest.mark.parametrize("upper", [False, True], ids=["lower", "upper"])
async def test_c10_the_mesh_key_in_any_case(place, name, upper):
    """Go matches names in any case, and reads hex digits of either."""
    digits = place.mesh_key.hex().encode()
    value = digits.upper() if upper else digits
    assert await may_watch(place, b'{"%s":"%s"}' % (name, value))


async def test_c10_a_bad_name_closes_in_spite_of_the_mesh_key(place):
    """Names are checked before anybody's rights."""
    info = ClientInfo(place.mesh_key, app_name="x" * 33)
    assert not await place.accepts(info)


@pytest.mark.parametrize("value", ["0" * 64, "ab" * 32])
async def test_c10_another_mesh_key_gives_no_right(place, value):
    """A key of the right form that is not ours makes an ordinary client."""
    assert not await may_watch(place, json.dumps({"meshKey": value}).encode())


async def test_c10_the_last_of_repeated_names_counts(place):
    """As in Go's decoder."""
    keys = (b"ab" * 32, place.mesh_key.hex().encode())
    assert await may_watch(place, b'{"meshKey":"%s","meshKey":"%s"}' % keys)


async def test_c11_a_zero_key_closes(place):
    """Go panics and drops the connection; so do we, without the panic."""
    peer = await place.upgraded()
    await peer.say(encode_frame(FrameType.CLIENT_INFO, bytes(32) + b"\1" * 80))
    assert await peer.rest() == b""


async def test_c04_a_client_is_reachable_once_it_has_server_info(place):
    """Whoever sends to it right then reaches it. Source: protocol.md 8.9."""
    sender = await place.login()
    for _ in range(20):
        receiver = await place.login()
        await sender.send(receiver, DISCO)
        assert await receiver.packet() == (sender.key, DISCO)
    assert await sender.sync() == []
