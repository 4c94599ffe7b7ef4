"""Faults of etcd, and of the ways to it, that a region of real nodes goes through.

Each test has the number of its fault in its name, and the fault's limit for its own.
"""

import asyncio
import logging
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from derpmesh.membership import etcd as etcd_module
from derpmesh.membership import status as status_module
from derpmesh.membership.keys import Keys
from derpmesh.membership.model import Member
from derpmesh.membership.records import NodeIntent
from tests.mesh.enrolled import KEYS, TTL, assert_kept, members, up_since
from tests.mesh.etcd.gateway import Gateway
from tests.mesh.etcds import HOST, SecuredEtcd, require
from tests.mesh.region import (
    LOOK,
    PATIENCE,
    REGION,
    ChildNode,
    LocalNode,
    Place,
    cluster,
    fresh_address,
    measured,
    until,
)
from tests.support.etcd import Cluster, Found, putting, stored, transaction
from tests.support.proxy import Proxy


pytestmark = [pytest.mark.interop, pytest.mark.timeout(120)]

FOUND = 30.0
"""Seconds until a dead watch must be found. Source: fault F6."""

LAG = 5.0
"""Seconds that the membership may be late. Source: fault F14."""

RATE = 10_000
"""Updates a second that others make. Source: fault F14."""

SKEW = 3600
"""Seconds by which a clock is wrong. Source: fault F15."""

SLOW = 5.0
"""Seconds that an endpoint takes to answer. Source: fault F10."""

PASSWORDS = ["s3cret-of-the-node", "its-next-one", "and-the-one-after"]


class Records:
    """The records of a region, without the nodes.

    Args:
        keys: Under which keys.
        write: Does some steps at once.
        read: Gives what is stored under a key.
    """

    def __init__(
        self,
        keys: Keys,
        write: Callable[..., int],
        read: Callable[[bytes], Found | None],
    ) -> None:
        self._keys = keys
        self._write = write
        self._read = read

    def want(self, letter: str) -> str:
        """List a node that nobody runs; give its name."""
        node = Member.model_validate(
            {"name": f"900{letter}", "host": fresh_address(), "ipv6": "none"}
        )
        intent = NodeIntent(node=node, author="operator")
        self._write(putting(self._keys.of("intent", node.name), intent.write()))
        return node.name

    def births(self, *nodes: Place) -> list[tuple[int, int]]:
        """Give when each member record was made, and under which lease.

        A record that was away, for however short a time, was made anew.
        """
        found = [self._read(self._keys.of("members", node.name)) for node in nodes]
        return [(one.create_revision, one.lease) for one in found if one is not None]

    async def recorded(self, *nodes: Place) -> list[tuple[int, int]]:
        """Wait until each node is recorded; give their births."""
        await until(lambda: len(self.births(*nodes)) == len(nodes))
        return self.births(*nodes)

    async def arrives(self, letter: str, *nodes: LocalNode) -> None:
        """List a node, and wait until each of these knows it."""
        name = await asyncio.to_thread(patiently, lambda: self.want(letter))
        await until(lambda: all(name in members(node) for node in nodes), within=FOUND)


def patiently(do: Callable[[], str]) -> str:
    """Do something; again, while etcd has no leader."""
    end = time.monotonic() + PATIENCE
    while True:
        try:
            return do()
        except OSError:
            assert time.monotonic() < end
            time.sleep(LOOK)


@pytest.fixture
async def region() -> AsyncIterator:
    """A region without nodes."""
    async with cluster() as found:
        yield found


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    """Give keys that no other test has."""
    return Keys(f"/{tmp_path.parent.name}/{tmp_path.name}", REGION.id)


@pytest.fixture
def etcd(etcds) -> Cluster:
    """Give an etcd that other tests use as well."""
    return etcds.plain("current")


@pytest.fixture
def records(etcd, keys) -> Records:
    """Give the records in that etcd."""
    [url] = etcd.urls
    return Records(
        keys, lambda *steps: transaction(url, *steps), lambda key: stored(url, key)
    )


def enrolled(place: Place, keys: Keys, url: str) -> Place:
    """Have a node record itself, under keys of the test's own."""
    settings = {"endpoints": [url], "ttl": TTL, "prefix": keys.prefix}
    place.configure(registry={"etcd": settings})
    return place


# F6: watches that are dead, and do not say so.


def test_f6_the_numbers():
    """F6: two reports that fail to come are told in time."""
    assert etcd_module.SILENCE <= FOUND < min(etcd_module.RELIST)
    assert etcd_module.SILENCE > 2 * status_module.INTERVAL


@pytest.fixture
def twentyfold(monkeypatch) -> None:
    """Let reports come, and be missed, twenty times as fast."""
    for module, name in ((status_module, "INTERVAL"), (etcd_module, "SILENCE")):
        monkeypatch.setattr(module, name, getattr(module, name) / 20)


@pytest.mark.usefixtures("twentyfold")
@pytest.mark.parametrize("death", ["cancel", "silence", "break_off", "half open"])
async def test_f6_watch_dies(region, etcd, keys, records, death):
    """F6: cancelled and left open, silent, after half a document, or half open.

    Calls go on, so nothing but the watch itself shows it: what the node reports does
    not come back.
    """
    a = region.place("a")
    async with (
        Gateway(etcd.urls[0]).running() as gateway,
        Proxy(int(gateway.url.rpartition(":")[2])) as proxy,
    ):
        await region.start(enrolled(a, keys, proxy.url))
        await until(lambda: a.name in a.node.region.membership().get("status", ()))
        begun = gateway.begun
        if death == "half open":
            proxy.freeze()
        else:
            await getattr(gateway, death)()
        name = records.want("b")
        with measured(f"dead watch ({death}) is found, at a 20th") as lasted:
            await until(lambda: name in members(a), within=FOUND)
            assert lasted() < FOUND
        await until(lambda: gateway.begun > begun)
        await a.stop()


@pytest.mark.usefixtures("twentyfold")
async def test_f6_watch_is_dead_from_the_first(region, etcd, keys, records):
    """F6: a node that is alone does not know of its own record, and misses it."""
    a = region.place("a")
    async with Gateway(etcd.urls[0]).running() as gateway:
        gateway.is_mute = True
        await region.start(enrolled(a, keys, gateway.url))
        await records.recorded(a)
        name = records.want("b")
        with measured("watch that was never alive is found, at a 20th") as lasted:
            await until(lambda: name in members(a), within=FOUND)
            assert lasted() < FOUND
        await a.stop()


# F9 and F10: users, endpoints, certificates.


class Secured:
    """An etcd with users, and nodes that record themselves there as one of them.

    Args:
        etcd: It runs.
        folder: For what nodes have of it.
    """

    def __init__(self, etcd: SecuredEtcd, folder: Path) -> None:
        self.etcd = etcd
        self.password_file = folder / "password"
        self.password_file.touch(0o600)
        self.password_file.write_text(PASSWORDS[0])
        etcd.add_user("node", PASSWORDS[0], KEYS.root)
        etcd.add_user("operator", "s3cret", KEYS.root)

        def write(*steps: object) -> int:
            # A login of its own each time: tokens end, and rights change.
            return etcd.transaction("operator", "s3cret")(*steps)

        self.records = Records(KEYS, write, etcd.stored)

    def enrolled(self, place: Place, *urls: str, ttl: int = TTL) -> Place:
        """Have a node record itself."""
        settings = {
            "endpoints": list(urls or self.etcd.cluster.urls),
            "ttl": ttl,
            "user": "node",
            "password_file": str(self.password_file),
            "ca_file": str(self.etcd.ca),
            "certificate": str(self.etcd.certificate),
            "key": str(self.etcd.key),
        }
        place.configure(registry={"etcd": settings})
        return place

    def change_password(self, password: str) -> None:
        """Have etcd take another one from the nodes."""
        self.etcd.as_root("/auth/user/changepw", name="node", password=password)


def secured(folder: Path, count: int, *arguments: str) -> Iterator[Secured]:
    """Run an etcd with users, which may be killed."""
    require("current")
    etcd = SecuredEtcd(folder / "etcd", "current", count=count, arguments=arguments)
    try:
        yield Secured(etcd.start(), folder)
    finally:
        etcd.cluster.kill()


@pytest.fixture
def single(tmp_path) -> Iterator[Secured]:
    """One server, whose tokens end after a second without use."""
    yield from secured(tmp_path, 1, "--auth-token-ttl", "1")


@pytest.fixture
def three(tmp_path) -> Iterator[Secured]:
    """Three servers."""
    yield from secured(tmp_path, 3)


async def started(region, scene: Secured, *urls: str, ttl: int = TTL):
    """Start two nodes; give them once they are recorded and linked."""
    nodes = [region.place(letter) for letter in "ab"]
    for node in nodes:
        await region.start(scene.enrolled(node, *urls, ttl=ttl))
    await region.linked(*nodes)
    return nodes, await scene.records.recorded(*nodes)


async def test_f9_logins(single, region, caplog):
    """F9: tokens end, rights change, a password does, and tokens are forgotten.

    No watch is lost by that, and no record was away.
    """
    caplog.set_level(logging.INFO)
    records = single.records
    nodes, births = await started(region, single)
    before = up_since(*nodes)
    clock = asyncio.get_running_loop().time
    end = clock() + TTL + 1  # by then a record that nobody kept would be away

    logins = caplog.text.count("logged in as node")
    await until(lambda: caplog.text.count("logged in as node") >= logins + 2)
    await records.arrives("c", *nodes)

    single.etcd.as_root("/auth/user/add", name="other", password="x")
    await records.arrives("d", *nodes)

    single.password_file.write_text(PASSWORDS[1])
    single.change_password(PASSWORDS[1])
    await records.arrives("e", *nodes)

    [server] = single.etcd.cluster.servers
    await asyncio.to_thread(single.etcd.restart, server)
    await records.arrives("f", *nodes)
    await until(lambda: clock() > end)
    await until(lambda: all(node.node.region.notes() == [] for node in nodes))

    assert records.births(*nodes) == births
    assert_kept(before, *nodes)
    assert "missed a change" not in caplog.text


async def test_f9_password_changes_in_etcd_first(single, region):
    """F9: until the file has it the nodes say so. Links stay, and watches."""
    records = single.records
    nodes, _ = await started(region, single)
    before = up_since(*nodes)
    single.change_password(PASSWORDS[2])
    await until(
        lambda: all(
            "invalid user ID or password" in str(node.node.region.notes())
            for node in nodes
        )
    )
    await records.arrives("c", *nodes)
    single.password_file.write_text(PASSWORDS[2])
    with measured("a password that the file has at last is used"):
        await until(lambda: all(node.node.region.notes() == [] for node in nodes))
        await records.recorded(*nodes)
    await records.arrives("d", *nodes)
    assert_kept(before, *nodes)


async def test_f10_endpoints(three, region, caplog):
    """F10: a name is gone, answers take 5 s, a member is, certificates are renewed.

    The lease is kept alive all the while, and no record was away.
    """
    caplog.set_level(logging.INFO)
    etcd, records, ttl = three.etcd, three.records, 8
    servers = etcd.cluster.servers
    clock = asyncio.get_running_loop().time
    async with Proxy(servers[0].port) as proxy:
        urls = [f"https://{HOST}:{proxy.port}", *etcd.cluster.urls[1:]]
        nobody = "https://nobody.invalid:2379"
        nodes, births = await started(region, three, nobody, *urls, ttl=ttl)
        before = up_since(*nodes)
        assert f"asking {urls[0]} from now on" in caplog.text

        proxy.delay = SLOW
        await until(lambda: caplog.text.count(f"asking {urls[1]} from") == len(nodes))
        await records.arrives("c", *nodes)
        proxy.delay = 0.0

        end = clock() + ttl + 1  # by then a record that nobody kept would be away
        servers[1].kill()
        await records.arrives("d", *nodes)
        etcd.renew_certificate()
        for server in servers[1:]:
            await asyncio.to_thread(etcd.restart, server)
        await records.arrives("e", *nodes)
        await until(lambda: clock() > end)

        # Those who are only listed have no lease, and are called lost.
        await until(
            lambda: all(
                ": lost: " in note
                for node in nodes
                for note in node.node.region.notes()
            )
        )
        assert records.births(*nodes) == births
        assert_kept(before, *nodes)
        for node in nodes:
            await node.stop()


# F14: others write.


async def test_f14_others_write(region, etcd, keys, records):
    """F14: 10,000 updates a second on other prefixes make no membership late."""
    a = region.place("a")
    await region.start(enrolled(a, keys, etcd.urls[0]))
    births = await records.recorded(a)
    command = [sys.executable, "-m", "tests.mesh.storm", etcd.urls[0], str(TTL + 1)]
    process = subprocess.Popen(  # noqa: ASYNC220 - it starts at once
        command, stdout=subprocess.PIPE
    )
    try:
        lags: list[float] = []
        while process.poll() is None:
            name = await asyncio.to_thread(records.want, chr(ord("b") + len(lags)))
            lags.append(await until(lambda name=name: name in members(a)))
            await asyncio.sleep(0.4)
    finally:
        process.kill()
        out, _ = process.communicate()
    logging.getLogger(__name__).info(
        "measured: %s updates/s on other prefixes: late by %.3f s at most",
        out.decode().strip(),
        max(lags),
    )
    assert process.returncode == 0
    assert int(out) >= RATE
    assert max(lags) <= LAG
    assert records.births(a) == births


# F15: clocks.

_SKEWED = """
import datetime, runpy, time
skew, clock, nanoseconds, real = {skew}, time.time, time.time_ns, datetime.datetime
class Skewed(real):
    @classmethod
    def now(cls, tz=None):
        return super().now(tz) + datetime.timedelta(seconds=skew)
datetime.datetime = Skewed
time.time = lambda: clock() + skew
time.time_ns = lambda: nanoseconds() + skew * 10**9
runpy.run_module("derpmesh.daemon", run_name="__main__", alter_sys=True)
"""


class SkewedNode(ChildNode):
    """A node whose clock is wrong, by so many seconds ahead."""

    def __init__(self, name: str, folder: Path, file: Path, *, skew: int) -> None:
        super().__init__(name, folder, file)
        self.skew = skew

    def command(self) -> list[str]:
        """Run `derpd` by a clock that is wrong."""
        code = _SKEWED.format(skew=self.skew)
        return [sys.executable, "-c", code, "--config", str(self.config_file)]


async def test_f15_clocks_are_wrong(region, etcd, keys, records):
    """F15: an hour ahead or behind, nodes are linked, and their records stay."""
    [url] = etcd.urls
    a = region.place("a")
    others = [
        SkewedNode("900b", region.folder, region.file, skew=SKEW),
        SkewedNode("900c", region.folder, region.file, skew=-SKEW),
    ]
    await asyncio.gather(*(region.start(enrolled(one, keys, url)) for one in others))
    births = await records.recorded(*others)
    clock = asyncio.get_running_loop().time
    end = clock() + TTL + 1
    for node in others:
        _, about = await node.ask("/v1/node")
        ahead = datetime.fromisoformat(about["started_at"]) - datetime.now(UTC)
        assert ahead.total_seconds() == pytest.approx(node.skew, abs=SKEW / 2)
    await region.start(enrolled(a, keys, url))
    await until(lambda: a.ups == {"900b", "900c"})
    await until(lambda: clock() > end)
    assert records.births(*others) == births
    assert members(a) == ["900a", "900b", "900c"]
    for node in others:
        assert {link["state"] for link in (await node.links()).values()} == {"up"}
