"""Names that a real etcd gives to nodes."""

import asyncio
import itertools
from pathlib import Path

import pytest

from derpmesh.membership.model import Member
from derpmesh.membership.naming import (
    NAME_FILE,
    Naming,
    candidates,
    remembered_name,
)
from derpmesh.membership.operator import Operator
from derpmesh.membership.records import NodeIntent, RegionIntent
from derpnode.errors import ConfigError
from tests.mesh.membership.registries import LOOK, look
from tests.mesh.membership.scene import REGION, A, B
from tests.support.etcd import putting, stored, transaction


pytestmark = pytest.mark.interop


@pytest.fixture
def naming(etcd, keys):
    """Give a function that makes what finds a name for a node."""

    def make(server_key: str) -> Naming:
        return Naming(
            etcd,
            keys,
            REGION.id,
            server_key=server_key,
            entry=lambda name: Member(name=name, host="192.0.2.7"),
            backoff=lambda: itertools.repeat(LOOK),
            sleep=look,
        )

    return make


def folder(tmp_path: Path, name: str) -> Path:
    """Make a state directory."""
    found = tmp_path / name
    found.mkdir()
    return found


def test_candidates():
    """By custom: region id and a letter, and then two."""
    found = list(itertools.islice(candidates(901), 28))
    assert found[:2] == ["901a", "901b"]
    assert found[25:] == ["901z", "901aa", "901ab"]


async def test_first_free_name(naming, etcd, keys, tmp_path):
    """What was taken out is not free: clients may still know it."""
    operator = Operator(etcd, keys, "ann")
    for member in (A, B):
        await operator.put(NodeIntent(node=member, author="ann"))
    await operator.remove(A.name)
    where = folder(tmp_path, "one")
    assert await naming("nodekey:1").find(where) == "901c"
    found = (await operator.nodes())["901c"].intent
    assert (found.author, found.server_key) == ("901c", "nodekey:1")
    assert found.node.host == "192.0.2.7"
    assert (where / NAME_FILE).stat().st_mode & 0o777 == 0o600


async def test_name_is_kept(naming, etcd, tmp_path):
    """It needs no etcd the second time."""
    where = folder(tmp_path, "one")
    assert await naming("nodekey:1").find(where) == "901a"
    await etcd.close()
    assert await naming("nodekey:1").find(where) == "901a"


async def test_name_of_another_region(naming, tmp_path):
    """Regression: a node took it along, and two regions had one name and one pin."""
    where = folder(tmp_path, "one")
    (where / NAME_FILE).write_text("90a\n")
    with pytest.raises(ConfigError) as raised:
        await naming("nodekey:1").find(where)
    assert raised.value.reason == "it says 90a, a name of another region than 901"
    assert str(where / NAME_FILE) in raised.value.hint or raised.value.value


async def test_many_at_once(naming, tmp_path):
    """Each has its own."""
    folders = [folder(tmp_path, f"{number}") for number in range(12)]
    found = await asyncio.gather(
        *(naming(f"nodekey:{where.name}").find(where) for where in folders)
    )
    assert sorted(found) == list(itertools.islice(candidates(901), 12))
    assert [remembered_name(where) for where in folders] == found


async def test_node_that_died_before_it_noted_its_name(naming, tmp_path):
    """It finds the one that it took, by its key."""
    where = folder(tmp_path, "one")
    assert await naming("nodekey:1").find(where) == "901a"
    (where / NAME_FILE).unlink()
    assert await naming("nodekey:1").find(where) == "901a"
    assert await naming("nodekey:2").find(folder(tmp_path, "two")) == "901b"


async def test_region_of_listed_nodes(naming, shared_etcd, keys, tmp_path, caplog):
    """No names are given there, until operators say otherwise."""
    listed = RegionIntent(**REGION.model_dump(), join="listed")
    url = shared_etcd.urls[0]
    transaction(url, putting(keys.region, listed.write()))
    async with asyncio.TaskGroup() as group:
        task = group.create_task(naming("nodekey:1").find(folder(tmp_path, "one")))
        async with asyncio.timeout(5):
            while "listed nodes only" not in caplog.text:  # noqa: ASYNC110 - a log
                await asyncio.sleep(LOOK)
        assert not task.done()
        assert stored(url, keys.of("intent", "901a")) is None
        opened = listed.model_copy(update={"join": "open"})
        transaction(url, putting(keys.region, opened.write()))
    assert task.result() == "901a"
    assert caplog.text.count("listed nodes only") == 1


@pytest.mark.parametrize("content", [b"", b"auto\n", b"\xff", b"No Name", None])
def test_nothing_is_remembered(tmp_path, content):
    """Whatever the file holds that is no name, or if there is none."""
    if content is not None:
        (tmp_path / NAME_FILE).write_bytes(content)
    assert remembered_name(tmp_path) is None
