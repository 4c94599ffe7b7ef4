"""B1 to B13 of the threat list, as far as they come through the front door.

A pair of bystanders exchanges packets all the while, and must not lose one. Frames of
wrong sizes are C23 to C27; what the plane does with them is in its own suite.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator

import pytest
from nacl.secret import SecretBox
from wsproto.connection import Connection, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Ping, TextMessage

from derpnode.wire.errors import BadHandshake
from derpnode.wire.frames import FrameType, encode_frame
from derpnode.wire.handshake import (
    ClientInfo,
    client_info_frame,
    open_client_info,
)
from derpnode.wire.payloads import (
    WATCH_CONNS,
    close_peer,
    forward_packet,
    ping,
    send_packet,
)
from tests.conformance.scene import (
    FAST_START,
    PATIENCE,
    Client,
    Place,
    http,
    new_key,
    parse_answer,
    untraced,
)
from tests.conformance.test_websocket import login as websocket_login
from tests.conformance.test_websocket import opened


pytestmark = pytest.mark.parametrize("server", ["ours"])

USUAL = b'{"version":2,"CanAckPings":true}'


async def exchange(one: Client, other: Client, stop: asyncio.Event) -> None:
    """Send numbered packets to and fro until it is enough; each must arrive."""
    number = 0
    last = False
    while not last:
        last = stop.is_set()
        number += 1
        for sender, receiver in ((one, other), (other, one)):
            data = number.to_bytes(4) * 50
            await sender.send(receiver, data)
            assert await receiver.frame() == (
                FrameType.RECV_PACKET,
                sender.key + data,
            )


@pytest.fixture(autouse=True)
async def bystanders(place: Place) -> AsyncIterator[None]:
    """A pair that has nothing to do with it all."""
    pair = await place.login(), await place.login()
    stop = asyncio.Event()
    exchanging = asyncio.get_running_loop().create_task(exchange(*pair, stop))
    yield
    stop.set()
    await exchanging


# B5: the fast start in pieces, and much behind it.


async def test_b05_16_kib_of_frames_behind_the_login(place: Place):
    """In one segment with the request, and all are acted on."""
    private = new_key()
    frames = b"".join(send_packet(private.public, bytes(963)) for _ in range(16))
    peer = await place.dial()
    await peer.say(FAST_START, place.client_info(private, USUAL), frames)
    client = Client(peer, private)
    for _ in range(16):
        assert await client.packet() == (private.public, bytes(963))


@pytest.mark.parametrize("at", range(1, len(FAST_START), 17))
async def test_b05_a_request_in_two_pieces(place: Place, at: int):
    """Wherever the head is cut."""
    peer = await place.dial()
    await peer.say(FAST_START[:at])
    await asyncio.sleep(0.001)  # two TLS records in any case
    await peer.say(FAST_START[at:], place.client_info(new_key(), USUAL))
    await peer.until(FrameType.SERVER_INFO)


# B6: ClientInfo.


def damaged(frame: bytes) -> dict[str, bytes]:
    """Break a ClientInfo frame in every part of it."""
    payload = frame[5:]
    kind = FrameType.CLIENT_INFO
    return {
        "another key": encode_frame(kind, new_key().public + payload[32:]),
        "another nonce": encode_frame(kind, payload[:32] + bytes(24) + payload[56:]),
        "a bit of the tag": encode_frame(
            kind, payload[:56] + bytes([payload[56] ^ 1]) + payload[57:]
        ),
        "a bit of the text": encode_frame(
            kind, payload[:-1] + bytes([payload[-1] ^ 0x80])
        ),
        "a byte less": encode_frame(kind, payload[:-1]),
        "a byte more": encode_frame(kind, payload + b"\0"),
        "only the tag": encode_frame(kind, payload[:72]),
        "half a tag": encode_frame(kind, payload[:64]),
    }


@pytest.mark.parametrize("damage", sorted(damaged(bytes(120))))
async def test_b06_damaged_logins(place: Place, damage: str):
    """Each is refused without a word."""
    peer = await place.upgraded(FAST_START)
    await peer.say(damaged(place.client_info(new_key(), USUAL))[damage])
    assert await peer.rest() == b""


async def test_b06_sealed_for_another_node(place: Place):
    """It proves nothing here."""
    frame = client_info_frame(ClientInfo(), new_key(), new_key().public, bytes(24))
    peer = await place.upgraded(FAST_START)
    await peer.say(frame)
    assert await peer.rest() == b""


DEEP = b'{"x":' + b"[" * 10_000 + b"]" * 10_000 + b"}"


@pytest.mark.parametrize(
    ("info", "taken"),
    [
        pytest.param(DEEP, False, id="10,000 deep"),
        pytest.param(b'{"x":' + b"[" * 200_000, False, id="200,000 open"),
        pytest.param(b'{"x":' + b"9" * 200_000 + b"}", True, id="huge integer"),
        pytest.param(b'{"version":' + b"9" * 5000 + b"}", False, id="huge version"),
        pytest.param(b'{"x":1e' + b"9" * 5000 + b"}", True, id="huge exponent"),
        pytest.param(b'{"version":1,"version":2}', True, id="twice"),
        pytest.param(b'{"x":"\xff\xfe\xc0\x80"}', True, id="no UTF-8"),
        pytest.param(b"\xff{}", False, id="no UTF-8 before it"),
        pytest.param(b"\xef\xbb\xbf{}", False, id="byte order mark"),
        pytest.param(b'{"version":2}', True, id="no CanAckPings"),
        pytest.param(b'{"version":2}\0', False, id="a NUL behind"),
        pytest.param(b'{"":{"":{"":""}}}', True, id="empty names"),
        pytest.param(b"{" + b'"x":1,' * 40_000 + b'"x":1}', True, id="many members"),
    ],
)
async def test_b06_unusual_json(place: Place, info: bytes, taken: bool):
    """Taken or refused as Go does; but for the depth, which is ours."""
    assert await place.accepts(info) == taken


def test_b06_no_login_is_dear():
    """The worst costs less than 20 ms, told in usual logins of 50 us."""
    server = new_key()

    def cost(info: bytes) -> float:
        private = new_key()
        payload = private.public + private.seal(server.public, info, bytes(24))
        costs = []
        for _ in range(5):
            started = time.thread_time()
            with contextlib.suppress(BadHandshake):
                open_client_info(payload, server)
            costs.append(time.thread_time() - started)
        return min(costs)

    with untraced():
        worst = max(cost(info) for info in (DEEP, b'{"x":[' + b"[]," * 80_000 + b"1]}"))
        usual = cost(USUAL)
    assert worst < usual * 400


# B7: frames of the mesh.


async def test_b07_privileged_frames_do_nothing(place: Place):
    """From an ordinary client: it is closed, and that is all."""
    victim = await place.login()
    for frame in (
        WATCH_CONNS,
        close_peer(victim.key),
        forward_packet(new_key().public, victim.key, b"not from me"),
    ):
        client = await place.login()
        await client.say(frame)
        assert await client.rest() == b""
    assert await victim.sync() == []


# B9: HTTP that could mean two things.


def post(*lines: bytes, body: bytes = b"") -> bytes:
    """Write a POST request."""
    return b"\r\n".join([b"POST / HTTP/1.1", b"Host: x", *lines, b"", body])


def get(line: bytes, *lines: bytes) -> bytes:
    """Write a request by its first line."""
    return b"\r\n".join([line, b"Host: x", *lines, b"", b""])


GET = b"GET / HTTP/1.1"
SMUGGLED = {
    "two hosts": get(GET, b"Host: y"),
    "the same host twice": get(GET, b"Host: x"),
    "no host": b"GET / HTTP/1.1\r\n\r\n",
    "both lengths": post(
        b"Content-Length: 4", b"Transfer-Encoding: chunked", body=b"0\r\n\r\n"
    ),
    "chunked": post(b"Transfer-Encoding: chunked"),
    "an odd coding": post(b"Transfer-Encoding: xchunked"),
    "a hidden coding": post(b"Transfer-Encoding:\tchunked"),
    "a body": post(b"Content-Length: 5", body=b"hello"),
    "two lengths": post(b"Content-Length: 0", b"Content-Length: 5", body=b"hello"),
    "a signed length": post(b"Content-Length: +5", body=b"hello"),
    "a negative length": post(b"Content-Length: -1"),
    "a list of lengths": post(b"Content-Length: 0, 5"),
    "a huge length": post(b"Content-Length: 99999999999999999999"),
    "a folded line": get(GET, b"X: a", b" b"),
    "a folded first line": b"GET / HTTP/1.1\r\n X: a\r\nHost: x\r\n\r\n",
    "bare LF": b"GET / HTTP/1.1\nHost: x\n\n",
    "bare LF at the end": b"GET / HTTP/1.1\r\nHost: x\r\n\n",
    "bare LF in a line": get(GET, b"X: a\nY: b"),
    "bare CR": b"GET / HTTP/1.1\rHost: x\r\n\r\n",
    "bare CR in a line": get(GET, b"X: a\rb"),
    "NUL in a value": get(GET, b"X: a\0b"),
    "NUL in a name": get(GET, b"X\0: a"),
    "NUL in the target": get(b"GET /\0 HTTP/1.1"),
    "another control byte": get(GET, b"X: \x1b[31m"),
    "DEL": get(GET, b"X: \x7f"),
    "a space before the colon": b"GET / HTTP/1.1\r\nHost : x\r\n\r\n",
    "no colon": get(GET, b"nothing"),
    "no name": get(GET, b": x"),
    "a name with a space": get(GET, b"X Y: z"),
    "absolute form": get(b"GET http://x/derp HTTP/1.1"),
    "asterisk form": get(b"OPTIONS * HTTP/1.1"),
    "no slash": get(b"GET derp HTTP/1.1"),
    "no target": get(b"GET  HTTP/1.1"),
    "two spaces": get(b"GET  / HTTP/1.1"),
    "a tab": get(b"GET\t/ HTTP/1.1"),
    "a space in the target": get(b"GET /a b HTTP/1.1"),
    "more than ASCII in the target": get(b"GET /\xc3\xa9 HTTP/1.1"),
    "no version": b"GET /\r\n\r\n",
    "HTTP/0.9": get(b"GET / HTTP/0.9"),
    "HTTP/1.2": get(b"GET / HTTP/1.2"),
    "HTTP/2.0": get(b"GET / HTTP/2.0"),
    "the preface of HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "lower-case http": get(b"GET / http/1.1"),
    "a lower-case method": get(b"get / HTTP/1.1"),
    "a long method": get(b"A" * 17 + b" / HTTP/1.1"),
    "an odd method": get(b"M-SEARCH / HTTP/1.1"),
    "an empty line first": b"\r\n" + get(GET),
    "a space first": b" " + get(GET),
    "65 headers": get(GET, *(b"X%d: 1" % number for number in range(65))),
    "a header of 9 KiB": get(GET, b"X: " + b"x" * 9000),
    "a target of 3 KiB": get(b"GET /" + b"x" * 3000 + b" HTTP/1.1"),
    "9 KiB and no end": b"GET / HTTP/1.1\r\nX: " + b"x" * 9000,
    "a TLS record": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(100),
    "SSH": b"SSH-2.0-OpenSSH_9.9\r\n",
    "a frame": encode_frame(FrameType.PING, bytes(8)),
}


@pytest.mark.parametrize("port", ["derp", "http"])
@pytest.mark.parametrize("said", SMUGGLED.values(), ids=SMUGGLED)
async def test_b09_requests_that_are_refused(place: Place, said: bytes, port: str):
    """By a status of 4xx or 501, once, and the connection ends."""
    peer = await (place.dial() if port == "derp" else place.dial_plain(place.http_port))
    await peer.say(said)
    answer = await peer.rest()
    status, headers = parse_answer(answer.partition(b"\r\n\r\n")[0] + b"\r\n\r\n")
    assert status in {400, 414, 431, 501}
    assert headers["connection"] == "close"
    assert answer.count(b"\r\n\r\n") == 1


async def test_b09_what_follows_a_refusal_is_not_read(place: Place):
    """Nothing smuggled behind it is answered."""
    peer = await place.dial()
    await peer.say(b"get / HTTP/1.1\r\n\r\n", http("GET", "/generate_204"))
    assert b"204" not in await peer.rest()


# B11: keys that are none.

# What a box comes to with any point of low order: the shared secret is zero.
# HSalsa20 of zeros under a key of zeros; NaCl, crypto_box_beforenm.
KNOWN = bytes.fromhex(
    "351f86faa3b988468a850122b65b0acece9c4826806aeee63de9c0da2bd7f91e"
)
P = 2**255 - 19
LOW_ORDER = [
    0,
    1,
    P - 1,
    P,
    P + 1,
    0x00B8495F16056286FDB1329CEB8D09DA6AC49FF1FAE35616AEB8413B7C7AEBE0,
    0x57119FD0DD4E22D8868E1C58C45C44045BEF839C55B1D0B1248C50A3BC959C5F,
]


@pytest.mark.parametrize("high", [0, 1 << 255], ids=["", "high bit"])
@pytest.mark.parametrize("point", LOW_ORDER, ids=range(len(LOW_ORDER)))
async def test_b11_points_of_low_order(place: Place, point: int, high: int):
    """Anybody could seal with them, so nobody may log in with them."""
    key = (point | high).to_bytes(32, "little")
    sealed = SecretBox(KNOWN).encrypt(USUAL, bytes(24))
    peer = await place.upgraded(FAST_START)
    await peer.say(encode_frame(FrameType.CLIENT_INFO, key + sealed))
    assert await peer.rest() == b""


async def test_b11_a_key_of_ones(place: Place):
    """It is no key of anybody."""
    sealed = SecretBox(KNOWN).encrypt(USUAL, bytes(24))
    peer = await place.upgraded(FAST_START)
    await peer.say(encode_frame(FrameType.CLIENT_INFO, b"\xff" * 32 + sealed))
    assert await peer.rest() == b""


async def test_b11_the_key_of_the_node(start, server):
    """Only a mesh peer may have it: the node itself, that dialled itself."""
    node, place = await start()
    assert not await place.accepts(ClientInfo(), node.identity)
    assert node.logins.outcomes["key"] == 1
    assert await place.accepts(ClientInfo(place.mesh_key), node.identity)


# B12: replays.


async def test_b12_a_login_counts_once(start, server):
    """The same bytes again are refused and counted; a fresh nonce is let in."""
    node, place = await start()
    private = new_key()
    info = place.client_info(private, USUAL)
    for expected in (True, False):
        peer = await place.upgraded(FAST_START)
        await peer.say(info)
        assert bool(await peer.reader.read(1)) == expected
    assert (node.logins.replays.refused, node.logins.outcomes["replay"]) == (1, 1)
    assert await place.accepts(USUAL, private)


# WebSockets: what used to follow what ends one.


def messages(*events) -> bytes:
    """Write messages of a client."""
    codec = Connection(ConnectionType.CLIENT)
    return b"".join(codec.send(event) for event in events)


ODD_MESSAGES = {
    "text, then a ping": messages(TextMessage("x"), Ping(b"x")),
    "text, then a close": messages(TextMessage("x"), CloseConnection(1000)),
    "text, then frames": messages(TextMessage("x"), BytesMessage(ping(bytes(8)))),
    "two texts": messages(TextMessage("x"), TextMessage("y")),
    "a close with a reason": messages(CloseConnection(4000, "so long")),
    "a close with no code": b"\x88\x80\0\0\0\0",
    "a close with one byte": b"\x88\x81\0\0\0\0\x03",
    "a close with 1005": b"\x88\x82\0\0\0\0\x03\xed",
    "a close with 65535": b"\x88\x82\0\0\0\0\xff\xff",
    "a close and more": messages(CloseConnection(1000)) + b"\x82\x80\0\0\0\0",
    "no mask": b"\x82\x05\x12\0\0\0\0",
    "a reserved bit": b"\xc2\x80\0\0\0\0",
    "a reserved opcode": b"\x83\x80\0\0\0\0",
    "a continuation of nothing": b"\x80\x80\0\0\0\0",
    "a fragmented ping": b"\x09\x80\0\0\0\0",
    "a long ping": b"\x89\xfe\x00\x80\0\0\0\0" + bytes(128),
    "a length of 2^63": b"\x82\xff\x80\0\0\0\0\0\0\0\0\0\0\0",
    "text that is not UTF-8": b"\x81\x81\0\0\0\0\xff",
    "a bad frame, then a ping": messages(BytesMessage(b"\x12\0\0\0\0"), Ping(b"x")),
    "a bad frame, then a close": messages(
        BytesMessage(b"\x12\0\0\0\0"), CloseConnection(1000)
    ),
}


@pytest.mark.parametrize("logged_in", [True, False], ids=["client", "guest"])
@pytest.mark.parametrize("said", ODD_MESSAGES.values(), ids=ODD_MESSAGES)
async def test_odd_messages_end_a_websocket(place: Place, said: bytes, logged_in: bool):
    """And nothing else."""
    socket = await (websocket_login(place) if logged_in else opened(place))
    await socket.peer.say(said)
    await socket.peer.rest()


async def test_a_websocket_that_ended_is_still_told_of_others(place: Place):
    """What the relay has for it comes too late, and harms nobody."""
    socket, client = await websocket_login(place), await place.login()
    await client.send(socket.key, b"hello")
    await socket.until(FrameType.RECV_PACKET)
    await socket.say(TextMessage("the end"))
    client.leave()
    await socket.peer.rest(PATIENCE)


@pytest.mark.parametrize("said", [b"", b"\x82"], ids=["nothing", "half a header"])
async def test_a_websocket_that_never_logs_in(start, monkeypatch, server, said):
    """It has no more time than any other guest."""
    monkeypatch.setattr("derpnode.server.front.LOGIN_TIMEOUT", 0.3)
    node, place = await start()
    socket = await opened(place)
    await socket.peer.say(said)
    await socket.peer.rest()
    assert node.front.timeouts["websocket"] == 1
