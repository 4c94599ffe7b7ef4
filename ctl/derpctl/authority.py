"""A certificate authority for one occasion; its key is never written down."""

import ipaddress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID


LIFETIME = timedelta(days=90)
"""derpprobe alarms a week before the end; a demo that is held is shorter."""

_BACKDATED = timedelta(days=1)  # for clients whose clock is behind
_CRITICAL = True


@dataclass(frozen=True)
class Pair:
    """A certificate and its key, PEM."""

    certificate: bytes
    key: bytes


class Authority:
    """Signs certificates while it lives.

    Args:
        name: Its common name.
        lifetime: How long what it signs is valid, and it itself.
    """

    def __init__(
        self, name: str = "derpmesh demo CA", lifetime: timedelta = LIFETIME
    ) -> None:
        self._now = datetime.now(UTC)
        self._lifetime = lifetime
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _name(name)
        public = self._key.public_key()
        identifier = x509.SubjectKeyIdentifier.from_public_key(public)
        self._issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(public)
        self._certificate = (
            self._builder(self._name, public)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), _CRITICAL)
            .add_extension(_usage(signs_certificates=True), _CRITICAL)
            .add_extension(identifier, not _CRITICAL)
            .sign(self._key, hashes.SHA256())
        )

    @property
    def pem(self) -> bytes:
        """The certificate to trust."""
        return self._certificate.public_bytes(Encoding.PEM)

    def issue(self, names: list[str]) -> Pair:
        """Make a certificate for a server with these names and addresses."""
        key = ec.generate_private_key(ec.SECP256R1())
        public = key.public_key()
        server = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])
        identifier = x509.SubjectKeyIdentifier.from_public_key(public)
        leaf = (
            self._builder(_name(names[0]), public)
            .add_extension(x509.BasicConstraints(False, None), _CRITICAL)
            .add_extension(_usage(signs_certificates=False), _CRITICAL)
            .add_extension(server, not _CRITICAL)
            .add_extension(identifier, not _CRITICAL)
            .add_extension(self._issuer, not _CRITICAL)
            .add_extension(
                x509.SubjectAlternativeName(list(map(_alternative, names))),
                not _CRITICAL,
            )
            .sign(self._key, hashes.SHA256())
        )
        return Pair(
            leaf.public_bytes(Encoding.PEM),
            key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
        )

    def _builder(
        self, subject: x509.Name, public: ec.EllipticCurvePublicKey
    ) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(self._now - _BACKDATED)
            .not_valid_after(self._now + self._lifetime)
        )


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _alternative(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )
