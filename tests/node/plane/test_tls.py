"""TLS listeners: versions, names, certificates, and those who speak something else."""

import asyncio
import contextlib
import ssl
import warnings

import pytest

from derpnode.plane.contract import (
    Closed,
    CloseReason,
    Flags,
    Frame,
    Opened,
    Refusal,
    RouteKind,
)
from derpnode.wire.frames import FrameType, encode_frame
from derpnode.wire.metacert import parse_meta_certificate
from tests.node.plane import frames
from tests.node.plane.certificates import (
    HOST,
    LEAF,
    META_DER,
    MIDDLE,
    NODE,
    OTHER_LEAF,
    TRUSTING,
    client_context,
    server_tls,
)
from tests.node.plane.peer import turn
from tests.node.plane.rekeying import Rekeying
from tests.node.plane.scene import FIRST, NO_LIMIT, A, B


VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}
BARE_400 = b"HTTP/1.0 400 Bad Request\r\n\r\n"


def unknown_to(scene) -> bool:
    """Tell whether nothing is left of connections that nobody above heard of."""
    counters = scene.counters
    return (
        scene.recorder.events == []
        and counters.connections == 0
        and counters.handshakes == 0
    )


# What is agreed on.


@pytest.mark.parametrize("version", VERSIONS)
async def test_versions(scene, version):
    """Both are spoken, and it is said which."""
    context = client_context(VERSIONS[version])
    peer = await scene.guest(b"hello", tls=True, context=context)
    assert (await scene.opened(peer)).tls_version == version
    assert scene.counters.tls_versions == {version: 1}
    scene.plane.send(peer.id, b"welcome")
    assert await peer.exactly(7) == b"welcome"


async def test_version_1_1(scene):
    """It is refused by an alert."""
    context = client_context()
    context.set_ciphers("ALL:@SECLEVEL=0")
    with warnings.catch_warnings(action="ignore"):
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises(ssl.SSLError, match=r"(?i)version"):
        await scene.dial(tls=True).shake(context)
    assert scene.counters.refused == {Refusal.TLS: 1}
    assert unknown_to(scene)


@pytest.mark.parametrize("version", VERSIONS)
async def test_meta_certificate_is_last(scene, version):
    """Behind the leaf and its issuers, whatever the version."""
    peer = await scene.guest(tls=True, context=client_context(VERSIONS[version]))
    assert peer.chain == [LEAF.der, MIDDLE.der, META_DER]
    assert parse_meta_certificate(peer.chain[-1]) == (NODE, 2)


async def test_chain_of_one(scene):
    """A certificate that signed itself: what is pinned is first."""
    _, address = scene.listen(server_tls(OTHER_LEAF))
    peer = await scene.guest(address=address, tls=True)
    assert peer.chain == [OTHER_LEAF.der, META_DER]


async def test_no_protocol_is_asked_for(scene):
    """Tailscale's clients name none, and get none."""
    peer = await scene.guest(tls=True)
    assert peer.tls.selected_alpn_protocol() is None


async def test_http_1_1_is_asked_for(scene):
    """Whoever asks for it, beside others, gets it."""
    context = client_context()
    context.set_alpn_protocols(["h2", "http/1.1"])
    peer = await scene.guest(tls=True, context=context)
    assert peer.tls.selected_alpn_protocol() == "http/1.1"


async def test_only_others_are_asked_for(scene):
    """Either they are refused, or they go on without: never with one of theirs."""
    context = client_context()
    context.set_alpn_protocols(["h2"])
    peer = scene.dial(tls=True)
    try:
        await peer.shake(context)
    except ssl.SSLError:
        assert scene.counters.refused == {Refusal.TLS: 1}
    else:
        assert peer.tls.selected_alpn_protocol() is None


# Names.


@pytest.mark.parametrize("name", [HOST, "other.example.com", None])
async def test_any_name(scene, name):
    """A node whose certificate is pinned answers to any name, and to none."""
    _, address = scene.listen(server_tls(name=None))
    peer = scene.dial(address)
    await peer.shake(TRUSTING, name)
    await peer.send(FIRST)
    await scene.opened(peer)


async def test_its_own_name(scene):
    """A node with a domain answers to it."""
    _, address = scene.listen(server_tls(name=HOST))
    await scene.dial(address).shake(TRUSTING, HOST)


@pytest.mark.parametrize("name", ["other.example.com", HOST.upper(), f"x.{HOST}", None])
async def test_other_names(scene, name):
    """And to nothing else, not even to silence."""
    _, address = scene.listen(server_tls(name=HOST))
    with pytest.raises(ssl.SSLError):
        await scene.dial(address).shake(TRUSTING, name)
    await scene.until(lambda: scene.counters.refused == {Refusal.TLS: 1})
    assert unknown_to(scene)


# New certificates.


async def test_new_certificate(scene):
    """Handshakes that begin from now on use it; what is open stays open."""
    listener, address = scene.listen(server_tls(LEAF, MIDDLE))
    old = await scene.guest(address=address, tls=True)
    scene.plane.set_tls(listener, server_tls(OTHER_LEAF))
    new = await scene.guest(address=address, tls=True)
    assert old.chain[0] == LEAF.der
    assert new.chain[0] == OTHER_LEAF.der
    for peer in (old, new):
        scene.plane.send(peer.id, b"hello")
        assert await peer.exactly(5) == b"hello"


async def test_new_certificate_during_a_handshake(scene):
    """A handshake ends with the certificate that it began with."""
    listener, address = scene.listen(server_tls(LEAF, MIDDLE))
    peer = scene.dial(address)
    peer.push_raw(peer.flight(TRUSTING))
    await peer.answer()
    scene.plane.set_tls(listener, server_tls(OTHER_LEAF))
    peer.push_raw(peer.flight())
    await peer.send(b"hello")
    await scene.opened(peer)
    assert peer.chain[0] == LEAF.der


async def test_new_name(scene):
    """The name that is answered to may change as well."""
    listener, address = scene.listen(server_tls(name="old.example.com"))
    scene.plane.set_tls(listener, server_tls(name=HOST))
    await scene.dial(address).shake(TRUSTING, HOST)


# In the middle of a handshake.


async def test_hello_byte_by_byte(scene):
    """The slowest network there is."""
    peer = scene.dial(tls=True)
    for byte in peer.flight(TRUSTING):
        await peer.send_raw(bytes([byte]))
        await turn()
    await peer.answer()
    peer.push_raw(peer.flight())
    await peer.send(b"hello")
    await scene.opened(peer)


async def test_data_behind_the_handshake(scene):
    """What comes in one piece with the last flight is not lost."""
    peer = scene.dial(tls=True)
    peer.push_raw(peer.flight(TRUSTING))
    await peer.answer()
    last = peer.flight()
    peer.push_raw(last + peer.seal(b"fast start"))
    await scene.opened(peer)
    await scene.recorder.until(lambda: scene.recorder.stream(peer.id) == b"fast start")


async def test_half_a_hello(scene):
    """Whoever stops in the middle of a handshake is closed in time."""
    _, address = scene.listen(server_tls(), tls_handshake=0.2)
    peer = scene.dial(address)
    peer.push_raw(peer.flight(TRUSTING)[:100])
    assert await peer.rest_raw() == b""
    assert scene.counters.refused == {Refusal.TLS_TIMEOUT: 1}
    assert unknown_to(scene)


async def test_hello_without_an_end(scene):
    """Nor is there more time for who sends a byte now and then."""
    _, address = scene.listen(server_tls(), tls_handshake=0.3)
    peer = scene.dial(address)
    hello = peer.flight(TRUSTING)
    loop = asyncio.get_running_loop()
    began = loop.time()
    ended = scene.spawn(peer.rest_raw())
    for n in range(len(hello)):
        if ended.done():
            break
        await peer.send_raw(hello[n : n + 1])
        await asyncio.sleep(0.05)
    assert ended.done()
    assert 0.25 < loop.time() - began < 2
    assert scene.counters.refused == {Refusal.TLS_TIMEOUT: 1}


async def test_silence(scene):
    """Who says nothing has the limit for the first byte, and no TLS state."""
    _, address = scene.listen(server_tls(), first_byte=0.2)
    assert await scene.dial(address).rest() == b""
    assert scene.counters.refused == {Refusal.NO_FIRST_BYTE: 1}
    assert unknown_to(scene)


@pytest.mark.parametrize("how", ["close", "reset"])
async def test_gone_in_the_middle(scene, how):
    """It is counted, and no event."""
    peer = scene.dial(tls=True)
    peer.push_raw(peer.flight(TRUSTING))
    await peer.answer()
    getattr(peer, how)()
    await scene.until(lambda: scene.counters.refused == {Refusal.TLS: 1})
    assert unknown_to(scene)


async def test_handshakes_go_on_beside_each_other(scene):
    """One that hangs holds up no other."""
    hanging = scene.dial(tls=True)
    hanging.push_raw(hanging.flight(TRUSTING)[:50])
    await scene.guest(tls=True)


# Something else.


@pytest.mark.parametrize(
    "data",
    [b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"\x00", b"\x15\x03\x01", b"\x80", b"\xff"],
    ids=["http", "zero", "alert", "sslv2", "ff"],
)
async def test_no_tls(scene, data):
    """Who speaks in the clear to a TLS port is told so, in the clear."""
    peer = scene.dial(tls=True)
    peer.push_raw(data)
    answer = await peer.rest_raw()
    assert answer.startswith(BARE_400)
    assert answer.count(b"\n") == 3  # one line of body
    assert scene.counters.refused == {Refusal.NOT_TLS: 1}
    assert unknown_to(scene)


@pytest.mark.parametrize(
    "data",
    [
        bytes.fromhex("16 0301 0005 0100000100"),
        bytes.fromhex("16 ffff 0005 0100000100"),
        bytes.fromhex("16 0301 ffff") + bytes(200),
        b"\x16" * 200,
    ],
    ids=["short", "version", "long", "noise"],
)
async def test_bad_tls(scene, data):
    """What begins like a handshake and is none ends it."""
    peer = scene.dial(tls=True)
    peer.push_raw(data)
    await peer.rest_raw()
    await scene.until(lambda: scene.counters.refused == {Refusal.TLS: 1})
    assert unknown_to(scene)


async def test_bad_record(scene):
    """Noise on a connection that is open closes it, as an error of TLS."""
    peer = await scene.client(A, tls=True)
    peer.push_raw(b"\x17\x03\x03\x00\x20" + bytes(32))
    closed = await scene.recorder.next(Closed, peer.id)
    assert closed.reason is CloseReason.TLS
    assert closed.detail


async def test_record_with_a_bit_flipped(scene):
    """The same; nothing of the record is taken."""
    receiver, peer = await scene.client(B), await scene.client(A, tls=True)
    record = bytearray(peer.seal(frames.send(B, b"hello")))
    record[-1] ^= 1
    peer.push_raw(bytes(record))
    closed = await scene.recorder.next(Closed, peer.id)
    assert closed.reason is CloseReason.TLS
    assert await receiver.before_pong() == []


# The end.


async def test_good_end_of_ours(scene):
    """A peer that is closed reads an end that nobody could have forged."""
    peer = await scene.guest(tls=True)
    scene.plane.send(peer.id, b"goodbye")
    scene.plane.close(peer.id, "done")
    assert await peer.exactly(7) == b"goodbye"
    assert await peer.receive() == b""  # raises if TLS was not ended


async def test_good_end_of_theirs(scene):
    """A peer that ends TLS and then the stream is told apart from one that broke."""
    peer = await scene.guest(tls=True)
    peer.push_raw(peer.end_of_tls())
    peer.close()
    closed = await scene.recorder.next(Closed, peer.id)
    assert closed.reason is CloseReason.EOF


async def test_plain_listener_has_no_tls(scene):
    """A hello to a port in the clear is bytes like any others."""
    peer = scene.dial()
    peer.push_raw(peer.flight(TRUSTING))
    event = await scene.recorder.next(Opened)
    assert event.tls_version is None


# New keys.


@pytest.fixture
async def rekeying(scene, tmp_path):
    """A client that may update its keys: it, and what seals for it."""
    context = client_context()
    context.keylog_filename = str(tmp_path / "keys")
    peer = await scene.guest(tls=True, context=context)
    scene.plane.set_route(A, peer.id, RouteKind.CLIENT)
    scene.plane.attach(peer.id, A, len(FIRST), Flags.NONE, NO_LIMIT)
    return peer, Rekeying(peer.tls, tmp_path / "keys", records=1)


async def test_key_update(scene, rekeying):
    """A client may ask for new keys whenever it likes, and gets them."""
    peer, sealing = rekeying
    for n in range(5):
        data = b"key %d" % n
        peer.push_raw(sealing.update() + sealing.data(frames.send(A, data)))
        assert await peer.frame() == frames.received(A, data)


async def test_key_update_alone(scene, rekeying):
    """It is answered at the latest with what is written next."""
    peer, sealing = rekeying
    peer.push_raw(sealing.update())
    peer.push_raw(sealing.data(frames.NOTE_PREFERRED))
    await scene.recorder.next(Frame, peer.id)
    scene.plane.send(peer.id, encode_frame(FrameType.HEALTH, b"hello"))
    assert await peer.frame() == (FrameType.HEALTH, b"hello")


async def test_key_updates_of_who_does_not_read(scene, rekeying):
    """Their answers are in the account of what waits, or nowhere."""
    peer, sealing = rekeying
    await scene.blocked(peer)
    before = scene.counters.queued_bytes
    peer.push_raw(b"".join(sealing.update() for _ in range(100)))
    peer.push_raw(sealing.data(frames.NOTE_PREFERRED))
    await scene.recorder.next(Frame, peer.id)
    assert before <= scene.counters.queued_bytes <= before + 100 * 30
    await scene.unblocked(peer)
    peer.push_raw(sealing.data(frames.ping(b"all read")))
    assert await peer.frame() == frames.pong(b"all read")
    await scene.until(lambda: scene.counters.queued_bytes == 0)


async def test_flood_of_key_updates(scene, rekeying):
    """Whoever asks for ever and reads nothing is cut, and owes nothing."""
    peer, sealing = rekeying
    await scene.blocked(peer)
    before = scene.counters.queued_bytes
    flood = b"".join(sealing.update() for _ in range(4000))
    with contextlib.suppress(ConnectionError):
        await peer.send_raw(flood)
    assert scene.counters.queued_bytes in {0, *range(before, before + 200_000)}
    await scene.recorder.next(Closed, peer.id)
    assert scene.counters.queued_bytes == 0
