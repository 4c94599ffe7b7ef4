"""Links over a real plane, to relays on loopback that are good or bad."""

import asyncio
import hashlib
import time
from pathlib import Path

import pytest

from derpmesh.link import links as links_module
from derpnode.config import Address
from tests.mesh.link.relays import (
    FakeRelay,
    RealLinks,
    announcing,
    refuse_login,
    stay_silent,
)
from tests.node.plane.certificates import HOST, LEAF, MIDDLE, OTHER_LEAF, issue
from tests.node.relay.recorder import Link
from tests.node.relay.scene import A, B, C


OURS = issue(HOST)
PIN = f"sha256-raw:{hashlib.sha256(OURS.der).hexdigest()}"
OTHER_PIN = f"sha256-raw:{hashlib.sha256(OTHER_LEAF.der).hexdigest()}"


@pytest.fixture
async def links():
    """The links of a node."""
    async with asyncio.TaskGroup() as tasks:
        found = RealLinks(tasks)
        yield found
        await found.end()


@pytest.fixture
async def good():
    """A pinned relay with one client."""
    async with FakeRelay(announcing(A), OURS).running() as relay:
        yield relay


@pytest.fixture
def authority(tmp_path):
    """Give the file of an authority."""

    def write(issued):
        file = tmp_path / "ca.pem"
        file.write_bytes(issued.pem)
        return file

    return write


async def test_pinned_peer(links, good):
    """Nobody but the pin vouches for it."""
    links.want(good.target("good", pin=PIN))
    await links.until_up("good")
    assert links.status("good").keys == 1
    assert isinstance(links.told.routes[A], Link)


async def test_peer_with_another_pin(links, good):
    """Both are named."""
    links.want(good.target("good", pin=OTHER_PIN))
    assert await links.error("good") == f"certificate is {PIN}, pin is {OTHER_PIN}"


@pytest.mark.parametrize(("leaf", "root"), [(OURS, OURS), (LEAF, MIDDLE)])
async def test_peer_vouched_for_by_an_authority(links, authority, leaf, root):
    """Or by itself."""
    async with FakeRelay(announcing(), leaf).running() as relay:
        links.want(relay.target("peer", ca_file=authority(root)))
        await links.until_up("peer")


async def test_peer_that_nobody_vouches_for(links, good, authority):
    """It is said that the certificate is what is wrong."""
    links.want(good.target("good", ca_file=authority(OTHER_LEAF)))
    assert await links.error("good") == "tls: CERTIFICATE_VERIFY_FAILED"


async def test_peer_with_the_certificate_of_another_name(links, good, authority):
    """The same."""
    links.want(good.target("good", host="other.example.com", ca_file=authority(OURS)))
    assert await links.error("good") == "tls: CERTIFICATE_VERIFY_FAILED"


async def test_peer_in_the_clear(links):
    """For a proxy that ends TLS, and for tests."""
    async with FakeRelay(announcing(A, B)).running() as relay:
        links.want(relay.target("plain"))
        await links.until_up("plain")
        assert links.status("plain").keys == 2


async def test_peer_that_refuses(links, good):
    """Nobody listens there."""
    target = good.target("gone", dial=Address("127.0.0.2", good.port))
    links.want(target)
    assert await links.error("gone") == "reset: Connection refused"


async def test_name_that_cannot_be_asked_for(links, good):
    """It harms this link alone. Regression: it ended the node."""
    host = f"{'x' * 64}.example.com"
    named = good.target("named", host=host, dial=None)
    dialled = good.target("dialled", host=host)
    links.want(named, dialled, good.target("good", pin=PIN))
    await links.until_up("good")
    assert host in await links.error("named")
    assert host in await links.error("dialled")


async def test_name_with_several_addresses(links):
    """One after the other is tried; `localhost` is both loopback addresses."""
    async with FakeRelay(announcing()).running() as relay:
        links.want(relay.target("named", host="localhost", dial=None))
        await links.until_up("named")


async def test_peer_that_never_shakes_hands(links, monkeypatch):
    """It has its time, and is named."""
    monkeypatch.setattr(links_module, "DIAL_TIMEOUT", 0.2)
    async with FakeRelay(stay_silent).running() as relay:
        links.want(relay.target("deaf", tls=True))
        assert await links.error("deaf") == "timeout: no handshake in time"


async def test_peer_that_is_silent_over_tls(links, monkeypatch):
    """The same, one layer above."""
    monkeypatch.setattr(links_module, "LOGIN_TIMEOUT", 0.3)
    async with FakeRelay(stay_silent, OURS).running() as relay:
        links.want(relay.target("mute", pin=PIN))
        assert await links.error("mute") == "no login in 0.3 s"


async def test_peer_that_hangs_up_on_a_login(links):
    """Most often it has another mesh key."""
    async with FakeRelay(refuse_login, OURS).running() as relay:
        links.want(relay.target("other", pin=PIN))
        error = await links.error("other")
    assert error.endswith("; is the mesh key the same there?")


async def test_keys_vanish_with_a_link_that_is_lost(links, good):
    """As fast as the kernel tells."""
    links.want(good.target("good", pin=PIN))
    await links.until_up("good")
    began = time.monotonic()
    good.hang_up()
    await links.until(lambda: not links.told.routes)
    assert time.monotonic() - began < 1.0


async def test_link_that_was_lost_comes_back(links):
    """When the peer does, on its own, with the keys that it has then."""
    first = FakeRelay(announcing(A), OURS)
    async with first.running():
        links.want(first.target("peer", pin=PIN))
        await links.until_up("peer")
    await links.until(lambda: links.status("peer").error)
    second = FakeRelay(announcing(B, C), OURS)
    second.port = first.port
    async with second.running():
        await links.until_up("peer")
        assert links.told.routes.keys() == {B, C}


async def test_bad_peers_leave_a_good_one_alone(links, good, monkeypatch):
    """All kinds of them, at once."""
    monkeypatch.setattr(links_module, "DIAL_TIMEOUT", 0.2)
    async with (
        FakeRelay(stay_silent).running() as deaf,
        FakeRelay(refuse_login, OURS).running() as other,
    ):
        bad = [
            deaf.target("deaf", tls=True),
            other.target("other", pin=PIN),
            other.target("unpinned"),
            good.target("wrong pin", pin=OTHER_PIN),
            good.target("gone", dial=Address("127.0.0.2", good.port)),
            good.target("no file", ca_file=Path("/nonexistent/ca.pem")),
        ]
        links.want(*bad, good.target("good", pin=PIN))
        await links.until_up("good")
        for target in bad:
            assert await links.error(target.name)
        found = links.status("good")
        assert (found.error, found.keys) == ("", 1)
