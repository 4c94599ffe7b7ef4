"""How etcd's clients prove themselves over TLS, and whom they trust."""

import ssl
from pathlib import Path

from derpmesh.etcd.errors import FileUnusable


def client_context(
    ca_file: Path | None = None,
    certificate: Path | None = None,
    key: Path | None = None,
) -> ssl.SSLContext:
    """Make a context that checks the endpoint's certificate and its name.

    With users beside client certificates, etcd refuses certificates that have a
    common name: its gateway would take every caller for that name.

    Args:
        ca_file: PEM file of what is trusted; None: the system's roots.
        certificate: PEM file of what we prove ourselves with, if asked.
        key: PEM file of its key, without a passphrase.

    Raises:
        FileUnusable: A file cannot be read or used.
    """
    context = _trusting(ca_file)
    if certificate is not None:
        try:
            # Asked for a passphrase, OpenSSL would ask the terminal.
            context.load_cert_chain(certificate, key, password=lambda: "")
        except (OSError, ssl.SSLError) as exc:
            hint = "give PEM files of a certificate and its key that belong together"
            raise FileUnusable(str(certificate), _reason(exc), hint) from None
    return context


def _trusting(ca_file: Path | None) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=ca_file)
    except (OSError, ssl.SSLError) as exc:
        hint = "give a PEM file of the authority that signs for etcd"
        raise FileUnusable(str(ca_file), _reason(exc), hint) from None


def _reason(exc: OSError) -> str:
    if isinstance(exc, ssl.SSLError):
        return f"OpenSSL refuses it: {exc.reason or exc}"
    return f"cannot be read: {exc.strerror}"
