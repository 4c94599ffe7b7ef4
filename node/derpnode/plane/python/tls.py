"""TLS settings of a listener, as an OpenSSL context."""

import os
import ssl
from collections.abc import Callable

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from derpnode.plane.contract import ClientTls, ServerTls


_PREFERRED_TLS12 = "ECDHE+AESGCM:ECDHE+CHACHA20"
"""Forward secrecy only; Go clients offer these since 1.8."""


def server_context(tls: ServerTls) -> ssl.SSLContext:
    """Build the context for one listener.

    OpenSSL sends the certificates of the file in their order, so the meta
    certificate is last, and does not mind that it signs nothing.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(_PREFERRED_TLS12)
    context.set_alpn_protocols(["http/1.1"])
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    # Clients know what their hardware likes: Go prefers AES-128-GCM where it can.
    context.options &= ~ssl.OP_CIPHER_SERVER_PREFERENCE
    # A Tailscale client keeps no session, so tickets would be work for nobody.
    context.options |= ssl.OP_NO_TICKET
    context.num_tickets = 0
    meta = x509.load_der_x509_certificate(tls.meta_der).public_bytes(Encoding.PEM)
    _load(context, tls.key_pem + b"\n" + tls.chain_pem + b"\n" + meta)
    if tls.server_name is not None:
        context.sni_callback = _only(tls.server_name)
    return context


def client_context(tls: ClientTls) -> ssl.SSLContext:
    """Build the context for connections that we dial."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if not tls.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    elif tls.ca_pem is not None:
        context.load_verify_locations(cadata=tls.ca_pem.decode("ascii"))
    else:
        context.load_default_certs()
    return context


def _load(context: ssl.SSLContext, pem: bytes) -> None:
    """Load key and chain from memory; the library wants a file, so give it one."""
    descriptor = os.memfd_create("tls", os.MFD_CLOEXEC)
    with os.fdopen(descriptor, "wb") as file:
        file.write(pem)
        file.flush()
        context.load_cert_chain(f"/proc/self/fd/{descriptor}")


def _only(name: str) -> Callable[[ssl.SSLObject, str, ssl.SSLContext], int | None]:
    """Abort handshakes for another name or none, as derper does in manual mode."""

    def check(
        _session: ssl.SSLObject, asked: str | None, _context: ssl.SSLContext
    ) -> int | None:
        return None if asked == name else ssl.ALERT_DESCRIPTION_UNRECOGNIZED_NAME

    return check
