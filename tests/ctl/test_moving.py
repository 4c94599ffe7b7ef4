"""A region moves from a file to etcd and back, node by node, and relays meanwhile."""

import asyncio
import os
from pathlib import Path

import pytest

from derpnode.client import Received
from tests.ctl.regions import admins, start
from tests.mesh.region import cluster
from tests.mesh.stewards import running_etcd


pytestmark = [pytest.mark.interop, pytest.mark.timeout(170)]

LETTERS = "abc"


@pytest.fixture
def etcd(tmp_path):
    """An etcd."""
    with running_etcd(tmp_path) as found:
        yield found


@pytest.fixture
def region(beside, configured, etcd):
    """Three nodes in a file, and derpctl's configuration, which names the etcd."""
    found = beside.start(cluster())
    beside.run(start(found, LETTERS))
    extra = {"registry": {"etcd": {"endpoints": [etcd.url]}}}
    return found, configured(**admins(list(found.nodes.values())), extra=extra)


async def relays(region) -> None:
    """See that clients of each pair of nodes reach each other."""
    nodes = [region.nodes[letter] for letter in LETTERS]
    people = {node.name: await region.connect(node) for node in nodes}
    for source in people.values():
        for target in people.values():
            data = os.urandom(8)
            async with asyncio.timeout(10):
                while Received(source.key, data) not in target.messages:
                    await source.send(target, data)
                    await asyncio.sleep(0.02)
    for person in people.values():
        await person.client.stream.close()


def roll(derpctl, beside, found, path, registry, state) -> None:
    """Move each node to another registry: drained, stopped, started, undrained.

    A file does not wish that nodes are drained, so with it they serve at once.
    """

    async def restart(letter: str) -> None:
        node = found.nodes[letter]
        await node.stop()
        again = found.again(node)
        again.configure(registry=registry)
        await again.start(found.spawn, state=state)

    for letter in LETTERS:
        name = f"900{letter}"
        ended = derpctl("--config", path, "node", "drain", name, "--wait")
        assert (ended.code, ended.out) == (0, f"{name}: drained, 0 clients left\n")
        beside.run(restart(letter))
        assert derpctl("--config", path, "node", "undrain", name).code == 0
        beside.run(relays(found))


def test_file_to_etcd_and_back(derpctl, beside, region, etcd, tmp_path):
    """In every state between every pair of nodes relays; the map is the same."""
    found, path = region
    exported = derpctl("--config", path, "map", "export", "-f", "derpmap").out
    derpctl("--config", path, "region", "import", found.file)
    ended = derpctl("--config", path, "region", "import", found.file)
    assert (ended.code, ended.out) == (0, "nothing: all of it is there\n")
    settings = {"etcd": {"endpoints": [etcd.url], "ttl": 5}}
    roll(derpctl, beside, found, path, settings, "drained")
    sources = {node.node.region.membership()["source"] for node in found.nodes.values()}
    assert sources == {"etcd"}
    assert exported == derpctl("--config", path, "map", "export", "-f", "derpmap").out
    text = derpctl("--config", path, "region", "export").out
    file = Path(tmp_path) / "region.yaml"
    file.write_text(text)
    assert text.count("name: 900") == len(LETTERS)
    roll(derpctl, beside, found, path, {"file": str(file)}, "serving")
    sources = {node.node.region.membership()["source"] for node in found.nodes.values()}
    assert sources == {"file"}
    assert exported == derpctl("--config", path, "map", "export", "-f", "derpmap").out


def test_files_that_cannot_be_imported(derpctl, region, tmp_path):
    """Each ends with what is wrong, and nothing is written."""
    _, path = region
    file = tmp_path / "region.yaml"
    ended = derpctl("--config", path, "region", "import", file)
    assert (ended.code, "no such file" in ended.err) == (2, True)
    file.write_text("region: {id: 900}\nnodes: [{name: 900a}]\n")
    ended = derpctl("--config", path, "region", "import", file)
    assert (ended.code, "nodes.0.host" in ended.err) == (7, True)
    file.write_text("region: {id: 901}\nnodes: []\n")
    ended = derpctl("--config", path, "region", "import", file)
    assert (ended.code, "it is of region 901" in ended.err) == (7, True)
    ended = derpctl("--config", path, "region", "export")
    assert (ended.code, ended.out) == (5, "")
