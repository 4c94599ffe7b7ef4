"""TLS to a real etcd: who is trusted, and who is not."""

import ssl
from contextlib import aclosing
from pathlib import Path

import pytest

from derpmesh.etcd.client import Patience
from derpmesh.etcd.errors import Ambiguous, EtcdError, FileUnusable, NotSent
from derpmesh.etcd.tls import client_context
from tests.mesh.etcd.certificates import Authority
from tests.mesh.etcds import require
from tests.support.etcd import Version


ONCE = Patience(deadline=0.0)


@pytest.fixture(scope="session")
def etcd_version() -> Version:
    """Have one: all of them do TLS by the same library."""
    require("current")
    return "current"


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    """Give an authority."""
    return Authority(tmp_path / "ca")


@pytest.mark.interop
async def test_trusted_server(start, connect, authority):
    """Its certificate is of our authority and for its address."""
    tls = client_context(authority.ca)
    server = start(tls=authority.server("127.0.0.1"), context=tls)
    client = connect(server.urls, tls=tls)
    await client.put(b"a", b"1")
    async with aclosing(client.watch(b"a", 1)) as batches:
        assert (await anext(batches)).events == ()


@pytest.mark.interop
async def test_certificate_for_another_host(start, connect, authority):
    """Nothing is said to it, a password least of all."""
    lenient = client_context(authority.ca)
    lenient.check_hostname = False
    files = authority.server("other.example.com")
    server = start(tls=files, context=lenient)
    client = connect(server.urls, tls=client_context(authority.ca), patience=ONCE)
    with pytest.raises(NotSent, match="CERTIFICATE_VERIFY_FAILED"):
        await client.put(b"a", b"1")
    with pytest.raises(NotSent, match="CERTIFICATE_VERIFY_FAILED"):
        await anext(client.watch(b"a", 1))
    assert await connect(server.urls, tls=lenient).get(b"a") is None


@pytest.mark.interop
@pytest.mark.parametrize("trusts", ["another", "the system"])
async def test_unknown_authority(start, connect, authority, tmp_path, trusts):
    """Neither one of the same name nor the system's roots will do."""
    context = client_context(authority.ca)
    server = start(tls=authority.server("127.0.0.1"), context=context)
    other = Authority(tmp_path / "other").ca if trusts == "another" else None
    client = connect(server.urls, tls=client_context(other), patience=ONCE)
    with pytest.raises(NotSent, match="CERTIFICATE_VERIFY_FAILED"):
        await client.get(b"a")
    assert await connect(server.urls, tls=context).get(b"a") is None


@pytest.mark.interop
async def test_https_without_a_context_trusts_the_system(start, connect, authority):
    """Leaving it out turns nothing off."""
    context = client_context(authority.ca)
    server = start(tls=authority.server("127.0.0.1"), context=context)
    with pytest.raises(NotSent, match="CERTIFICATE_VERIFY_FAILED"):
        await connect(server.urls, patience=ONCE).get(b"a")


@pytest.mark.interop
async def test_client_certificate(start, connect, authority):
    """Who has none is not let in."""
    certificate, key = authority.issue("node.example.com")
    tls = client_context(authority.ca, certificate, key)
    files = authority.server("127.0.0.1", client_auth=True)
    server = start(tls=files, context=tls)
    await connect(server.urls, tls=tls).put(b"a", b"1")
    stranger = connect(server.urls, tls=client_context(authority.ca), patience=ONCE)
    with pytest.raises((NotSent, Ambiguous)):
        await stranger.get(b"a")


@pytest.mark.interop
async def test_plain_http_to_a_tls_port(start, connect, authority):
    """It fails, and says something."""
    context = client_context(authority.ca)
    server = start(tls=authority.server("127.0.0.1"), context=context)
    url = server.urls[0].replace("https:", "http:")
    with pytest.raises(EtcdError):
        await connect(url, patience=ONCE).get(b"a")


def test_names_are_checked():
    """And certificates, whatever else is set."""
    context = client_context()
    assert context.check_hostname
    assert context.verify_mode is ssl.CERT_REQUIRED


def test_file_of_an_authority_that_is_none(tmp_path):
    """Which, why, and what it should be."""
    path = tmp_path / "ca.pem"
    with pytest.raises(FileUnusable) as caught:
        client_context(path)
    assert str(caught.value) == (
        f"{path}: cannot be read: No such file or directory; "
        "give a PEM file of the authority that signs for etcd"
    )
    path.write_text("nothing")
    with pytest.raises(FileUnusable, match="OpenSSL refuses it"):
        client_context(path)


def test_certificate_with_another_key(authority):
    """They must belong together."""
    certificate, _ = authority.issue("a")
    _, key = authority.issue("b")
    with pytest.raises(FileUnusable, match="KEY_VALUES_MISMATCH"):
        client_context(authority.ca, certificate, key)
    with pytest.raises(FileUnusable, match="cannot be read"):
        client_context(authority.ca, certificate, Path("/nowhere"))
