"""A pod that moved tells etcd, a real one, where it is now."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from derpmesh.address.record import follow
from derpmesh.config import DaemonConfig
from derpmesh.membership.model import Drain
from derpmesh.membership.naming import NAME_FILE
from derpmesh.membership.operator import Operator, operating
from derpmesh.membership.source import called, member_of, named
from derpnode.server.identity import load_identity
from derpnode.wire.keys import node_key_text
from tests.mesh.etcds import Etcds


pytestmark = pytest.mark.interop


class Relay:
    """A pod with a volume of its own; each start is at some address."""

    def __init__(self, folder: Path, endpoint: str) -> None:
        self.folder = folder / "state"
        self.said: list[str] = []
        self._etcd = {"endpoints": [endpoint], "prefix": f"/{folder.name}"}
        (folder / "mesh.key").write_text(f"{'0' * 63}1\n")
        self._key = str(folder / "mesh.key")

    def at(self, host: str, **etcd: object) -> DaemonConfig:
        """Give its settings."""
        return DaemonConfig.model_validate(
            {
                "node": {"name": "auto", "host": host},
                "state_dir": str(self.folder),
                "mesh": {"key_file": self._key},
                "registry": {"etcd": {**self._etcd, **etcd}},
            }
        )

    async def starts(self, host: str) -> None:
        """Do what happens before derpd starts, and what derpd does for a name."""
        await follow(self.at(host), self.said.append)
        await named(self.at(host))


@pytest.fixture
def relay(etcds: Etcds, tmp_path: Path) -> Relay:
    """Give one that never ran."""
    return Relay(tmp_path, etcds.plain("debian").urls[0])


@pytest.fixture
async def operator(relay: Relay) -> AsyncIterator[Operator]:
    """Give somebody who looks into etcd."""
    etcd = relay.at("192.0.2.1").registry.etcd
    assert etcd is not None
    async with operating(etcd, 900, "ann") as found:
        yield found


async def test_a_relay_that_moved_is_recorded_where_it_is(
    relay: Relay, operator: Operator
):
    """With the pin that goes with the address. The name stays, and so does a drain."""
    await relay.starts("192.0.2.1")
    assert relay.said == []
    await relay.starts("192.0.2.9")
    assert relay.said == ["900a: recorded as 192.0.2.9 from now on, was 192.0.2.1"]
    (found,) = (await operator.nodes()).values()
    assert found.intent.node == member_of(called(relay.at("192.0.2.9"), "900a"))


async def test_one_that_stayed_writes_nothing(relay: Relay, operator: Operator):
    """The map has a history, which is of changes."""
    await relay.starts("192.0.2.1")
    before = (await operator.nodes())["900a"].revision
    await relay.starts("192.0.2.1")
    assert (await operator.nodes())["900a"].revision == before
    assert relay.said == []


async def test_what_is_wished_of_it_stays(relay: Relay, operator: Operator):
    """A relay that is drained, and moves, is drained elsewhere."""
    await relay.starts("192.0.2.1")
    (found,) = (await operator.nodes()).values()
    other_port = found.intent.node.model_copy(update={"stun_port": 3479})
    wish = found.intent.model_copy(
        update={"drain": Drain(grace=5.0), "node": other_port}
    )
    await operator.put(wish, found)
    await relay.starts("192.0.2.9")
    (found,) = (await operator.nodes()).values()
    assert found.intent.drain is not None
    assert found.intent.node.stun_port == 3479
    assert found.intent.node.host == "192.0.2.9"


@pytest.mark.parametrize(
    "update", [{"removed": True}, {"server_key": "nodekey:" + "1" * 64}]
)
async def test_a_record_that_is_not_its_own_is_left_alone(
    relay: Relay, operator: Operator, update: dict[str, object]
):
    """One that was taken out, and one that another node has by now."""
    await relay.starts("192.0.2.1")
    (found,) = (await operator.nodes()).values()
    await operator.put(found.intent.model_copy(update=update), found)
    await relay.starts("192.0.2.9")
    (found,) = (await operator.nodes()).values()
    assert found.intent.node.host == "192.0.2.1"
    assert relay.said == []


async def test_without_etcd_a_relay_starts_all_the_same(relay: Relay, tmp_path: Path):
    """As it does everywhere; it is said that the record is an old one."""
    relay.folder.mkdir()
    (relay.folder / NAME_FILE).write_text("900a\n")
    away = relay.at("192.0.2.9", endpoints=["http://127.0.0.1:1"])
    await follow(away, relay.said.append)
    (line,) = relay.said
    assert line.startswith("900a: the record of it stays as it is: etcd")
    assert node_key_text(load_identity(relay.folder).public)
