"""The certificate of the public port: read, checked whole, and followed.

A pair of files is checked before it is used, so that a node with a good certificate
never trades it for a bad one.
"""

import asyncio
import ipaddress
import itertools
import logging
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID

from derpnode.config import NodeConfig, is_ip
from derpnode.errors import ConfigError
from derpnode.plane.contract import ServerTls
from derpnode.plane.python.tls import server_context as plane_context
from derpnode.server import selfsigned
from derpnode.server.watch import FileWatch, Sleep, follow, sleep_or_wake


logger = logging.getLogger(__name__)

WATCH_INTERVAL: Final = 2.0
"""Seconds between looks at the files; a change is in use after two looks."""


@dataclass(frozen=True)
class TlsIdentity:
    """What the public port proves itself with. Checked: it works as it is."""

    chain_pem: bytes
    """The leaf, then its intermediates, PEM. The meta certificate is not here."""

    key_pem: bytes = field(repr=False)
    """The leaf's private key, PKCS #8 PEM, not encrypted."""

    server_name: str | None
    """The only SNI to accept; None accepts any, and none."""

    not_after: datetime
    """When the leaf expires."""

    pin: str
    """`CertName` of a node whose clients pin it: hash of the leaf, lower case."""

    self_signed: bool
    """Whether clients must pin it, because no authority vouches for it."""

    def server_tls(self, meta_der: bytes) -> ServerTls:
        """Add the meta certificate: what a plane's listener takes."""
        return ServerTls(
            chain_pem=self.chain_pem,
            key_pem=self.key_pem,
            meta_der=meta_der,
            server_name=self.server_name,
        )


def server_context(identity: TlsIdentity, meta_der: bytes) -> ssl.SSLContext:
    """Build the OpenSSL context of a listener, as the Python plane does."""
    return plane_context(identity.server_tls(meta_der))


@dataclass(frozen=True)
class PairFiles:
    """Where a certificate and its key are, and whose they must be."""

    certificate: Path
    key: Path
    host: str
    setting: str = "tls.certificate"
    """What to name in errors."""

    pinned: bool = False
    """Whether clients hold on to it: then it is used even after it expired."""

    def load(self, now: datetime) -> TlsIdentity:
        """Read the pair and check it whole.

        Raises:
            ConfigError: It cannot be used; the message says which file.
        """
        chain = self._read_chain()
        key = self._read_key()
        self._check_key(chain[0], key)
        self._check_names(chain[0])
        self._check_order(chain)
        found = _identity(chain, key, self.host)
        self._check_use(found, chain[0].public_bytes(Encoding.DER))
        self._check_dates(chain[0], now)
        return found

    def _read_chain(self) -> list[x509.Certificate]:
        data = self._read(self.certificate)
        try:
            return x509.load_pem_x509_certificates(data)
        except ValueError:
            reason = "no whole PEM certificate in it"
            hint = "give the leaf, then its issuers (fullchain.pem)"
            raise self._error(reason, hint) from None

    def _read_key(self) -> bytes:
        data = self._read(self.key)
        try:
            key = load_pem_private_key(data, password=None)
            return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        except TypeError:
            reason, hint = "the key is encrypted", "give it without a passphrase"
        except (ValueError, UnsupportedAlgorithm):
            # Not chained: the cause may quote the file.
            reason, hint = "no whole PEM private key in it", "give the leaf's key, PEM"
        raise self._error(reason, hint, self.key)

    def _read(self, path: Path) -> bytes:
        try:
            return path.read_bytes()
        except OSError as exc:
            reason = f"cannot be read: {(exc.strerror or 'no reason given').lower()}"
            hint = "check the path, and that the user that runs derpd may read it"
            raise self._error(reason, hint, path) from exc

    def _check_key(self, leaf: x509.Certificate, key: bytes) -> None:
        private = load_pem_private_key(key, password=None)
        if private.public_key() != leaf.public_key():
            reason = "not the key of the first certificate"
            raise self._error(reason, "put the leaf first, with its own key", self.key)

    def _check_dates(self, leaf: x509.Certificate, now: datetime) -> None:
        if now < leaf.not_valid_before_utc:
            reason = f"not valid before {leaf.not_valid_before_utc:%Y-%m-%d %H:%M} UTC"
            raise self._error(reason, "check this machine's clock")
        if now <= leaf.not_valid_after_utc:
            return
        reason = f"expired on {leaf.not_valid_after_utc:%Y-%m-%d %H:%M} UTC"
        if not self.pinned:
            raise self._error(reason, "renew it")
        logger.warning(
            "certificate %s: %s; clients refuse it until a new one is made and "
            "its pin is in the map",
            self.certificate,
            reason,
        )

    def _check_names(self, leaf: x509.Certificate) -> None:
        try:
            names, for_servers = _names(leaf), _is_for_servers(leaf)
        except ValueError:
            reason, hint = "its extensions are malformed", "have it issued again"
            raise self._error(reason, hint) from None
        if not any(_covers(name, self.host) for name in names):
            reason = f"is for {', '.join(names) or 'nobody'}, not for {self.host}"
            hint = "its subjectAltName must have node.host (the CN does not count)"
            raise self._error(reason, hint)
        if not for_servers:
            reason, hint = "is not for servers", "its usage must have serverAuth"
            raise self._error(reason, hint)

    def _check_order(self, chain: list[x509.Certificate]) -> None:
        for number, (below, above) in enumerate(itertools.pairwise(chain), start=1):
            if not _is_issued_by(below, above):
                reason = f"certificate {number} is not signed by the next"
                raise self._error(reason, "put the leaf first, then each issuer")

    def _check_use(self, found: TlsIdentity, any_der: bytes) -> None:
        """Try it on: OpenSSL refuses, for one, keys that are too short."""
        try:
            server_context(found, any_der)
        except ssl.SSLError as exc:
            reason = f"OpenSSL refuses it: {exc.reason or exc}"
            raise self._error(reason, "use ECDSA P-256, or RSA of 2048 bits") from exc

    def _error(self, reason: str, hint: str, path: Path | None = None) -> ConfigError:
        setting = self.setting
        if path == self.key and setting == "tls.certificate":
            setting = "tls.key"
        return ConfigError(setting, str(path or self.certificate), reason, hint)


def _identity(chain: list[x509.Certificate], key: bytes, host: str) -> TlsIdentity:
    leaf = chain[0]
    return TlsIdentity(
        chain_pem=b"".join(one.public_bytes(Encoding.PEM) for one in chain),
        key_pem=key,
        server_name=None if is_ip(host) else host,
        not_after=leaf.not_valid_after_utc,
        pin=f"sha256-raw:{leaf.fingerprint(hashes.SHA256()).hex()}",
        self_signed=len(chain) == 1 and _is_issued_by(leaf, leaf),
    )


def _is_issued_by(below: x509.Certificate, above: x509.Certificate) -> bool:
    try:
        below.verify_directly_issued_by(above)
    except (InvalidSignature, TypeError, ValueError):
        return False
    return True


def _names(leaf: x509.Certificate) -> list[str]:
    """List the DNS names and addresses that a certificate is for."""
    try:
        found = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return []
    addresses = found.value.get_values_for_type(x509.IPAddress)
    return [
        *found.value.get_values_for_type(x509.DNSName),
        *(str(address) for address in addresses),
    ]


def _is_for_servers(leaf: x509.Certificate) -> bool:
    try:
        found = leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage)
    except x509.ExtensionNotFound:
        return True
    usages = {
        ExtendedKeyUsageOID.SERVER_AUTH,
        ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE,
    }
    return not usages.isdisjoint(found.value)


def _covers(name: str, host: str) -> bool:
    """Tell whether a name of a certificate is good for a host.

    A wildcard stands for exactly the first label. Source: RFC 6125, 6.4.3;
    Go ``crypto/x509``, ``matchHostnames``.
    """
    if is_ip(host):
        return is_ip(name) and ipaddress.ip_address(name) == ipaddress.ip_address(host)
    name, host = name.lower().rstrip("."), host.lower().rstrip(".")
    _, dot, parent = host.partition(".")
    return name == host or (dot == "." and name == f"*.{parent}")


def certificate_files(config: NodeConfig) -> PairFiles | None:
    """Say where the public port's certificate is; None where TLS is off."""
    if config.tls_mode == "off":
        return None
    certificate, key = config.tls.certificate, config.tls.key
    if config.tls_mode == "files" and certificate is not None and key is not None:
        return PairFiles(certificate, key, config.node.host)
    return self_signed_files(config.state_dir, config.node.host)


def load_current(config: NodeConfig) -> TlsIdentity | None:
    """Read what the public port shows; makes a self-signed one where there is none.

    Returns None where TLS is off.

    Raises:
        ConfigError: It cannot be used.
    """
    files = certificate_files(config)
    if files is None:
        return None
    now = datetime.now(UTC)
    if files.pinned:
        return self_signed(config.state_dir, config.node.host, now)
    return files.load(now)


def self_signed_files(state_dir: Path, host: str) -> PairFiles:
    """Say where the certificate that we make is."""
    certificate, key = selfsigned.paths(state_dir, host)
    return PairFiles(certificate, key, host, setting="state_dir", pinned=True)


def load_pair(certificate: Path, key: Path, host: str, now: datetime) -> TlsIdentity:
    """Read a pair of files and check it whole.

    Args:
        certificate: PEM, the leaf first.
        key: PEM, not encrypted.
        host: The DNS name or IP address that clients know the node by.
        now: An aware datetime.

    Raises:
        ConfigError: It cannot be used; the message says which file, and why.
    """
    return PairFiles(certificate, key, host).load(now)


def self_signed(state_dir: Path, host: str, now: datetime) -> TlsIdentity:
    """Read the certificate that clients pin; make it where there is none.

    One that is there is used as it is, also when it has expired (a warning
    is logged): a new one would be a new pin, which the map does not have.

    Raises:
        ConfigError: It is there and cannot be used, or cannot be made.
    """
    files = self_signed_files(state_dir, host)
    selfsigned.create(files.certificate, files.key, host, now)
    return files.load(now)


@dataclass(slots=True)
class ReloadCounters:
    """What came of changes to the files; an unchanged content is not counted."""

    done: int = 0
    """Changes that were taken into use."""

    failed: int = 0
    """Changes that could not be used; every reason once, however long it lasts."""


class Certificates:
    """Keeps the certificate in use, and follows its files.

    Args:
        files: Where it is. A self-signed one is made now, and never again.
        now: Gives the time, an aware datetime.
        on_change: Told of each new certificate; new handshakes shall use it.

    Raises:
        ConfigError: The files cannot be used.
    """

    def __init__(
        self,
        files: PairFiles,
        *,
        now: Callable[[], datetime],
        on_change: Callable[[TlsIdentity], None] = lambda _: None,
    ) -> None:
        if files.pinned:
            selfsigned.create(files.certificate, files.key, files.host, now())
        self.reload = asyncio.Event()
        """Set it to have the files read at once: SIGHUP."""
        self.reloads = ReloadCounters()
        self._files = files
        self._now = now
        self._on_change = on_change
        self._watch = FileWatch(files.certificate, files.key)
        self._failure = ""  # why the files cannot be used, as we have said it
        self.current = files.load(now())

    async def watch(
        self, interval: float = WATCH_INTERVAL, sleep: Sleep = sleep_or_wake
    ) -> None:
        """Follow the files until cancelled.

        Args:
            interval: Seconds between two looks.
            sleep: Waits that long, or until the event is set.
        """
        await follow(
            lambda asked: self.check(asked=asked), self.reload, interval, sleep
        )

    def check(self, *, asked: bool = False) -> None:
        """Look at the files once.

        Args:
            asked: Read them even if they look the same, and say again if
                they cannot be used.
        """
        if asked:
            self._failure = ""
        # One that failed is tried again each time: it may become valid by itself.
        if self._watch.changed() or asked or self._failure:
            self._reload()

    def _reload(self) -> None:
        try:
            found = self._files.load(self._now())
        except ConfigError as exc:
            self._fail(str(exc))
            return
        self._failure = ""
        if found == self.current:
            return
        self.current = found
        self.reloads.done += 1
        logger.info("certificate: read again; valid until %s", found.not_after)
        self._on_change(found)

    def _fail(self, failure: str) -> None:
        if failure == self._failure:
            return
        self._failure = failure
        self.reloads.failed += 1
        logger.warning(
            "certificate: %s; the one in use stays, until %s",
            failure,
            self.current.not_after,
        )
