"""Which certificates a DERP client accepts: by a pin, or by an authority.

Source: tailscale ``net/tlsdial/tlsdial.go`` and ``derp/derphttp/derphttp_client.go``.
"""

import hashlib
import ssl
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from cryptography import x509
from cryptography.x509.oid import NameOID

from derpnode.client.errors import TlsFailed, reason_of
from derpnode.config import is_ip
from derpnode.wire.keys import NodeKey
from derpnode.wire.metacert import parse_meta_certificate


if TYPE_CHECKING:
    from _ssl import Certificate

    _Certificate = Certificate | bytes

PIN_PREFIX: Final = "sha256-raw:"
"""Source: ``derphttp_client.go``, ``tlsClient``."""

_META_PREFIX = "derpkey"  # derpconst, MetaCertCommonNamePrefix
_ENCODING_DER: Literal[2] = 2  # of the private module _ssl


@dataclass(frozen=True, slots=True)
class ClientTls:
    """How to check a server's certificate: what a DERP map says of a node."""

    cert_name: str = ""
    """`CertName`: a pin (`sha256-raw:…`), another DNS name, or empty for the host."""

    ca_file: Path | None = None
    """PEM file of the authorities to trust; None for those of the system.

    Unlike Tailscale's clients, which also carry Let's Encrypt's roots.
    """

    @property
    def pin(self) -> str | None:
        """The hash that is expected, as text; None where a chain is."""
        name = self.cert_name
        return name.removeprefix(PIN_PREFIX) if name.startswith(PIN_PREFIX) else None


@dataclass(frozen=True, slots=True)
class Certificates:
    """What a server proved itself with; accepted."""

    tls_version: str
    """As OpenSSL writes it: `TLSv1.3`."""
    count: int
    """Certificates that were sent, the meta certificate not counted."""
    pin: str
    """`CertName` that pins the leaf."""
    not_after: datetime
    """When the leaf expires."""
    meta_key: NodeKey | None
    """The server's key by its meta certificate; None if it sent none."""

    @property
    def fast_start_key(self) -> NodeKey | None:
        """What ClientInfo may be sealed to before the server has spoken.

        Clients look for it under TLS 1.3 only.
        """
        return self.meta_key if self.tls_version == "TLSv1.3" else None


def check_certificates(
    chain: Sequence[bytes], tls: ClientTls, host: str, *, version: str, now: datetime
) -> Certificates:
    """Accept a server's certificates by the rules of a Go client, or refuse.

    Of a pinned server exactly one certificate besides the meta one may come,
    with that very hash, in its time, and for `host` if that is a DNS name. Of
    any other, OpenSSL has checked the chain, and the name is checked here; of
    an IP address no name is, as clients send none.

    Args:
        chain: DER, the leaf first.
        tls: What to expect.
        host: What was dialled: a DNS name or an IP address.
        version: The TLS version that was agreed on.
        now: An aware datetime.

    Raises:
        TlsFailed: A client would not go on.
    """
    own = own_certificates(chain)
    if not own:
        raise TlsFailed(host, "no certificate was presented", "give the node one")
    try:
        leaf = x509.load_der_x509_certificate(own[0])
        names = _dns_names(leaf)
    except ValueError as exc:
        raise TlsFailed(host, "the certificate is malformed", "make a new one") from exc
    pin = hashlib.sha256(own[0]).hexdigest()
    if tls.pin is not None:
        _check_pin(own, pin, tls.pin)
        _check_dates(leaf, host, now)
    name = tls.cert_name if tls.cert_name and tls.pin is None else host
    if not is_ip(name) and not any(_covers(pattern, name) for pattern in names):
        reason = f"the certificate is for {', '.join(names) or 'no DNS name'}"
        hint = "its subjectAltName must have the name (the CN does not count)"
        raise TlsFailed(name, reason, hint)
    metas = [meta for meta in map(parse_meta_certificate, chain) if meta is not None]
    return Certificates(
        tls_version=version,
        count=len(own),
        pin=PIN_PREFIX + pin,
        not_after=leaf.not_valid_after_utc,
        meta_key=metas[0][0] if metas else None,
    )


def own_certificates(chain: Sequence[bytes]) -> list[bytes]:
    """Leave DERP's meta certificate out of what was presented."""
    return [der for der in chain if not _is_meta(der)]


def _is_meta(der: bytes) -> bool:
    """Tell a meta certificate by its name alone. Source: ``tlsdial.go``."""
    with warnings.catch_warnings(action="ignore"):  # the name is over-long
        try:
            subject = x509.load_der_x509_certificate(der).subject
            names = subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        except ValueError:
            return False
    return any(str(name.value).startswith(_META_PREFIX) for name in names)


def _dns_names(leaf: x509.Certificate) -> list[str]:
    try:
        found = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return []
    return found.value.get_values_for_type(x509.DNSName)


def _check_pin(own: Sequence[bytes], actual: str, expected: str) -> None:
    value = PIN_PREFIX + expected
    if actual != expected:  # as text: upper case never matches
        hint = f"if it is the node you mean, its pin is {PIN_PREFIX}{actual}"
        raise TlsFailed(value, "the server has another certificate", hint)
    if len(own) > 1:
        reason = f"{len(own)} certificates were presented; with a pin, clients take 1"
        raise TlsFailed(value, reason, "serve the leaf alone, without its issuers")


def _check_dates(leaf: x509.Certificate, host: str, now: datetime) -> None:
    if now > leaf.not_valid_after_utc:
        reason = (
            f"the certificate expired {leaf.not_valid_after_utc:%Y-%m-%d %H:%M} UTC"
        )
        raise TlsFailed(host, reason, "make a new one and put its pin into the map")
    if now < leaf.not_valid_before_utc:
        begin = f"{leaf.not_valid_before_utc:%Y-%m-%d %H:%M} UTC"
        reason = f"the certificate is not valid before {begin}"
        raise TlsFailed(host, reason, "check both clocks")


def _covers(pattern: str, host: str) -> bool:
    """Source: Go ``crypto/x509``, ``matchHostnames``."""
    first, *rest = pattern.lower().split(".")
    host_first, *host_rest = host.lower().rstrip(".").split(".")
    return first in ("*", host_first) and rest == host_rest


def client_context(tls: ClientTls) -> ssl.SSLContext:
    """Make the context; names and pins are for `check_certificates`.

    Raises:
        TlsFailed: The authorities cannot be read.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False  # `check_certificates` does, by Go's rules
    if tls.pin is not None:
        context.verify_mode = ssl.CERT_NONE  # and there the pin is all that counts
    elif tls.ca_file is None:
        context.load_default_certs()
    else:
        try:
            context.load_verify_locations(tls.ca_file)
        except OSError as exc:
            hint = "give a PEM file of certificates that can be read"
            raise TlsFailed(str(tls.ca_file), reason_of(exc), hint) from exc
    return context


def presented(connection: object) -> list[bytes]:
    """Give the certificates of the peer, DER, as it sent them.

    The method is public since Python 3.13; before, the C object behind has it,
    and gives None where there are none, and objects in place of bytes.
    """
    if not hasattr(connection, "get_unverified_chain"):
        connection = getattr(connection, "_sslobj", None)
    method: Callable[[], Sequence[_Certificate] | None]
    method = getattr(connection, "get_unverified_chain", list)
    return [
        one if isinstance(one, bytes) else one.public_bytes(_ENCODING_DER)
        for one in method() or ()
    ]
