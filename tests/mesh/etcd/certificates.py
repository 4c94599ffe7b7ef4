"""An authority of the tests, and what it signs for etcd and its clients."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from tests.support.certificates import SIGNS, alternative
from tests.support.etcd import ServerFiles


_DAY = timedelta(days=1)
_USES = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]


class Authority:
    """Signs certificates, into files of a folder.

    Args:
        folder: Where they are written.
        name: Its own name.
    """

    def __init__(self, folder: Path, name: str = "test CA") -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _named(name)
        # Python checks these since 3.13, as RFC 5280 wants it.
        identifier = x509.SubjectKeyIdentifier.from_public_key(self._key.public_key())
        self._issuer = x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(
            identifier
        )
        constraints = x509.BasicConstraints(ca=True, path_length=0)
        made = (
            _builder(self._name, self._name, self._key)
            .add_extension(constraints, critical=True)
            .add_extension(SIGNS, critical=True)
            .sign(self._key, hashes.SHA256())
        )
        self.ca, self.ca_key = folder / "ca.pem", folder / "ca.key"
        self.ca.write_bytes(made.public_bytes(Encoding.PEM))
        self.ca_key.write_bytes(_pem(self._key))

    def issue(self, name: str, subject: str = "") -> tuple[Path, Path]:
        """Sign for a host, with a common name or without; give certificate and key."""
        key = ec.generate_private_key(ec.SECP256R1())
        host = x509.SubjectAlternativeName([alternative(name)])
        made = (
            _builder(_named(subject), self._name, key)
            .add_extension(host, critical=not subject)
            .add_extension(self._issuer, critical=False)
            .add_extension(x509.ExtendedKeyUsage(_USES), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        stem = name.replace("*", "_")
        certificate, key_file = self._folder / f"{stem}.pem", self._folder / f"{stem}.k"
        certificate.write_bytes(made.public_bytes(Encoding.PEM))
        key_file.write_bytes(_pem(key))
        return certificate, key_file

    def server(self, name: str, *, client_auth: bool = False) -> ServerFiles:
        """Sign for a server."""
        return ServerFiles(self.ca, *self.issue(name), client_auth=client_auth)


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)] if name else [])


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _DAY)
        .not_valid_after(now + 30 * _DAY)
        .add_extension(
            x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False
        )
    )
