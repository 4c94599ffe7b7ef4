"""Certificates: what is accepted, what is refused, and what a change may do."""

import _ssl
import asyncio
import contextlib
import ipaddress
import logging
import ssl
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from derpnode.config import NodeConfig, TlsSection
from derpnode.errors import ConfigError
from derpnode.server.certificates import (
    Certificates,
    PairFiles,
    certificate_files,
    load_pair,
    self_signed,
    self_signed_files,
    server_context,
)
from derpnode.wire.keys import NodeKey
from derpnode.wire.metacert import meta_certificate, parse_meta_certificate


NOW = datetime(2026, 6, 1, tzinfo=UTC)
DAY = timedelta(days=1)
HOST = "derp.example.com"

SERVER_KEY = NodeKey(b"\x09" * 32)
META = meta_certificate(
    SERVER_KEY, now=NOW, signer=ed25519.Ed25519PrivateKey.generate()
)


@dataclass
class Issued:
    """A certificate and its key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(Encoding.PEM)

    @property
    def key_pem(self) -> bytes:
        return self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def san(name: str) -> x509.GeneralName:
    with contextlib.suppress(ValueError):
        return x509.IPAddress(ipaddress.ip_address(name))
    return x509.DNSName(name)


def issue(
    common_name=HOST,
    *,
    names=(HOST,),
    by=None,
    key=None,
    since=NOW - DAY,
    until=NOW + 90 * DAY,
    usage=ExtendedKeyUsageOID.SERVER_AUTH,
    ca=False,
) -> Issued:
    """Issue a certificate, by an authority or by itself."""
    key = key or ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    issuer = by.certificate.subject if by else subject
    builder = x509.CertificateBuilder(
        issuer, subject, key.public_key(), x509.random_serial_number(), since, until
    )
    constraints = x509.BasicConstraints(ca=ca, path_length=None)
    builder = builder.add_extension(constraints, critical=True)
    if names:
        general = [san(name) for name in names]
        builder = builder.add_extension(
            x509.SubjectAlternativeName(general), critical=False
        )
    if usage is not None:
        builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
    signer = by.key if by else key
    return Issued(builder.sign(signer, hashes.SHA256()), key)


ROOT = issue("root", names=(), usage=None, ca=True)
MIDDLE = issue("middle", names=(), usage=None, ca=True, by=ROOT)
LEAF = issue(by=MIDDLE)


@pytest.fixture
def files(tmp_path):
    """Paths of a good pair."""
    pair = PairFiles(tmp_path / "tls.crt", tmp_path / "tls.key", HOST)
    put(pair, LEAF, MIDDLE)
    return pair


def put(pair: PairFiles, leaf: Issued, *issuers: Issued) -> None:
    pair.certificate.write_bytes(b"".join(one.pem for one in (leaf, *issuers)))
    pair.key.write_bytes(leaf.key_pem)


def refusal(pair: PairFiles, now=NOW) -> str:
    with pytest.raises(ConfigError) as caught:
        pair.load(now)
    return str(caught.value)


def client_context(maximum=ssl.TLSVersion.TLSv1_3) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.maximum_version = maximum
    return context


class Handshake:
    """A TLS handshake in memory, one flight at a time."""

    def __init__(self, server: ssl.SSLContext, client: ssl.SSLContext, sni) -> None:
        up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.client = client.wrap_bio(down, up, server_hostname=sni)
        self.server = server.wrap_bio(up, down, server_side=True)

    def turn(self) -> None:
        for side in (self.client, self.server):
            with contextlib.suppress(ssl.SSLWantReadError):
                side.do_handshake()

    def finish(self) -> list[bytes]:
        """Give the certificates that the client was sent, DER."""
        for _ in range(3):
            self.turn()
        assert self.client.cipher()
        sent = self.client._sslobj.get_unverified_chain()
        return [one.public_bytes(_ssl.ENCODING_DER) for one in sent]


def shake(server, *, sni=HOST, maximum=ssl.TLSVersion.TLSv1_3) -> list[bytes]:
    return Handshake(server, client_context(maximum), sni).finish()


def der(issued: Issued) -> bytes:
    return issued.certificate.public_bytes(Encoding.DER)


# What is accepted.


def test_good_pair(files):
    """A chain and its key are taken as they are."""
    found = load_pair(files.certificate, files.key, HOST, NOW)
    assert found.chain_pem == LEAF.pem + MIDDLE.pem
    assert found.key_pem == LEAF.key_pem
    assert found.server_name == HOST
    assert found.not_after == NOW + 90 * DAY
    assert not found.self_signed


def test_key_is_not_in_the_repr(files):
    """Whoever prints an identity does not print its key."""
    found = files.load(NOW)
    assert "PRIVATE" not in repr(found)
    assert "PRIVATE" not in repr(found.server_tls(META))


@pytest.mark.parametrize(
    ("names", "host"),
    [
        ([HOST], HOST),
        (["DERP.Example.COM"], HOST),
        ([HOST], "DERP.example.com"),
        (["*.example.com"], HOST),
        (["other.example", HOST], HOST),
        ([f"{HOST}."], HOST),
        (["192.0.2.7"], "192.0.2.7"),
        (["2001:db8::1"], "2001:db8:0::1"),
    ],
)
def test_names_that_cover(files, names, host):
    """A SAN covers its name in any case; `*` stands for the first label."""
    put(files, issue(names=names))
    load_pair(files.certificate, files.key, host, NOW)


@pytest.mark.parametrize(
    ("names", "host"),
    [
        (["example.com"], HOST),
        (["*.example.com"], "example.com"),
        (["*.example.com"], "a.derp.example.com"),
        (["*.com"], HOST),
        (["d*.example.com"], HOST),
        (["*"], HOST),
        (["192.0.2.7"], "192.0.2.8"),
        ([HOST], "192.0.2.7"),
        ([], HOST),  # the CN has it, and does not count
    ],
)
def test_names_that_do_not(files, names, host):
    """Another name is refused; the error says which names there are."""
    put(files, issue(names=names))
    text = refusal(PairFiles(files.certificate, files.key, host))
    listed = ", ".join(names) or "nobody"
    assert f"is for {listed}, not for {host}; " in text


@pytest.mark.parametrize(
    "key_format", [PrivateFormat.TraditionalOpenSSL, PrivateFormat.PKCS8]
)
def test_key_formats(files, key_format):
    """SEC 1 and PKCS #8 both; a plane gets PKCS #8."""
    key = LEAF.key.private_bytes(Encoding.PEM, key_format, NoEncryption())
    files.key.write_bytes(key)
    assert files.load(NOW).key_pem == LEAF.key_pem


def test_one_file_for_both(files):
    """Some write key and chain into one file; clients get the chain alone."""
    files.certificate.write_bytes(LEAF.key_pem + LEAF.pem + MIDDLE.pem)
    found = PairFiles(files.certificate, files.certificate, HOST).load(NOW)
    assert found.chain_pem == LEAF.pem + MIDDLE.pem


def test_rsa(files):
    """RSA works as well."""
    put(files, issue(key=rsa.generate_private_key(65537, 2048)))
    assert shake(server_context(files.load(NOW), META))


# What is refused, S9.


def test_expired(files):
    """With the moment it expired, for whoever looks at clocks."""
    text = refusal(files, NOW + 91 * DAY)
    assert text == (
        f"tls.certificate = '{files.certificate}': "
        "expired on 2026-08-30 00:00 UTC; renew it"
    )


def test_not_yet_valid(files):
    """A clock that is behind looks like this too."""
    text = refusal(files, NOW - 2 * DAY)
    assert "not valid before 2026-05-31 00:00 UTC; check this machine's clock" in text


def test_key_of_another(files):
    """The key must be the first certificate's."""
    files.key.write_bytes(MIDDLE.key_pem)
    text = refusal(files)
    assert text.startswith(f"tls.key = '{files.key}': not the key of the first")


@pytest.mark.parametrize(
    ("order", "number"),
    [((LEAF, ROOT), 1), ((LEAF, MIDDLE, MIDDLE), 2), ((LEAF, MIDDLE, LEAF), 2)],
)
def test_out_of_order(files, order, number):
    """Each certificate is signed by the next."""
    put(files, *order)
    assert f"certificate {number} is not signed by the next" in refusal(files)


def test_issuer_of_the_same_name(files):
    """A name alone is no issuer: the signature is checked."""
    put(files, LEAF, issue("middle", names=(), usage=None, ca=True, by=ROOT))
    assert "certificate 1 is not signed by the next" in refusal(files)


HALVES = ["empty", "garbage", "cut", "longer"]


@pytest.mark.parametrize(
    "content", [b"", b"garbage", LEAF.pem[:-40], LEAF.pem + b"x"], ids=HALVES
)
def test_half_written_certificate(files, content):
    """What is no whole PEM is refused, unless what follows it is no PEM."""
    files.certificate.write_bytes(content)
    if content.startswith(LEAF.pem):
        files.load(NOW)
    else:
        assert "no whole PEM certificate in it" in refusal(files)


@pytest.mark.parametrize(
    "content", [b"", b"garbage", LEAF.key_pem[:-40], LEAF.pem], ids=HALVES
)
def test_half_written_key(files, content):
    """Neither the key nor what stands in its place is shown."""
    files.key.write_bytes(content)
    text = refusal(files)
    assert text == (
        f"tls.key = '{files.key}': no whole PEM private key in it; "
        "give the leaf's key, PEM"
    )


def test_encrypted_key(files):
    """Nobody is there to type a passphrase."""
    key = LEAF.key.private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"x")
    )
    files.key.write_bytes(key)
    assert "the key is encrypted; give it without a passphrase" in refusal(files)


@pytest.mark.parametrize("which", ["certificate", "key"])
def test_missing(files, which):
    """The error names the one that is missing."""
    getattr(files, which).unlink()
    text = refusal(files)
    assert text.startswith(f"tls.{which} = ")
    assert "cannot be read: no such file or directory; check the path" in text


def test_not_for_servers(files):
    """A certificate of a client would be refused by every client."""
    put(files, issue(usage=ExtendedKeyUsageOID.CLIENT_AUTH))
    assert "is not for servers; its usage must have serverAuth" in refusal(files)


@pytest.mark.parametrize("usage", [None, ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE])
def test_for_anybody(files, usage):
    """No usage, or any usage, is good for servers too."""
    put(files, issue(usage=usage))
    files.load(NOW)


def test_malformed_extensions(files):
    """A SAN that cannot be read is no reason to crash."""
    pem = ssl.DER_cert_to_PEM_cert(der(LEAF).replace(b"\x30\x12\x82", b"\x30\x12\x9f"))
    files.certificate.write_text(pem)
    assert "its extensions are malformed" in refusal(files)


def test_openssl_refuses(files):
    """What OpenSSL would not load is found out before it is needed."""
    weak = rsa.generate_private_key(65537, 1024)  # noqa: S505 - that is the point
    put(files, issue(key=weak))
    assert "OpenSSL refuses it: EE_KEY_TOO_SMALL; use ECDSA P-256" in refusal(files)


# What clients see.


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_meta_certificate_is_last(files, version):
    """Leaf, intermediates, meta, whatever the TLS version: C19, C20."""
    sent = shake(server_context(files.load(NOW), META), maximum=version)
    assert sent == [der(LEAF), der(MIDDLE), META]
    assert parse_meta_certificate(sent[-1]) == (SERVER_KEY, 2)


@pytest.mark.parametrize("name", [None, "other.example.com"])
def test_other_names_are_aborted(files, name):
    """With a DNS host the SNI must be it, as in derper's manual mode."""
    hands = Handshake(server_context(files.load(NOW), META), client_context(), name)
    with pytest.raises(ssl.SSLError):
        hands.turn()
    with pytest.raises(ssl.SSLError, match="UNRECOGNIZED_NAME"):  # alert 112
        hands.turn()


@pytest.mark.parametrize("name", [None, "other.example.com"])
def test_any_name_for_an_address(tmp_path, name):
    """With an IP host any SNI will do, and none: Go sends none to an IP."""
    found = self_signed(tmp_path, "192.0.2.7", NOW)
    assert found.server_name is None
    assert len(shake(server_context(found, META), sni=name)) == 2


# The self-signed one.


def test_pin_is_what_clients_compute(tmp_path):
    """`sha256-raw:` and the hash of the leaf's DER, lower-case."""
    found = self_signed(tmp_path, "192.0.2.7", NOW)
    leaf = ssl.PEM_cert_to_DER_cert(found.chain_pem.decode())
    digest = hashes.Hash(hashes.SHA256())
    digest.update(leaf)
    assert found.pin == "sha256-raw:" + digest.finalize().hex()
    assert found.self_signed


def test_pin_stays(tmp_path):
    """A restart changes nothing, and no more does the end of its ten years."""
    first = self_signed(tmp_path, "192.0.2.7", NOW)
    assert self_signed(tmp_path, "192.0.2.7", NOW + 4000 * DAY) == first


def test_expired_pin_is_used_with_a_warning(tmp_path, caplog):
    """A new one would be a new pin; the operator has to put it into the map."""
    self_signed(tmp_path, "192.0.2.7", NOW)
    self_signed(tmp_path, "192.0.2.7", NOW + 4000 * DAY)
    (warning,) = caplog.messages
    assert "192.0.2.7.crt: expired on 2036-05-29 00:00 UTC; clients refuse" in warning


def test_derpers_volume_is_taken_over(tmp_path):
    """A year-old pair of derper's keeps its pin."""
    old = issue("192.0.2.7", names=["192.0.2.7"])
    (tmp_path / "192.0.2.7.crt").write_bytes(old.pem)
    (tmp_path / "192.0.2.7.key").write_bytes(old.key_pem)
    found = self_signed(tmp_path, "192.0.2.7", NOW)
    assert found.chain_pem == old.pem
    assert found.self_signed


def test_self_signed_for_another_host(tmp_path):
    """A pair that is there and does not fit stops the node; it is not replaced."""
    old = issue(names=["192.0.2.9"])
    pair = self_signed_files(tmp_path, "192.0.2.7")
    put(pair, old)
    assert refusal(pair).startswith(f"state_dir = '{pair.certificate}': is for")
    with pytest.raises(ConfigError):
        self_signed(tmp_path, "192.0.2.7", NOW)
    assert pair.certificate.read_bytes() == old.pem


# Which files.


def config(**tls) -> NodeConfig:
    return NodeConfig(tls=TlsSection(**tls))


def test_files_of_each_mode(tmp_path):
    """`files` where a certificate is set, else the one we make, or none at all."""
    given = {"certificate": tmp_path / "a", "key": tmp_path / "b"}
    state = NodeConfig().state_dir
    assert certificate_files(config(mode="off")) is None
    assert certificate_files(config(**given)) == PairFiles(
        tmp_path / "a", tmp_path / "b", "127.0.0.1"
    )
    for tls in (config(), config(mode="self-signed", **given)):
        found = certificate_files(tls)
        assert found.certificate == state / "127.0.0.1.crt"
        assert found.pinned


# What a change may do, S9.


class Owner:
    """Certificates over some files, with a clock, and what they told."""

    def __init__(self, files: PairFiles) -> None:
        self.now = NOW
        self.told = []
        self.certificates = Certificates(
            files, now=lambda: self.now, on_change=self.told.append
        )

    def poll(self, times=2) -> None:
        for _ in range(times):
            self.certificates.check()

    @property
    def counts(self) -> tuple[int, int]:
        reloads = self.certificates.reloads
        return reloads.done, reloads.failed


@pytest.fixture
def owner(files):
    return Owner(files)


OTHER = issue(by=MIDDLE, until=NOW + 180 * DAY)


def test_new_pair(files, owner, caplog):
    """A new pair is in use after two looks, and is told of once."""
    caplog.set_level(logging.INFO)
    put(files, OTHER, MIDDLE)
    owner.poll(times=1)
    assert owner.told == []
    owner.poll(times=3)
    assert [one.chain_pem for one in owner.told] == [OTHER.pem + MIDDLE.pem]
    assert owner.certificates.current == owner.told[0]
    assert owner.counts == (1, 0)
    assert caplog.messages == [
        "certificate: read again; valid until 2026-11-28 00:00:00+00:00"
    ]


def test_touched(files, owner):
    """The same content under a new date is no change."""
    put(files, LEAF, MIDDLE)
    owner.poll()
    assert owner.told == []
    assert owner.counts == (0, 0)


BAD = {
    "expired": issue(by=MIDDLE, since=NOW - 2 * DAY, until=NOW - DAY),
    "wrong name": issue(by=MIDDLE, names=["other.example"]),
    "wrong issuer": issue(by=ROOT),
}


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD)
def test_bad_pair_changes_nothing(files, owner, bad, caplog):
    """The old one stays, and the log says so once however often we look."""
    before = owner.certificates.current
    put(files, bad, MIDDLE)
    owner.poll(times=10)
    assert owner.certificates.current is before
    assert owner.told == []
    assert owner.counts == (0, 1)
    (warning,) = caplog.messages
    assert "the one in use stays, until 2026-08-30" in warning


def test_half_written_pair(files, owner, caplog):
    """Between the certificate and its key, nothing is said and nothing changes."""
    files.certificate.write_bytes(OTHER.pem + MIDDLE.pem)
    owner.poll(times=1)
    files.key.write_bytes(OTHER.key_pem)
    owner.poll()
    assert owner.counts == (1, 0)
    assert not caplog.messages


def test_mended(files, owner):
    """After a bad pair, a good one is taken; the counters know both."""
    files.key.write_bytes(b"garbage")
    owner.poll()
    put(files, OTHER, MIDDLE)
    owner.poll()
    assert len(owner.told) == 1
    assert owner.counts == (1, 1)


def test_two_reasons(files, owner, caplog):
    """Another reason is said as well."""
    files.key.write_bytes(b"garbage")
    owner.poll()
    files.certificate.unlink()
    owner.poll(times=4)
    assert len(caplog.messages) == 2
    assert owner.counts == (0, 2)


def test_becomes_valid(files, owner):
    """A pair that was put there too early is taken when its time comes."""
    put(files, issue(by=MIDDLE, since=NOW + DAY), MIDDLE)
    owner.poll(times=4)
    assert owner.counts == (0, 1)
    owner.now = NOW + 2 * DAY
    owner.poll(times=1)
    assert owner.counts == (1, 1)


def test_kubernetes_swap(tmp_path):
    """A secret's files are links through one link, which is renamed over."""
    for name, issued in (("first", LEAF), ("second", OTHER)):
        (tmp_path / name).mkdir()
        folder = tmp_path / name
        put(PairFiles(folder / "tls.crt", folder / "tls.key", HOST), issued, MIDDLE)
    (tmp_path / "..data").symlink_to("first")
    for name in ("tls.crt", "tls.key"):
        (tmp_path / name).symlink_to(f"..data/{name}")
    owner = Owner(PairFiles(tmp_path / "tls.crt", tmp_path / "tls.key", HOST))
    (tmp_path / "..new").symlink_to("second")
    (tmp_path / "..new").replace(tmp_path / "..data")
    owner.poll()
    assert owner.told[0].chain_pem == OTHER.pem + MIDDLE.pem


def test_pinned_one_is_never_made_again(tmp_path):
    """Files that vanish while the node runs do not become another pin."""
    owner = Owner(self_signed_files(tmp_path, "192.0.2.7"))
    pin = owner.certificates.current.pin
    for path in tmp_path.iterdir():
        path.unlink()
    owner.poll(times=4)
    assert owner.certificates.current.pin == pin
    assert owner.counts == (0, 1)
    assert list(tmp_path.iterdir()) == []


async def test_watch_polls_and_obeys(files, owner):
    """It looks every two seconds, and at once when asked; then settling is skipped."""
    slept = []

    async def sleep(delay, wake):
        slept.append(delay)
        if len(slept) == 1:
            put(files, OTHER, MIDDLE)
            wake.set()
        elif len(slept) == 3:
            raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        await owner.certificates.watch(sleep=sleep)
    assert slept == [2.0] * 3
    assert owner.counts == (1, 0)
    assert not owner.certificates.reload.is_set()


def test_asked_again_says_again(files, owner, caplog):
    """Whoever sends SIGHUP wants to hear that it did not help."""
    files.key.write_bytes(b"garbage")
    owner.poll(times=3)
    owner.certificates.check(asked=True)
    assert len(caplog.messages) == 2


def test_a_thousand_reloads(files, owner):
    """No handshake fails, running ones included, and no chain grows."""
    client = client_context()
    server = server_context(owner.certificates.current, META)
    for number in range(1000):
        leaf = (OTHER, LEAF)[number % 2]
        running = Handshake(server, client, HOST)
        running.turn()
        put(files, leaf, MIDDLE)
        owner.certificates.check(asked=True)
        server = server_context(owner.certificates.current, META)
        assert len(running.finish()) == 3
        assert Handshake(server, client, HOST).finish() == [
            der(leaf),
            der(MIDDLE),
            META,
        ]
    assert owner.counts == (1000, 0)
