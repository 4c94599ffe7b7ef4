"""Real tailscaled pairs whose every packet goes through a relay."""

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.interop.conftest import SERVERS, Check, Regions
from tests.interop.region import Region, Server, demo
from tests.interop.relays import meshed
from tests.interop.tailnet import control_server, tailnet, tailscaled
from tests.interop.transfer import Pair, compete


pytestmark = [pytest.mark.interop, pytest.mark.timeout(150)]

# Of derper's throughput in the same run, at least.
RATIO = 0.8


@pytest.mark.slow
def test_throughput(
    regions: Regions, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    """20 MB to and fro, in rounds that alternate between our relay and derper."""
    with contextlib.ExitStack() as stack:
        pairs = []
        for server in SERVERS:
            region = regions.single(server, "pinned")
            members = stack.enter_context(tailnet(tmp_path / server, region))
            assert members[0].ping(members[1]).startswith("DERP(")
            pairs.append(Pair(region, *members))
        figures = compete(pairs, RATIO)
    with capsys.disabled():  # worth seeing even when all is well
        print(f"\none relay: {figures}")  # noqa: T201
    ours, derper = (pair.rate for pair in pairs)
    assert ours >= RATIO * derper


@contextlib.contextmanager
def admitting(server: Server, folder: Path, socket_file: Path) -> Iterator[Region]:
    """Run a relay that asks the tailscaled at a socket who is a member."""
    if server == "ours":
        settings = [
            "admission.mode=any",
            f"admission.tailscaled=[{json.dumps(str(socket_file))}]",
        ]
        with demo(folder, "pinned", settings) as region:
            yield region
    else:
        with meshed([server], folder, "pinned", verify=socket_file) as found:
            yield found.region


@pytest.mark.parametrize("server", SERVERS)
def test_admission(server: Server, built: None, check: Check, tmp_path: Path):
    """A relay asks a real tailscaled who is a member: a stranger is refused.

    The tailscaled reaches others through the very relay that asks it, so it starts
    second; until then nobody is admitted.
    """
    voucher_folder = tmp_path / "voucher"
    with admitting(server, tmp_path / "relay", voucher_folder / "sock") as region:
        verdict = check(region, "1.104", "refused")
        assert verdict["ok"], f"nobody can vouch yet: {verdict['detail']}"
        with (
            control_server(tmp_path, region) as control,
            tailscaled(voucher_folder, control) as voucher,
            tailscaled(tmp_path / "member", control) as member,
        ):
            voucher.log_in()
            member.log_in()
            assert member.ping(voucher).startswith("DERP(")
            verdict = check(region, "1.104", "refused")
            assert verdict["ok"], verdict["detail"]
