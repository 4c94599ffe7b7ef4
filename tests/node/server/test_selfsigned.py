"""The certificate that a node makes for itself, field by field."""

import ipaddress
import stat
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from derpnode.errors import ConfigError
from derpnode.server import selfsigned


NOW = datetime(2026, 6, 1, tzinfo=UTC)


@pytest.fixture
def made(tmp_path):
    """The paths of a certificate and its key, just made."""
    certificate, key = selfsigned.paths(tmp_path / "state", "192.0.2.7")
    selfsigned.create(certificate, key, "192.0.2.7", NOW)
    return certificate, key


def read(path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(path.read_bytes())


@pytest.mark.parametrize(
    ("host", "name"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("2001:db8::1", "2001db81"),
        ("derp-1.example.com", "derp-1.example.com"),
        ("../a_b", "..ab"),
    ],
)
def test_names_of_derper(tmp_path, host, name):
    """Characters outside A-Za-z0-9-. are left out, as derper does."""
    assert selfsigned.paths(tmp_path, host) == (
        tmp_path / f"{name}.crt",
        tmp_path / f"{name}.key",
    )


def test_fields(made):
    """The shape of protocol.md 2.4, but for its validity."""
    certificate = read(made[0])
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "192.0.2.7")])
    assert certificate.version is x509.Version.v3
    assert certificate.issuer == certificate.subject == name
    assert 0 < certificate.serial_number < 1 << 128
    assert isinstance(certificate.signature_hash_algorithm, hashes.SHA256)
    assert isinstance(certificate.public_key().curve, ec.SECP256R1)


def test_validity(made):
    """Ten years; it begins a day ago for clients whose clock is behind."""
    certificate = read(made[0])
    assert certificate.not_valid_before_utc == NOW - timedelta(days=1)
    assert certificate.not_valid_after_utc == NOW + timedelta(days=3650)


def test_extensions(made):
    """These four, in derper's order, two of them critical."""
    found = list(read(made[0]).extensions)
    assert [(type(one.value), one.critical) for one in found] == [
        (x509.KeyUsage, True),
        (x509.ExtendedKeyUsage, False),
        (x509.BasicConstraints, True),
        (x509.SubjectAlternativeName, False),
    ]
    usage, extended, basic, names = (one.value for one in found)
    assert (usage.digital_signature, usage.key_encipherment) == (True, True)
    assert not usage.key_cert_sign
    assert list(extended) == [ExtendedKeyUsageOID.SERVER_AUTH]
    assert basic == x509.BasicConstraints(ca=False, path_length=None)
    assert list(names) == [x509.IPAddress(ipaddress.ip_address("192.0.2.7"))]


def test_signed_by_itself(made):
    """Its signature is good."""
    certificate = read(made[0])
    certificate.verify_directly_issued_by(certificate)


def test_files(made):
    """SEC 1 and PEM; the key for its owner, in a directory for its owner."""
    certificate, key = made
    assert key.read_text().startswith("-----BEGIN EC PRIVATE KEY-----\n")
    modes = [stat.S_IMODE(path.stat().st_mode) for path in (certificate, key)]
    assert modes == [0o644, 0o600]
    assert stat.S_IMODE(key.parent.stat().st_mode) == 0o700
    assert len(list(key.parent.iterdir())) == 2


def test_made_once(made):
    """One that is there stays, byte for byte."""
    before = [path.read_bytes() for path in made]
    selfsigned.create(*made, "192.0.2.7", NOW + timedelta(days=5000))
    assert [path.read_bytes() for path in made] == before


def test_key_without_certificate(made):
    """A crash between the two: the key is nobody's pin yet and is made anew."""
    certificate, key = made
    certificate.unlink()
    before = key.read_bytes()
    selfsigned.create(certificate, key, "192.0.2.7", NOW)
    assert key.read_bytes() != before


def test_domain(tmp_path):
    """A name works as well; it may be longer than a CN."""
    host = f"{'a' * 63}.example.com"
    paths = selfsigned.paths(tmp_path, host)
    selfsigned.create(*paths, host, NOW)
    (names,) = [
        one.value
        for one in read(paths[0]).extensions
        if isinstance(one.value, x509.SubjectAlternativeName)
    ]
    assert names.get_values_for_type(x509.DNSName) == [host]


def test_cannot_be_written(tmp_path):
    """The directory is named, with the reason."""
    (tmp_path / "file").touch()
    paths = selfsigned.paths(tmp_path / "file", "192.0.2.7")
    with pytest.raises(
        ConfigError, match="the certificate cannot be made: File exists"
    ):
        selfsigned.create(*paths, "192.0.2.7", NOW)
