"""`/v1/presence`: what watchers were told, and what links have announced."""

import json

import pytest

from derpnode.relay.relay import Relay
from derpnode.server.presencepage import Presences
from derpnode.server.region import Alone
from derpnode.wire.keys import MeshKey, NodeKey, PrivateKey, node_key_text
from tests.node.relay.recorder import Recorder
from tests.node.server.adminnode import admin_client, logged_in, node_config, running


ALICE, BOB, PEER = (PrivateKey(bytes(31) + bytes([n])) for n in (1, 2, 3))
MESH_KEY = MeshKey(b"\x5a" * 32)


class Linked(Alone):
    """A region with one link."""

    def announced(self):
        """See the port."""
        return {"900b": frozenset({BOB.public})}


@pytest.fixture
async def node(tmp_path):
    """A node that knows a mesh key."""
    file = tmp_path / "mesh.key"
    file.write_text(MESH_KEY.text())
    file.chmod(0o600)
    async with running(node_config(tmp_path, mesh={"key_file": file})) as found:
        yield found


async def test_who_is_where(node):
    """Clients, those with the mesh right apart, and whom each link knows."""
    node.region = Linked()
    mesh = {"mesh_key": MESH_KEY.secret}
    async with (
        logged_in(node, ALICE),
        logged_in(node, ALICE),
        logged_in(node, PEER, **mesh),
        admin_client(node) as http,
        http.get("/v1/presence") as answer,
    ):
        found = await answer.json()
    assert found == {
        "name": node.config.node.name,
        "server_key": node_key_text(node.server_key),
        "local": [node_key_text(ALICE.public)],
        "mesh": [node_key_text(PEER.public)],
        "links": {"900b": [node_key_text(BOB.public)]},
    }


def test_routes_of_a_link():
    """They are what its peer announced and did not withdraw."""
    relay = Relay(Recorder(), PEER.public)
    for key in (ALICE.public, BOB.public):
        relay.announced(key, 7, 0.0, in_flood=False)
    relay.withdrawn(ALICE.public, 7)
    assert relay.announced_by(7) == {BOB.public}
    assert relay.announced_by(8) == frozenset()


def test_json_of_many():
    """It is JSON, however many there are."""
    keys = frozenset(NodeKey(number.to_bytes(32)) for number in range(1000))
    found = Presences("900a", PEER.public, keys, frozenset(), {"900b": keys})
    read = json.loads(found.json())
    assert len(set(read["local"])) == len(set(read["links"]["900b"])) == 1000
