"""The meta certificate: its exact shape, and chains that lack one."""

import ssl
import warnings
from datetime import UTC, datetime, timedelta, timezone

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from derpnode.wire.keys import ZERO_KEY, PrivateKey
from derpnode.wire.metacert import meta_certificate, parse_meta_certificate
from tests.node.wire.strategies import damaged, keys


KEY = PrivateKey(b"\x11" * 32).public
SIGNER = Ed25519PrivateKey.from_private_bytes(b"\x55" * 32)
START = datetime(2026, 8, 22, 12, 34, 56, 999, tzinfo=UTC)
META = meta_certificate(KEY, now=START, signer=SIGNER)

NAME = (
    "3052"  # SEQUENCE: Name
    "3150"  # SET: relative name
    "304e"  # SEQUENCE: attribute
    "0603550403"  # OID: commonName
    "1347"  # PrintableString, 71 characters
    + b"derpkey".hex()
    + KEY.hex().encode().hex()
)
ALGORITHM = "300506032b6570"  # SEQUENCE: OID Ed25519
UNSIGNED = (
    "30820115"  # SEQUENCE: TBSCertificate
    "a003020102"  # version 3
    "020102"  # serial number: protocol version 2
    + ALGORITHM
    + NAME  # issuer
    + "301e"  # SEQUENCE: validity
    "170d3236303732333132333435365a"  # UTCTime 260723123456Z
    "170d3236303932313132333435365a"  # UTCTime 260921123456Z
    + NAME  # subject
    + "302a"  # SEQUENCE: public key
    + ALGORITHM
    + "032100"  # BIT STRING
    + SIGNER.public_key().public_bytes_raw().hex()
    + "a310"  # extensions
    "300e"  # SEQUENCE: all of them
    "300c"  # SEQUENCE: the only one
    "0603551d13"  # OID: basicConstraints
    "0101ff"  # critical
    "0402"  # OCTET STRING
    "3000"  # SEQUENCE: not a CA
)


def named(common_name: str, *, serial: int = 2) -> bytes:
    """An ordinary certificate with this common name."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        name = x509.Name(
            [
                x509.NameAttribute(NameOID.ORGANIZATION_NAME, "x"),
                x509.NameAttribute(NameOID.COMMON_NAME, common_name, _validate=False),
            ]
        )
    builder = x509.CertificateBuilder(name, name, SIGNER.public_key(), serial)
    builder = builder.not_valid_before(START).not_valid_after(START)
    return builder.sign(SIGNER, None).public_bytes(Encoding.DER)


def test_layout():
    """Every byte of the signed part is the one that Go writes."""
    assert META[4 : 4 + 281].hex() == UNSIGNED
    assert len(META) == 359


def test_signature():
    """The certificate is self-signed, and others agree on what it says."""
    certificate = x509.load_der_x509_certificate(META)
    SIGNER.public_key().verify(certificate.signature, certificate.tbs_certificate_bytes)
    assert certificate.version is x509.Version.v3
    assert certificate.serial_number == 2
    assert certificate.not_valid_after_utc - START < timedelta(days=30)


def test_one_extension():
    """There is one extension: critical, and not a CA; no key identifiers."""
    (extension,) = x509.load_der_x509_certificate(META).extensions
    assert extension.critical
    assert extension.value == x509.BasicConstraints(ca=False, path_length=None)


def test_zone_does_not_matter():
    """Times are written in UTC, whatever the zone of the clock."""
    east = START.astimezone(timezone(timedelta(hours=9)))
    assert meta_certificate(KEY, now=east, signer=SIGNER) == META


@given(keys)
def test_round_trip(key):
    """A client reads the key and the version back, unless it is no key."""
    found = parse_meta_certificate(meta_certificate(key, now=START, signer=SIGNER))
    assert found == ((key, 2) if key != ZERO_KEY else None)


def test_zero_key():
    """The key of nobody is no reason for a fast start."""
    der = meta_certificate(ZERO_KEY, now=START, signer=SIGNER)
    assert parse_meta_certificate(der) is None


@pytest.mark.parametrize("digits", [KEY.hex(), KEY.hex().upper()])
def test_other_encodings(digits):
    """UTF8String, either hex case and other attributes are fine."""
    assert parse_meta_certificate(named(f"derpkey{digits}")) == (KEY, 2)


@pytest.mark.parametrize("serial", [1, 127, 128, 255])
def test_versions(serial):
    """The serial number is the version, up to eight bits."""
    der = named(f"derpkey{KEY.hex()}", serial=serial)
    assert parse_meta_certificate(der) == (KEY, serial)


@pytest.mark.parametrize(
    "der",
    [
        pytest.param(b"", id="empty"),
        pytest.param(named("derp.example.com"), id="ordinary"),
        pytest.param(named(f"derpkey{KEY.hex()[1:]}"), id="short key"),
        pytest.param(named(f"derpkey{KEY.hex()}0"), id="long key"),
        pytest.param(named(f"derpkey{KEY.hex()[1:]}g"), id="no hex"),
        pytest.param(named(f"DERPKEY{KEY.hex()}"), id="other prefix"),
        pytest.param(named(f"derpkey{KEY.hex()}", serial=256), id="nine bits"),
        pytest.param(META.replace(bytes.fromhex("020102"), b"\x02\1\0"), id="zero"),
        pytest.param(META.replace(bytes.fromhex("020102"), b"\x02\1\xff"), id="minus"),
        pytest.param(bytes.fromhex("30 00"), id="no certificate"),
        pytest.param(bytes.fromhex("30 02 30 00"), id="no fields"),
        pytest.param(bytes.fromhex("30 01 30"), id="half a header"),
        pytest.param(bytes.fromhex("30 04 30 02 02 00"), id="one field"),
        pytest.param(bytes.fromhex("30 ff 00"), id="length is cut"),
        pytest.param(bytes.fromhex("30 80 00 00"), id="indefinite length"),
    ],
)
def test_no_meta_certificate(der):
    """Anything else is None, and the client looks at the next one."""
    assert parse_meta_certificate(der) is None


@given(st.binary(max_size=400) | damaged(st.just(META)))
def test_damaged(der):
    """Any bytes are a meta certificate or None."""
    found = parse_meta_certificate(der)
    assert found is None or len(found[0]) == 32


def test_openssl_takes_it():
    """OpenSSL does not mind the long name."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cadata=META)
    assert context.cert_store_stats()["x509"] == 1
