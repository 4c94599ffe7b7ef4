"""Certificates for relays: of a CA made for the occasion, or signed by themselves."""

import hashlib
import ipaddress
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


def certify(folder: Path, host: str) -> Path:
    """Write a CA and a certificate of its for a host name; return the CA's file.

    The pair is ``HOST.crt`` and ``HOST.key``, as derper looks for it.
    """
    ca_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    ca_name, name = _name("interop CA"), _name(host)
    ca = _certificate(ca_name, ca_name, ca_key).add_extension(
        x509.BasicConstraints(ca=True, path_length=None), critical=True
    )
    leaf = _certificate(name, ca_name, key).add_extension(
        x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False
    )
    ca_file = folder / "ca.pem"
    for builder, file in ((ca, ca_file), (leaf, folder / f"{host}.crt")):
        signed = builder.sign(ca_key, hashes.SHA256())
        file.write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    _write_key(key, folder / f"{host}.key")
    return ca_file


def self_sign(folder: Path, host: str) -> Path:
    """Write a certificate for an IP address that is its own issuer; return its file."""
    key = ec.generate_private_key(ec.SECP256R1())
    names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(host))])
    builder = _certificate(_name(host), _name(host), key)
    signed = builder.add_extension(names, critical=False).sign(key, hashes.SHA256())
    file = folder / f"{host}.crt"
    file.write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    _write_key(key, folder / f"{host}.key")
    return file


def pin(certificate: Path) -> str:
    """Return what a DERP map calls a certificate that it is known by."""
    der = ssl.PEM_cert_to_DER_cert(certificate.read_text())
    return f"sha256-raw:{hashlib.sha256(der).hexdigest()}"


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _write_key(key: ec.EllipticCurvePrivateKey, file: Path) -> None:
    file.touch(0o600)
    file.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )


def _certificate(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=60))
    )
