"""What the TLS listeners of the tests prove themselves with."""

import ssl
import tempfile
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import NameOID

from derpnode.plane.contract import ServerTls
from derpnode.wire.keys import NodeKey
from derpnode.wire.metacert import meta_certificate


HOST = "derp.example.com"
NODE = NodeKey(b"\x09" * 32)

_NOW = datetime(2026, 6, 1, tzinfo=UTC)


class Issued(NamedTuple):
    """A certificate and its key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(Encoding.PEM)

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(Encoding.DER)

    @property
    def key_pem(self) -> bytes:
        return self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def issue(name: str, by: Issued | None = None, *, ca: bool = False) -> Issued:
    """Issue a certificate, by an authority or by itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = x509.CertificateBuilder(
        issuer_name=by.certificate.subject if by else subject,
        subject_name=subject,
        public_key=key.public_key(),
        serial_number=x509.random_serial_number(),
        not_valid_before=_NOW - timedelta(days=365),
        not_valid_after=_NOW + timedelta(days=36_500),
    )
    san = x509.SubjectAlternativeName([x509.DNSName(name)])
    builder = builder.add_extension(san, critical=False)
    constraints = x509.BasicConstraints(ca=ca, path_length=None)
    builder = builder.add_extension(constraints, critical=True)
    return Issued(builder.sign(by.key if by else key, hashes.SHA256()), key)


MIDDLE = issue("middle.example.com", ca=True)
LEAF = issue(HOST, by=MIDDLE)
OTHER_LEAF = issue(HOST)
META_DER = meta_certificate(NODE, now=_NOW, signer=ed25519.Ed25519PrivateKey.generate())


def server_tls(*chain: Issued, name: str | None = None) -> ServerTls:
    """Give a plane a chain, its leaf first; by default a leaf and its issuer."""
    leaf, *issuers = chain or (LEAF, MIDDLE)
    pem = leaf.pem + b"".join(issuer.pem for issuer in issuers)
    return ServerTls(pem, leaf.key_pem, META_DER, name)


def server_context(*chain: Issued) -> ssl.SSLContext:
    """Be a node with a chain, its leaf first."""
    leaf, *_ = chain
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with tempfile.NamedTemporaryFile() as file:
        file.write(leaf.key_pem + b"".join(one.pem for one in chain))
        file.flush()
        context.load_cert_chain(file.name)
    return context


def client_context(
    maximum: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3,
) -> ssl.SSLContext:
    """Trust anybody, up to a version."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.maximum_version = maximum
    return context


TRUSTING = client_context()
