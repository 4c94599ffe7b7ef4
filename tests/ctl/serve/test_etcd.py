"""`derpctl map serve` of a region in a real etcd, which goes away and comes back."""

import json

import pytest

from tests.ctl.regions import admins
from tests.ctl.serve.serving import Servers
from tests.mesh.etcds import require
from tests.mesh.region import cluster
from tests.support import etcd


pytestmark = pytest.mark.interop

LETTERS = "ab"


@pytest.fixture
def registry(tmp_path):
    """An etcd that may be killed, and started again with what it had."""
    require("debian")
    found = etcd.cluster(tmp_path / "etcd", 1)
    found.start()
    yield found
    found.kill()


@pytest.fixture
def nodes(beside, registry):
    """Two nodes that recorded themselves there."""
    found = beside.start(cluster())

    async def begin():
        for letter in LETTERS:
            place = found.place(letter)
            place.configure(registry={"etcd": {"endpoints": registry.urls, "ttl": 5}})
            await found.start(place)
        await found.linked(*(found.nodes[letter] for letter in LETTERS))

    beside.run(begin())
    return found


def name(body):
    """What the served region is called, and how many nodes it has."""
    region = json.loads(body)["Regions"]["900"]
    return region["RegionName"], len(region["Nodes"])


def test_the_registry_comes_and_goes(derpctl, beside, configured, registry, nodes):
    """A change is served at once; without etcd and without nodes the last one stays."""
    extra = {"registry": {"etcd": {"endpoints": registry.urls}}}
    places = [nodes.nodes[letter] for letter in LETTERS]
    config = configured(**admins(places), extra=extra)
    with Servers() as servers:
        server = servers.start(config)
        assert server.line().endswith(", from etcd")
        before = server.ask("/derpmap/default")[2]
        derpctl("--config", config, "region", "set", "--name", "Other")
        assert server.line().endswith(", from etcd")
        after = server.ask("/derpmap/default")[2]
        assert (name(before)[1], name(after)) == (2, ("Other", 2))

        registry.kill()
        assert "the registry is away" in server.line()
        assert server.ask("/derpmap/default")[2] == after
        for place in places:
            beside.run(place.stop())
        assert server.line().endswith("; the last good map is served")
        assert server.ask("/derpmap/default")[2] == after

        registry.start()
        while server.line() != "the region can be read again":
            assert server.ask("/derpmap/default")[2] == after
        assert server.end() == 0
