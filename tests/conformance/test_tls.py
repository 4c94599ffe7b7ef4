"""C19 to C21: TLS, and the certificate that carries the relay's key."""

import _ssl
import asyncio
import ssl
import warnings

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.x509.oid import NameOID

from derpnode.wire.metacert import parse_meta_certificate
from tests.conformance.scene import FAST_START, Peer, Place, running, unverified


def chain(peer: Peer) -> list[bytes]:
    """Everything in the Certificate message, in its order, DER."""
    connection = peer.writer.get_extra_info("ssl_object")
    found = connection._sslobj.get_unverified_chain()
    return [one.public_bytes(_ssl.ENCODING_DER) for one in found]


@pytest.mark.filterwarnings("ignore:Attribute's length")
async def test_c19_the_meta_certificate(place: Place):
    """It is last, and made as protocol.md 2.3 says."""
    meta = x509.load_der_x509_certificate(chain(await place.dial())[-1])
    (name,) = meta.subject
    assert meta.subject == meta.issuer
    assert name.oid == NameOID.COMMON_NAME
    assert name.value == f"derpkey{place.server_key.hex()}"
    assert (meta.version, meta.serial_number) == (x509.Version.v3, 2)
    assert isinstance(meta.public_key(), ed25519.Ed25519PublicKey)
    meta.verify_directly_issued_by(meta)
    (extension,) = meta.extensions
    assert extension.critical
    assert extension.value == x509.BasicConstraints(ca=False, path_length=None)


async def test_c19_the_chain_does_not_grow(place: Place):
    """A hundred handshakes at once, and one more, show the same chain."""
    first = chain(await place.dial())
    peers = await asyncio.gather(*(place.dial() for _ in range(100)))
    assert all(chain(peer) == first for peer in [*peers, await place.dial()])
    assert len(first) == 2


def hello(version: bytes) -> bytes:
    """A ClientHello that offers one version at most. Source: RFC 5246, 7.4.1.2."""
    body = version + bytes(32) + b"\x00" + b"\x00\x02\xc0\x13" + b"\x01\x00"
    message = b"\x01" + len(body).to_bytes(3) + body
    return b"\x16\x03\x01" + len(message).to_bytes(2) + message


@pytest.mark.parametrize("version", [b"\x03\x01", b"\x03\x02"], ids=["1.0", "1.1"])
async def test_c20_old_versions_are_refused(place: Place, version):
    """With the alert protocol_version (70)."""
    peer = await place.dial_plain(place.derp_port)
    await peer.say(hello(version))
    answer = await peer.rest()
    assert answer[0] == 0x15
    assert answer[-2:] == b"\x02\x46"


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_c20_both_versions_show_the_meta_certificate(place: Place, version):
    """Clients look at it under 1.3 only; it is sent under both."""
    context = unverified()
    with warnings.catch_warnings(action="ignore"):
        context.minimum_version = context.maximum_version = version
    peer = await place.dial(context)
    meta = chain(peer)[-1]
    assert parse_meta_certificate(meta) == (place.server_key, 2)
    await peer.say(FAST_START)
    assert (await peer.frame())[0] == 0x01


@pytest.mark.parametrize("offered", [[], ["http/1.1"], ["h2", "http/1.1"]])
async def test_c20_protocol_negotiation(place: Place, offered):
    """No ALPN is what clients offer; where there is some, it is HTTP/1.1 or none."""
    context = unverified()
    if offered:
        context.set_alpn_protocols(offered)
    peer = await place.dial(context)
    chosen = peer.writer.get_extra_info("ssl_object").selected_alpn_protocol()
    assert chosen == ("http/1.1" if offered else None)


@pytest.mark.parametrize("name", [None, "127.0.0.1", "other.example"])
async def test_c20_a_bare_ip_answers_any_name(place: Place, name):
    """And none at all. Source: protocol.md 2.2."""
    assert len(chain(await place.dial(server_name=name))) == 2


async def test_c20_http_on_the_tls_port(place: Place):
    """It is told so, in the clear. Source: protocol.md 2.2."""
    peer = await place.dial_plain(place.derp_port)
    await peer.say(b"GET /derp HTTP/1.1\r\nHost: x\r\n\r\n")
    assert (await peer.rest()).startswith(b"HTTP/1.0 400 Bad Request\r\n")


@pytest.mark.parametrize("server", ["ours"])
async def test_c20_only_unknown_protocols(place: Place):
    """Unlike derper, which refuses: CPython cannot, so it goes on without one."""
    context = unverified()
    context.set_alpn_protocols(["h3"])
    peer = await place.dial(context)
    await peer.say(FAST_START)
    assert (await peer.frame())[0] == 0x01


async def test_c21_a_pin_is_for_life(tmp_path):
    """The leaf is the same after a restart; the meta certificate is a new one."""
    shown = []
    for _ in range(2):
        async with running(tmp_path) as (_, place):
            shown.append(chain(await place.dial()))
    (leaf, meta), (leaf_again, meta_again) = shown
    assert leaf == leaf_again
    assert meta != meta_again
    assert parse_meta_certificate(meta) == parse_meta_certificate(meta_again)
