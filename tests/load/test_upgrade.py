"""A region of two versions: M11."""

import json
import time
from collections.abc import Mapping

import pytest

from derpmesh.membership.keys import Keys
from derpnode import __version__
from tests.load.fleet import CURRENT, PATIENCE, REGION, Fleet, roaming
from tests.load.newer import VERSION, WEIGHT, ZONE
from tests.load.node import becomes
from tests.load.renewal import Renewal, assert_cheap, figures, renew
from tests.load.scale import LIMIT, sized
from tests.support.etcd import stored


pytestmark = [pytest.mark.load, pytest.mark.slow, pytest.mark.timeout(LIMIT)]

NAMES = ("900a", "900b", "900c")
NEWER = "tests.load.newer"
CLIENTS = sized(2_000, 500)

STAY = sized(150.0, 0.0)
"""Seconds that each mixture stays; there are six, so a quarter of an hour in all."""


def test_versions_live_side_by_side(generator, start_fleet, say):
    """One after the other goes to the next version, and back, and nobody is cut off.

    The last node was once tried with the next version, which wrote what is wanted of
    it; this version writes that again with each drain.
    """
    with start_fleet(3) as region:
        region.start(NAMES[-1], module=NEWER)
        assert becomes(lambda: wanted(region, NAMES[-1]), PATIENCE)
        region.stop(NAMES[-1])
        region.start(*NAMES)
        region.await_mesh()
        with roaming(generator, region.nodes, CLIENTS) as run:
            upgrades = [replace(region, name, NEWER, VERSION) for name in NAMES]
            returns = [replace(region, name, CURRENT, __version__) for name in NAMES]
            report = run.finish()
        done = [*upgrades, *returns]
        say(figures(report, done, "upgrade to the next version, and back"))
        assert_cheap(report, done)
        intent = wanted(region, NAMES[-1])
        assert intent["weight"] == WEIGHT
        assert intent["node"]["zone"] == ZONE
        assert "drain" not in intent
        assert intent["author"] != NAMES[-1]
        check = ("region", "check")
        assert becomes(lambda: region.run(*check).returncode == 0, PATIENCE)


def replace(region: Fleet, name: str, module: str, version: str) -> Renewal:
    """Have a node go on as another version; see that all others live with that."""
    before = lost(region)
    done = renew(region, name, module)
    assert becomes(lambda: versions(region)[name] == {version}, PATIENCE)
    assert becomes(lambda: is_heard(region), PATIENCE)
    end = time.monotonic() + STAY
    probe(region)
    while time.monotonic() < end:
        probe(region)
    # A process that is new has lost no link; the others lost theirs to it, once.
    after = lost(region)
    expected = {one: [*links, name] for one, links in before.items() if one != name}
    assert after == expected | {name: before[name]}
    return done


def probe(region: Fleet) -> None:
    """Send packets from every node to every one; all must arrive."""
    found = json.loads(
        region.ctl("probe", "mesh", "--threshold-rtt", "5", "-o", "json")
    )
    outcomes = [cell["outcome"] for cell in found["items"]]
    assert outcomes == ["ok"] * len(NAMES) ** 2


def versions(region: Fleet) -> dict[str, set[object]]:
    """What all others say of the version of each node."""
    found: dict[str, set[object]] = {name: set() for name in region.names}
    for node in region.nodes:
        for peer, link in node.links().items():
            found[peer].add(link["peer_version"])
    return found


def is_heard(region: Fleet) -> bool:
    """Whether all hear what the next version says, and this one does not know.

    Each gets its frame from every node that has it: as its peer, and counts that, and
    as its watcher.
    """
    newer = {name for name, said in versions(region).items() if said == {VERSION}}
    for node in region.nodes:
        live = node.ask("/v1/membership")["live"]
        assert isinstance(live, dict)
        zones = {name for name, record in live.items() if record.get("zone") == ZONE}
        frames = node.metric("derp_unknown_frames")
        if set(live) != set(NAMES) or zones != newer:
            return False
        if frames < len(newer - {node.name}):
            return False
    return True


def lost(region: Fleet) -> dict[str, list[str]]:
    """Give the peers to which each node has lost a link that was up, in order."""
    return {
        node.name: [
            said.split()[1].removesuffix(":")
            for line in node.log()
            if (said := str(message(line))).startswith("link ") and ": lost: " in said
        ]
        for node in region.nodes
    }


def message(line: str) -> object:
    """Take the message of a line of a log."""
    return json.loads(line)["message"]


def wanted(region: Fleet, name: str) -> Mapping[str, object]:
    """Read what is wanted of a node, as it is stored; nothing, if nothing is."""
    found = stored(region.etcd.url, Keys("/derpmesh/v1", REGION).of("intent", name))
    intent: Mapping[str, object] = json.loads(found.value) if found is not None else {}
    return intent
