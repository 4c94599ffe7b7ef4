"""Who sees the admin pages off loopback: TLS, the token, and both read again."""

import asyncio
import logging
import socket
import ssl
from datetime import UTC, datetime

import aiohttp
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
)

from derpnode.server import selfsigned
from tests.node.server.adminnode import (
    node_config,
    refused,
    running,
    serving,
    status_of,
)


HEALTH = ["/livez", "/readyz"]
DETAILS = ["/debug/varz", "/debug/check", "/debug/clients/", "/v1/node", "/v1/status"]


@pytest.fixture
def pair(tmp_path):
    """A certificate and its key."""
    certificate, key = tmp_path / "admin.crt", tmp_path / "admin.key"
    selfsigned.create(certificate, key, "127.0.0.1", datetime.now(UTC))
    return certificate, key


@pytest.fixture
def token_file(tmp_path):
    """A file with a token, as `openssl rand -hex 32` would make it."""
    path = tmp_path / "token"
    path.write_text("correct-horse\n")
    path.chmod(0o600)
    return path


@pytest.fixture
def network(tmp_path, pair, token_file):
    """Settings of a node with an admin address for everybody."""

    def config(**more: object):
        certificate, key = pair
        admin = {
            "listen": [":0"],
            "certificate": certificate,
            "key": key,
            "token_file": token_file,
        }
        return node_config(tmp_path / "state", admin=admin | more)

    return config


async def test_token(network):
    """Off loopback there is TLS, and only health is for everybody."""
    async with running(network()) as node:
        url = node.listeners()["admin"][1]
        port = int(url.rpartition(":")[2])
        assert url == f"https://127.0.0.1:{port}"
        for path in [*HEALTH, "/metrics", *DETAILS]:
            expected = 200 if path in HEALTH else 401
            assert await status_of(url, path) == expected
            assert await status_of(url, path, "Bearer correct-horse") == 200
        for wrong in (
            "Bearer correct-hors",
            "Bearer correct-horsey",
            "Bearer ",
            "Bearer é",
            "Basic correct-horse",
            "correct-horse",
        ):
            assert await status_of(url, "/v1/node", wrong) == 401
        assert await status_of(url, "/nowhere") == 401
        assert await status_of(url, "/nowhere", "bearer correct-horse") == 404
        # Both families, where the machine has them.
        if socket.has_ipv6:
            assert await status_of(f"https://[::1]:{port}", "/livez") == 200


async def test_two_networks(network):
    """Addresses off loopback share the certificate."""
    async with serving(network(listen=["0.0.0.0:0", "0.0.0.0:0"])) as server:
        _, first, second = server.addresses
        assert first != second
        assert first.startswith("https://127.0.0.1:")
        assert await leaf(first) == await leaf(second)


async def test_refusal_names_the_scheme(network):
    """Clients learn what to send. Source: RFC 6750, 3."""
    async with (
        serving(network()) as server,
        aiohttp.ClientSession(server.addresses[1]) as http,
        http.get("/v1/node", ssl=False) as answer,
    ):
        assert answer.headers["WWW-Authenticate"] == "Bearer"


async def test_no_plain_http_off_loopback(network):
    """There is no answer in the clear."""
    async with serving(network()) as server:
        url = server.addresses[1].replace("https", "http")
        with pytest.raises(aiohttp.ClientError):
            await status_of(url, "/livez")


async def test_public_metrics(network):
    """`admin.public_metrics` opens `/metrics`, and nothing else."""
    async with running(network(public_metrics=True)) as node:
        url = node.listeners()["admin"][1]
        assert await status_of(url, "/metrics") == 200
        assert await status_of(url, "/debug/varz") == 401
        assert await status_of(url, "/v1/status") == 401


async def test_tls_12_at_least(network):
    """Older versions are not spoken."""
    async with serving(network()) as server:
        host, _, port = server.addresses[1].removeprefix("https://").rpartition(":")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.set_ciphers("ALL:@SECLEVEL=0")
        with pytest.warns(DeprecationWarning, match="TLSv1_1"):
            context.maximum_version = ssl.TLSVersion.TLSv1_1
        with pytest.raises(ssl.SSLError):
            await asyncio.open_connection(host, int(port), ssl=context)


async def test_the_token_is_never_shown(network, caplog):
    """Neither in an answer nor in a log, right or wrong."""
    caplog.set_level(logging.DEBUG)
    async with running(network()) as node:
        url = node.listeners()["admin"][1]
        await status_of(url, "/v1/status", "Bearer correct-horse")
        await status_of(url, "/v1/status", "Bearer wrong-horse")
    assert "horse" not in caplog.text


@pytest.mark.parametrize(
    ("content", "mode", "reason"),
    [
        (b"correct-horse", 0o640, "mode 0640 lets others read this secret"),
        (b"correct-horse", 0o604, "mode 0604 lets others read this secret"),
        (b" \n", 0o600, "not one word of printable ASCII"),
        (b"correct horse", 0o600, "not one word of printable ASCII"),
        (b"correct\xff", 0o600, "not one word of printable ASCII"),
    ],
    ids=["group", "others", "empty", "two", "binary"],  # the path is in the error
)
async def test_bad_token_file(network, token_file, content, mode, reason):
    """Refused at the start, and not shown."""
    token_file.write_bytes(content)
    token_file.chmod(mode)
    error = await refused(network())
    assert (error.setting, error.value) == ("admin.token_file", str(token_file))
    assert error.reason == reason
    assert "correct" not in str(error)


async def test_missing_token_file(network, token_file):
    """The reason is the system's."""
    token_file.unlink()
    error = await refused(network())
    assert error.reason == "cannot be read: No such file or directory"


async def test_bad_certificates(network, pair):
    """Missing, no PEM, or a key that is encrypted: said at the start."""
    certificate, key = pair
    passphrase = BestAvailableEncryption(b"secret")
    encrypted = ec.generate_private_key(ec.SECP256R1()).private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, passphrase
    )
    key.write_bytes(encrypted)
    assert "OpenSSL refuses it" in (await refused(network())).reason
    certificate.write_text("nonsense")
    error = await refused(network())
    assert (error.setting, error.value) == ("admin.certificate", str(certificate))
    assert "OpenSSL refuses it" in error.reason
    certificate.unlink()
    assert "cannot be read" in (await refused(network())).reason


async def test_certificate_is_needed(network):
    """The configuration asks for one; should it ever not, this does."""
    config = network()
    admin = config.admin.model_copy(update={"certificate": None})
    error = await refused(config.model_copy(update={"admin": admin}))
    assert error.reason == "missing"


async def test_reload(network, token_file, pair, caplog):
    """A new token and a new certificate are in use after a reload."""
    async with serving(network()) as server:
        url = server.addresses[1]
        before = await leaf(url)
        token_file.write_text("battery-staple")
        for path in pair:
            path.unlink()
        selfsigned.create(*pair, "127.0.0.1", datetime.now(UTC))
        server.reload()
        assert await leaf(url) != before
        assert await status_of(url, "/nowhere", "Bearer correct-horse") == 401
        assert await status_of(url, "/nowhere", "Bearer battery-staple") == 404
        token_file.write_text("")
        server.reload()
        assert await status_of(url, "/nowhere", "Bearer battery-staple") == 404
    assert "what was in use stays" in caplog.text


async def leaf(url: str) -> bytes:
    """Give the certificate that an address shows."""
    host, _, port = url.removeprefix("https://").rpartition(":")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    _, writer = await asyncio.open_connection(host, int(port), ssl=context)
    try:
        return writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    finally:
        writer.close()
        await writer.wait_closed()


async def test_reload_without_anything_to_reload(tmp_path):
    """On loopback there is neither."""
    async with serving(node_config(tmp_path)) as server:
        server.reload()
        assert await status_of(server.addresses[1], "/livez") == 200
