"""The certificate of a node that has no domain: made once, and pinned by clients.

The files are named and filled as derper's, so that its volume can be taken over with
the pin unchanged. Source: tailscale ``cmd/derper/cert.go``, ``createSelfSignedIPCert``.
"""

import ipaddress
import re
import secrets
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from derpnode.config import is_ip
from derpnode.errors import ConfigError
from derpnode.server.identity import write_atomically


LIFETIME: Final = timedelta(days=3650)
"""How long the certificate is valid, and with it the pin.

Unlike derper, whose certificates expire after a year and take the pin with them.
"""

BACKDATED: Final = timedelta(days=1)
"""How far before now its validity begins, for clients whose clock is behind.

Unlike derper, which begins now.
"""

_UNSAFE = re.compile(r"[^A-Za-z0-9.-]")  # cert.go, unsafeHostnameCharacters
_SERIAL_BITS = 127  # positive, below 2^128
_MAX_COMMON_NAME = 64  # X.520


def paths(state_dir: Path, host: str) -> tuple[Path, Path]:
    """Name the certificate and its key as derper does."""
    name = _UNSAFE.sub("", host)
    return state_dir / f"{name}.crt", state_dir / f"{name}.key"


def create(certificate: Path, key: Path, host: str, now: datetime) -> None:
    """Make a certificate and its key, unless there is a certificate.

    The key comes first: without a certificate it is nobody's pin yet, so a
    crash between the two loses nothing.

    Args:
        certificate: Where to put the certificate, mode 0644.
        key: Where to put the key, SEC 1, mode 0600.
        host: The IP address or DNS name that it is for.
        now: An aware datetime.

    Raises:
        ConfigError: The directory cannot be written.
    """
    try:
        if certificate.exists():
            return
        private = ec.generate_private_key(ec.SECP256R1())
        form = PrivateFormat.TraditionalOpenSSL
        secret = private.private_bytes(Encoding.PEM, form, NoEncryption())
        write_atomically(key, secret, mode=0o600)
        made = _certificate(private, host, now).public_bytes(Encoding.PEM)
        write_atomically(certificate, made, mode=0o644)
    except OSError as exc:
        reason = f"the certificate cannot be made: {exc.strerror}"
        hint = "let the user that runs derpd write to the directory"
        raise ConfigError("state_dir", str(certificate), reason, hint) from exc


def _certificate(
    private: ec.EllipticCurvePrivateKey, host: str, now: datetime
) -> x509.Certificate:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host[:_MAX_COMMON_NAME])])
    builder = x509.CertificateBuilder(
        issuer_name=name,
        subject_name=name,
        public_key=private.public_key(),
        serial_number=1 + secrets.randbits(_SERIAL_BITS),
        not_valid_before=now - BACKDATED,
        not_valid_after=now + LIFETIME,
    )
    for extension, critical in _extensions(host):
        builder = builder.add_extension(extension, critical=critical)
    return builder.sign(private, hashes.SHA256())


def _extensions(host: str) -> list[tuple[x509.ExtensionType, bool]]:
    """List the extensions of derper's, and whether each is critical."""
    subject: x509.GeneralName = x509.DNSName(host)
    if is_ip(host):
        subject = x509.IPAddress(ipaddress.ip_address(host))
    usage = x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=True,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=False,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )
    return [
        (usage, True),
        (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), False),
        (x509.BasicConstraints(ca=False, path_length=None), True),
        (x509.SubjectAlternativeName([subject]), False),
    ]
