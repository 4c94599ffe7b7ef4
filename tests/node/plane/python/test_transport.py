"""TLS over one socket: what passes through OpenSSL's buffers, and its end."""

import os
import socket

import pytest

from derpnode.plane.python.tls import server_context
from derpnode.plane.python.transport import READ_SIZE, PeerClosed, Tls
from tests.node.plane.certificates import TRUSTING, server_tls


RECORD = 16 * 1024
WITH_HEAD_AND_TAG = RECORD + 256  # as much as TLS may add to a record


class Gauge:
    """Stands for one of OpenSSL's buffers, and notes what it was given at a time."""

    def __init__(self, bio) -> None:
        self._bio = bio
        self.most = 0

    @property
    def pending(self):
        self.most = max(self.most, self._bio.pending)
        return self._bio.pending

    def write(self, data):
        self.most = max(self.most, self._bio.pending + len(data))
        return self._bio.write(data)

    def read(self):
        self.most = max(self.most, self._bio.pending)
        return self._bio.read()


@pytest.fixture
def pair():
    """A server and a client that have shaken hands."""
    ours, theirs = socket.socketpair()
    for sock in (ours, theirs):
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
    server = Tls(ours, server_context(server_tls()))
    client = Tls(theirs, TRUSTING, "derp.example.com")
    client.handshake(b"")
    while not server.handshake(server.receive()):
        client.handshake(client.receive())
    yield server, client
    ours.close()
    theirs.close()


def read(transport) -> bytes:
    """Read once, as much as a turn would."""
    view = memoryview(bytearray(2 * READ_SIZE))
    return bytes(view[: transport.read(view)])


def test_buffers_stay_small(pair):
    """Regression: a client that once had a burst kept 200 KiB for as long as it stayed.

    OpenSSL's buffers never shrink, and a whole read or write was put into them.
    """
    server, client = pair
    server._incoming = incoming = Gauge(server._incoming)
    server._outgoing = outgoing = Gauge(server._outgoing)
    burst = os.urandom(READ_SIZE - RECORD)
    client.write(burst)
    assert read(server) == burst
    server.write(burst)
    assert read(client) == burst
    assert incoming.most <= RECORD + WITH_HEAD_AND_TAG
    assert outgoing.most <= WITH_HEAD_AND_TAG


@pytest.mark.parametrize("size", [1, RECORD, RECORD + 1, 5 * RECORD])
def test_what_the_kernel_does_not_take_is_kept(pair, size):
    """All of it, in order, whatever it was made of."""
    server, client = pair
    server.write(b"x" * 100)
    read(client)
    filler = 0
    while not server.unsent:
        server.write(bytes(4 * RECORD))
        filler += 4 * RECORD
    kept = bytes(server.unsent)
    server.unsent = b""
    data = os.urandom(size)
    server.write(data)
    kept += bytes(server.unsent)
    server.unsent = memoryview(kept)
    got = b""
    while len(got) < filler + size:
        got += read(client)
        if server.unsent:
            server.push()
    assert got == bytes(filler) + data


@pytest.mark.parametrize("size", [0, 10, RECORD, 3 * RECORD])
def test_the_end_comes_after_what_was_before_it(pair, size):
    """Though both were in one read."""
    server, client = pair
    if size:
        client.write(bytes(size))
    client.finish()
    if size:
        assert read(server) == bytes(size)
    with pytest.raises(PeerClosed):
        read(server)
