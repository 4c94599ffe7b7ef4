"""C52: our own client, which links and probes are made of, at both relays."""

import hashlib

import pytest

from derpnode.client import ClientTls, Received, connect
from derpnode.wire.keys import MeshKey
from tests.conformance.scene import LOOPBACK, Place, new_key


async def pin(place: Place) -> str:
    """Pin the certificate that a relay shows."""
    peer = await place.dial()
    shown = peer.writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    return f"sha256-raw:{hashlib.sha256(shown).hexdigest()}"


@pytest.mark.parametrize("fast_start", [True, False])
async def test_c52_our_client(place: Place, fast_start):
    """It logs in, pings, and sends packets of any size to others, and to itself."""
    tls = ClientTls(cert_name=await pin(place))
    private = new_key()
    other = await place.login()
    async with connect(
        LOOPBACK, place.derp_port, private=private, tls=tls, fast_start=fast_start
    ) as client:
        assert client.server_key == place.server_key
        for data in (b"", b"data", bytes(65_536)):
            await client.send(other.key, data)
            assert await other.packet() == (private.public, data)
            await other.send(client.key, data)
            assert await client.recv() == Received(other.key, data)
        await client.send(client.key, b"to myself")
        assert await client.recv() == Received(client.key, b"to myself")
        assert await client.ping() < 10.0


async def test_c52_our_client_watches(place: Place):
    """With the mesh key it is told who is there, itself too."""
    tls = ClientTls(cert_name=await pin(place))
    key = MeshKey(place.mesh_key)
    other, seen = await place.login(), set()
    async with connect(
        LOOPBACK, place.derp_port, private=new_key(), tls=tls, mesh_key=key
    ) as client:
        await client.watch()
        while not seen >= {client.key, other.key}:
            seen.add(getattr(await client.recv(), "key", None))
