"""C50 and C51: who is told its address, and from where."""

import asyncio
import contextlib
import socket
import struct
import zlib
from collections.abc import Iterator

import pytest

from derpnode.wire.stun import binding_request, parse_binding_response
from tests.conformance.scene import LOOPBACK, PATIENCE, Place


COOKIE = bytes.fromhex("2112a442")
TRANSACTION = bytes(range(12))
LAST = b"the last one"
AGAIN = 1.0
"""Seconds after which a question is asked again."""

SOFTWARE = struct.pack("!HH8s", 0x8022, 8, b"tailnode")


def fingerprinted(message: bytes) -> bytes:
    """Append FINGERPRINT. Source: RFC 8489, 14.7."""
    value = zlib.crc32(message) ^ 0x5354554E
    return message + struct.pack("!HHI", 0x8028, 4, value)


def message(*attributes: bytes, kind: int = 1, length: int | None = None) -> bytes:
    """Write a message; FINGERPRINT is not in it."""
    body = b"".join(attributes)
    size = len(body) + 8 if length is None else length
    return struct.pack("!HH4s12s", kind, size, COOKIE, TRANSACTION) + body


def attribute(kind: int, value: bytes) -> bytes:
    """Write an attribute, padded."""
    return struct.pack("!HH", kind, len(value)) + value + bytes(-len(value) % 4)


GOOD = fingerprinted(message(SOFTWARE))
OTHER = attribute(0x8022, b"somebody")
EXTRA = attribute(0x0006, b"user")

ANSWERED = {
    "good": GOOD,
    "wrong header length": fingerprinted(message(SOFTWARE, length=0)),
    "an extra attribute": fingerprinted(message(SOFTWARE, EXTRA)),
    "an extra attribute first": fingerprinted(message(EXTRA, SOFTWARE)),
    "two SOFTWARE, one right": fingerprinted(message(OTHER, SOFTWARE)),
}
DROPPED = {
    "no SOFTWARE": fingerprinted(message()),
    "other SOFTWARE": fingerprinted(message(OTHER)),
    "longer SOFTWARE": fingerprinted(message(attribute(0x8022, b"tailnode1"))),
    "no FINGERPRINT": message(SOFTWARE),
    "bad FINGERPRINT": GOOD[:-1] + bytes([GOOD[-1] ^ 1]),
    "FINGERPRINT not last": fingerprinted(message(SOFTWARE)) + EXTRA,
    "3 bytes more": GOOD + bytes(3),
    "4 bytes more": GOOD + bytes(4),
    "bad cookie": fingerprinted(message(SOFTWARE).replace(COOKIE, b"\x21\x12\xa4\x43")),
    "an indication": fingerprinted(message(SOFTWARE, kind=0x0011)),
    "a response": fingerprinted(message(SOFTWARE, kind=0x0101)),
    "19 bytes": GOOD[:19],
    "the header alone": message(length=0),
    "bare RFC 5389": message(length=0),
    "nothing": b"",
}


@pytest.fixture
def asker() -> Iterator[socket.socket]:
    """A UDP socket."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind((LOOPBACK, 0))
        sock.setblocking(False)
        yield sock


async def answers(place: Place, sock: socket.socket, *asked: bytes) -> list[bytes]:
    """Ask, then ask something that is answered; return all answers but the last.

    Ask again while there is none: a relay that has not proved itself in the last
    second is silent.
    """
    loop = asyncio.get_running_loop()
    address = (LOOPBACK, place.stun_port)
    async with asyncio.timeout(PATIENCE):
        while True:
            for data in (*asked, binding_request(LAST)):
                await loop.sock_sendto(sock, data, address)
            found = []
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(AGAIN):
                    while (answer := await loop.sock_recv(sock, 2048))[8:20] != LAST:
                        found.append(answer)
                    return found


@pytest.mark.parametrize("asked", ANSWERED.values(), ids=ANSWERED)
async def test_c50_requests_that_are_answered(place: Place, asker, asked):
    """By the rules of protocol.md 6."""
    (answer,) = await answers(place, asker, asked)
    transaction, ip, port = parse_binding_response(answer)
    assert (transaction, str(ip), port) == (TRANSACTION, *asker.getsockname())


@pytest.mark.parametrize("asked", DROPPED.values(), ids=DROPPED)
async def test_c50_requests_that_are_dropped(place: Place, asker, asked):
    """In silence."""
    assert await answers(place, asker, asked) == []


async def test_c51_an_ipv4_answer_is_exact(place: Place, asker):
    """32 bytes, family 1, one attribute. Source: protocol.md 6, the vector."""
    (answer,) = await answers(place, asker, GOOD)
    port = asker.getsockname()[1] ^ 0x2112
    head = bytes.fromhex("0101000c2112a442") + TRANSACTION
    address = struct.pack("!HHBBH", 0x0020, 8, 0, 1, port) + bytes.fromhex("5e12a443")
    assert answer == head + address


async def test_c51_the_answer_comes_from_where_was_asked(start):
    """Also of a socket that is bound to every address, and to an IPv4 client."""
    _, place = await start("stun.listen=[':0']")
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setblocking(False)
        for host in ("127.0.0.1", "127.0.0.2"):
            await loop.sock_sendto(sock, GOOD, (host, place.stun_port))
            async with asyncio.timeout(PATIENCE):
                answer, peer = await loop.sock_recvfrom(sock, 2048)
            assert (peer[0], len(answer)) == (host, 32)


async def test_c51_an_ipv6_answer(start):
    """44 bytes, family 2."""
    _, place = await start("stun.listen=['[::1]:0']")
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock:
        sock.setblocking(False)
        await loop.sock_sendto(sock, GOOD, ("::1", place.stun_port))
        async with asyncio.timeout(PATIENCE):
            answer = await loop.sock_recv(sock, 2048)
    transaction, ip, _ = parse_binding_response(answer)
    assert (len(answer), transaction, str(ip)) == (44, TRANSACTION, "::1")
