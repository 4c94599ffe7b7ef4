"""How fast two members of a tailnet are, when all of it goes through relays."""

import contextlib
import functools
import hashlib
import secrets
import socket
import statistics
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from tests.interop.region import LOOPBACK, Region
from tests.interop.tailnet import Member


# Bytes of one transfer.
TRANSFER = 20_000_000
ROUNDS = 5
MOST_ROUNDS = 12

# Bytes of it that fit into one packet, at most.
PACKET = 1500


@functools.cache
def _blob() -> bytes:
    """What is transferred: nothing that could be compressed on the way."""
    return secrets.token_bytes(TRANSFER)


@dataclass
class Pair:
    """Two members, and how fast they were.

    Args:
        region: Whose relays are between them.
        one: Fetches first; they take turns.
        other: The other one.
        across: Whether they are at home at different nodes.
    """

    region: Region
    one: Member
    other: Member
    across: bool = False
    rates: list[float] = field(default_factory=list)

    @property
    def rate(self) -> float:
        """Bytes per second, the median of the rounds."""
        return statistics.median(self.rates)

    def transfer(self, port: int) -> None:
        """Fetch the blob from the other member, all of it through the relays."""
        forwarded = self.region.metric("derp_packets_forwarded_in")
        relayed = self.region.metric("derp_bytes_sent")
        digest, count = hashlib.sha256(), 0
        with self.one.connect(self.other, port) as tunnel:
            started = time.monotonic()
            while chunk := tunnel.recv(1 << 18):
                digest.update(chunk)
                count += len(chunk)
            self.rates.append(count / (time.monotonic() - started))
        assert digest.digest() == hashlib.sha256(_blob()).digest()
        assert self.region.metric("derp_bytes_sent") - relayed > TRANSFER
        forwarded = self.region.metric("derp_packets_forwarded_in") - forwarded
        assert (forwarded * PACKET > TRANSFER) == self.across
        self.one, self.other = self.other, self.one


def compete(pairs: Sequence[Pair], ratio: float) -> str:
    """Transfer to and fro, in rounds that alternate, until ours has reached a ratio.

    Ours is the first of two, the other has derper between its members.

    There are more rounds than the least where others keep the machine busy.

    Returns:
        A line that tells of it.
    """
    ours, derper = pairs
    with _serving_blob() as port:
        for done in range(1, MOST_ROUNDS + 1):
            for pair in pairs:
                pair.transfer(port)
            if done >= ROUNDS and ours.rate >= ratio * derper.rate:
                break
    for pair in pairs:
        assert pair.one.direct_path(pair.other) == ""
    return (
        f"{TRANSFER / 1e6:.0f} MB between two tailscaled, {len(ours.rates)} times:"
        f" ours {ours.rate / 1e6:.1f} MB/s, derper {derper.rate / 1e6:.1f} MB/s,"
        f" ratio {ours.rate / derper.rate:.2f}"
    )


@contextlib.contextmanager
def _serving_blob() -> Iterator[int]:
    """Send the blob to whoever connects to this port of loopback."""
    with socket.create_server((LOOPBACK, 0)) as listener:
        thread = threading.Thread(target=_serve_blob, args=(listener,))
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


def _serve_blob(listener: socket.socket) -> None:
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:  # the listener was shut down
            return
        with connection, contextlib.suppress(OSError):
            connection.sendall(_blob())
