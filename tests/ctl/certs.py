"""Certificates for tests: made once a run, as they cost some time."""

import functools
import ssl
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import NameOID

from derpnode.wire.keys import NodeKey
from derpnode.wire.metacert import meta_certificate
from tests.support.certificates import SIGNS, alternative


NOW = datetime.now(UTC)
DAY = timedelta(days=1)


@dataclass(frozen=True)
class Issued:
    """A certificate with its key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(Encoding.DER)

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(Encoding.PEM)

    @property
    def pin(self) -> str:
        return f"sha256-raw:{self.certificate.fingerprint(hashes.SHA256()).hex()}"


@functools.cache
def issue(
    *names: str,
    begin: datetime = NOW - DAY,
    end: datetime = NOW + 90 * DAY,
    by: Issued | None = None,
    common_name: str = "test",
    ca: bool = False,
) -> Issued:
    """Make a certificate for some names; self-signed unless somebody signs it."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(by.certificate.subject if by else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(end)
        .add_extension(x509.BasicConstraints(ca, None), critical=True)
    )
    signer = x509.AuthorityKeyIdentifier.from_issuer_public_key(
        (by.key if by else key).public_key()
    )
    own = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    builder = builder.add_extension(signer, critical=False)
    builder = builder.add_extension(own, critical=False)
    if ca:
        builder = builder.add_extension(SIGNS, critical=True)
    if names:
        alternatives = x509.SubjectAlternativeName([alternative(one) for one in names])
        builder = builder.add_extension(alternatives, critical=False)
    return Issued(builder.sign(by.key if by else key, hashes.SHA256()), key)


def meta(key: NodeKey) -> bytes:
    """Make a meta certificate, DER."""
    signer = ed25519.Ed25519PrivateKey.generate()
    return meta_certificate(key, now=NOW, signer=signer)


def server_context(folder: Path, leaf: Issued, *extra: bytes) -> ssl.SSLContext:
    """Make the TLS of a server that sends the leaf, then the extra ones, DER."""
    chain = leaf.pem + b"".join(ssl.DER_cert_to_PEM_cert(der).encode() for der in extra)
    (folder / "chain.pem").write_bytes(chain)
    (folder / "key.pem").write_bytes(
        leaf.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "chain.pem", folder / "key.pem")
    return context
