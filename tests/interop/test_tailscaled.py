"""Real tailscaled pairs whose every packet goes through a relay."""

import contextlib
import functools
import hashlib
import secrets
import socket
import statistics
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.interop.conftest import SERVERS, Check, Regions
from tests.interop.region import LOOPBACK, Region, Server, run_region
from tests.interop.tailnet import Member, control_server, tailnet, tailscaled


pytestmark = [pytest.mark.interop, pytest.mark.timeout(150)]

# Bytes of one transfer.
TRANSFER = 20_000_000
ROUNDS = 5

# Of derper's throughput in the same run, at least.
RATIO = 0.8


@functools.cache
def blob() -> bytes:
    """What is transferred: nothing that could be compressed on the way."""
    return secrets.token_bytes(TRANSFER)


@contextlib.contextmanager
def serving_blob() -> Iterator[int]:
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
            connection.sendall(blob())


@dataclass
class Pair:
    """Two members at one relay, and how fast they were."""

    region: Region
    one: Member
    other: Member
    rates: list[float]

    def transfer(self, port: int) -> None:
        """Fetch the blob from the other member, all of it through the relay."""
        relayed = self.region.metric("derp_bytes_sent")
        digest, count = hashlib.sha256(), 0
        with self.one.connect(self.other, port) as tunnel:
            started = time.monotonic()
            while chunk := tunnel.recv(1 << 18):
                digest.update(chunk)
                count += len(chunk)
            self.rates.append(count / (time.monotonic() - started))
        assert digest.digest() == hashlib.sha256(blob()).digest()
        assert self.region.metric("derp_bytes_sent") - relayed > TRANSFER
        self.one, self.other = self.other, self.one

    @property
    def rate(self) -> float:
        """Bytes per second, the median of the rounds."""
        return statistics.median(self.rates)


@pytest.mark.slow
def test_throughput(
    regions: Regions, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    """20 MB to and fro, in rounds that alternate between our relay and derper."""
    with contextlib.ExitStack() as stack:
        pairs: dict[Server, Pair] = {}
        for server in SERVERS:
            region = regions.get(server, "pinned")
            members = stack.enter_context(tailnet(tmp_path / server, region.map_file))
            pairs[server] = Pair(region, *members, rates=[])
            assert members[0].ping(members[1]).startswith("DERP(")
        port = stack.enter_context(serving_blob())
        for _ in range(ROUNDS):
            for pair in pairs.values():
                pair.transfer(port)
        for pair in pairs.values():
            assert pair.one.direct_path(pair.other) == ""
    ours, derper = (pairs[server].rate for server in SERVERS)
    with capsys.disabled():
        print(  # noqa: T201 - a figure that is worth seeing even when all is well
            f"\n{TRANSFER / 1e6:.0f} MB between two tailscaled: ours {ours / 1e6:.1f}"
            f" MB/s, derper {derper / 1e6:.1f} MB/s, ratio {ours / derper:.2f}"
        )
    assert ours >= RATIO * derper


@pytest.mark.parametrize("server", SERVERS)
def test_admission(server: Server, built: None, check: Check, tmp_path: Path):
    """A relay asks a real tailscaled who is a member: a stranger is refused.

    The tailscaled reaches others through the very relay that asks it, so it starts
    second; until then nobody is admitted.
    """
    voucher_folder = tmp_path / "voucher"
    relay = run_region(server, tmp_path / "relay", "pinned", voucher_folder / "sock")
    with relay as region:
        verdict = check(region, "1.104", "refused")
        assert verdict["ok"], f"nobody can vouch yet: {verdict['detail']}"
        with (
            control_server(tmp_path, region.map_file) as control,
            tailscaled(voucher_folder, control) as voucher,
            tailscaled(tmp_path / "member", control) as member,
        ):
            voucher.log_in()
            member.log_in()
            assert member.ping(voucher).startswith("DERP(")
            verdict = check(region, "1.104", "refused")
            assert verdict["ok"], verdict["detail"]
