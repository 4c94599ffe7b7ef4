"""Real tailscaled pairs whose members are at home at different nodes of a region."""

import contextlib
import json
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.interop.conftest import SERVERS
from tests.interop.front import front
from tests.interop.region import Region, metric
from tests.interop.relays import Relay, eventually, meshed
from tests.interop.tailnet import Member, tailnet
from tests.interop.transfer import Pair, compete


pytestmark = [pytest.mark.interop, pytest.mark.slow, pytest.mark.timeout(150)]

# Of the throughput of two meshed derpers in the same run, at least.
RATIO = 0.8

# Seconds in which a client that is elsewhere now must be reached again.
LIMIT = 2.0


def at_home(relay: Relay) -> float:
    """Count the clients that call a relay their home."""
    return metric(relay.node, "derp_current_home_connections")


def map_of(region: Region, *names: str, port: int | None = None) -> object:
    """Return the region's map with these nodes, in this order.

    Args:
        region: Whose map.
        names: Of the nodes.
        port: Where the first of them is, if not where the region says.
    """
    derp_map = json.loads(region.map_file.read_text())
    known = {node["Name"]: node for node in derp_map["Regions"]["900"]["Nodes"]}
    nodes = [known[name] for name in names]
    derp_map["Regions"]["900"]["Nodes"] = nodes
    if port is not None:
        nodes[0]["DERPPort"] = port
    return derp_map


def settle(relays: Mapping[str, Relay], member: Member, home: str) -> None:
    """Have a member, which knows the others, be at home at one of two nodes."""
    (other,) = relays.keys() - {home}
    member.use_map(map_of(member.control.region, home, other))
    eventually(lambda: at_home(relays[home]) == 1, f"{member.name}: home is {home}")


def test_throughput(built: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """20 MB to and fro across a link of ours, and across one between two derpers."""
    with contextlib.ExitStack() as stack:
        pairs = []
        for server in SERVERS:
            folder = tmp_path / server
            region = meshed([server] * 2, folder, "ca")
            found = stack.enter_context(region)
            net = tailnet(folder / "net", found.region)
            one, other = stack.enter_context(net)
            assert one.ping(other).startswith("DERP(")
            settle(found.relays, other, "900b")
            assert one.ping(other).startswith("DERP(")
            pairs.append(Pair(found.region, one, other, across=True))
        figures = compete(pairs, RATIO)
    with capsys.disabled():  # worth seeing even when all is well
        print(f"\ntwo relays: {figures}")  # noqa: T201
    ours, derper = (pair.rate for pair in pairs)
    assert ours >= RATIO * derper


def reached(one: Member, other: Member) -> float:
    """Return the seconds until a member is reached again."""
    return eventually(lambda: one.hears(other, "200ms") != "", "reached again")


def test_roams(built: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """A client that moved in silence is reached at its new node, and at a third.

    At first the old node still has its connection, and hears nothing on it; then the
    new node crashes.
    """
    with contextlib.ExitStack() as stack:
        found = stack.enter_context(meshed(["ours"] * 3, tmp_path / "region", "pinned"))
        old, new, _ = found.relays.values()
        way = stack.enter_context(front(old.node["derp_port"]))
        net = tailnet(tmp_path / "net", found.region)
        stays, roams = stack.enter_context(net)
        assert stays.ping(roams).startswith("DERP(")
        roams.use_map(map_of(found.region, *found.relays, port=way.port))
        eventually(lambda: len(way.passages) > 0, "the way there is another")
        eventually(lambda: at_home(old) == 2, "both are at home at the first node")
        assert stays.ping(roams).startswith("DERP(")

        began = time.monotonic()
        way.shut()
        for passage in way.passages:
            passage.fall_silent()
        eventually(lambda: at_home(new) == 1, "it is at home at the second node")
        moved = time.monotonic()
        roamed = reached(stays, roams)
        silent = moved + roamed - began
        new.kill()
        killed = reached(stays, roams)
    with capsys.disabled():
        print(  # noqa: T201
            f"\nmoved in silence: reached {roamed:.2f} s after it was at the new node,"
            f" {silent:.2f} s after the silence; node killed: after {killed:.2f} s"
        )
    assert roamed < LIMIT
    assert killed < LIMIT
