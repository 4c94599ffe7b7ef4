"""A region whose nodes are restarted one after the other, under load."""

import pytest

from tests.load.fleet import PATIENCE, roaming
from tests.load.node import Node, becomes
from tests.load.renewal import assert_cheap, figures, renew, state
from tests.load.scale import LIMIT


pytestmark = [pytest.mark.load, pytest.mark.slow, pytest.mark.timeout(LIMIT)]

CLIENTS = 2_000
NAMES = ("900a", "900b", "900c")


def test_nodes_are_restarted_one_by_one(generator, start_fleet, say):
    """Each is drained first: nobody fails to connect, no packet is lost beside that."""
    with start_fleet(3) as region:
        region.start(*NAMES)
        region.await_mesh()
        with roaming(generator, region.nodes, CLIENTS) as run:
            done = [renew(region, name) for name in NAMES]
            report = run.finish()
        say(figures(report, done, "rolling restart"))
        assert_cheap(report, done)


def test_nodes_in_a_file_are_restarted_one_by_one(generator, start_fleet_in_file, say):
    """Told to drain by derpctl, as nobody is asked to edit a file for that."""
    with start_fleet_in_file(3) as region:
        region.start(*NAMES)
        region.await_mesh()
        with roaming(generator, region.nodes, CLIENTS) as run:
            done = [renew(region, name) for name in NAMES]
            report = run.finish()
        say(figures(report, done, "rolling restart, recorded in a file"))
        assert_cheap(report, done)


def test_nodes_are_restarted_while_etcd_is_away(generator, start_fleet, say):
    """From before the first drain to after the last: derpctl tells the nodes itself.

    A node that starts meanwhile meshes by what it last knew. When etcd is back, all are
    recorded again, and nothing that was said meanwhile is left to be done.
    """
    with start_fleet(3) as region:
        region.start(*NAMES)
        region.await_mesh()
        with roaming(generator, region.nodes, CLIENTS) as run:
            region.etcd.kill()
            done = [renew(region, name) for name in NAMES]
            report = run.finish()
        say(figures(report, done, "rolling restart without etcd"))
        assert_cheap(report, done)
        region.etcd.launch({region.etcd.name: region.etcd.peer_url})
        region.etcd.until_ready()
        assert becomes(lambda: all(map(is_content, region.nodes)), PATIENCE)


def is_content(node: Node) -> bool:
    """Whether a node serves, reads the registry, and has nothing to complain of."""
    membership = node.ask("/v1/membership")
    return (
        state(node) == "serving"
        and membership["source"] == "etcd"
        and len(membership["live"]) == len(NAMES)
        and not node.ask("/v1/node")["notes"]
    )
