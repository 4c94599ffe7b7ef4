"""Who may see what on the admin listener: doors, the token, and TLS off loopback."""

import enum
import hmac
import os
import re
import ssl
from pathlib import Path
from urllib.parse import urlsplit

from aiohttp import web

from derpnode.config import AdminSection, is_ip
from derpnode.errors import ConfigError
from derpnode.secretfile import others_may_read, shown_mode


_MAX_TOKEN = 4096  # bytes of its file
_FORWARDED = ("Forwarded", "X-Forwarded-For", "X-Real-IP")


class Door(enum.Enum):
    """How a request came in."""

    SOCKET = "socket"
    """The Unix socket: the file's mode says who may."""

    LOOPBACK = "loopback"
    """TCP that only this machine can reach; its browsers can, too."""

    NETWORK = "network"
    """TCP with TLS, for anybody."""


class Access(enum.Enum):
    """How well a page is kept."""

    HEALTH = "health"
    """For everybody who can connect."""

    METRICS = "metrics"
    """For everybody if `admin.public_metrics` says so."""

    DETAILS = "details"
    """Names clients and addresses: for operators."""


class Guard:
    """Decides who sees a page.

    Args:
        settings: Where the token is, and whether metrics are public.
    """

    def __init__(self, settings: AdminSection) -> None:
        self._settings = settings
        self._token = b""  # none yet, and none is right

    def load(self) -> None:
        """Read the token, if there is to be one. May be called again.

        Raises:
            ConfigError: It cannot be used; the one before stays.
        """
        if self._settings.token_file is not None:
            self._token = load_token(self._settings.token_file)

    def refusal(
        self, door: Door, access: Access, request: web.BaseRequest
    ) -> web.Response | None:
        """Answer a request that may not see a page; None if it may."""
        if door is Door.LOOPBACK and not _names_no_domain(request):
            # A web page whose own name points here would look like us to a browser.
            text = "the Host header must be an IP address or localhost"
            return answer(403, text)
        if door is Door.SOCKET or self._is_public(access):
            return None
        if door is Door.LOOPBACK:
            if not any(name in request.headers for name in _FORWARDED):
                return None
            # Whoever a proxy on this machine lets in is not on this machine.
            return answer(403, "not served through a proxy; use an address with TLS")
        if self._has_token(request):
            return None
        refused = answer(401, "a token is needed: Authorization: Bearer TOKEN")
        refused.headers["WWW-Authenticate"] = "Bearer"
        return refused

    def _is_public(self, access: Access) -> bool:
        if access is Access.METRICS:
            return self._settings.public_metrics
        return access is Access.HEALTH

    def _has_token(self, request: web.BaseRequest) -> bool:
        header = request.headers.get("Authorization", "")
        scheme, _, given = header.partition(" ")
        return (
            scheme.lower() == "bearer"
            and self._token != b""
            and hmac.compare_digest(os.fsencode(given.strip()), self._token)
        )


def answer(status: int, text: str) -> web.Response:
    """Build an answer of plain text, one line or more."""
    return web.Response(status=status, text=f"{text}\n")


def load_token(path: Path) -> bytes:
    """Read the token that operators prove themselves with.

    Raises:
        ConfigError: The file cannot be read, is readable by more than its
            owner, or holds no token. The content is never shown.
    """
    setting, hint = "admin.token_file", "let the user that runs derpd read it"
    try:
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            token = file.read(_MAX_TOKEN).strip()
    except OSError as exc:
        reason = f"cannot be read: {exc.strerror}"
        raise ConfigError(setting, str(path), reason, hint) from exc
    if others_may_read(status):
        reason = f"mode {shown_mode(status)} lets others read this secret"
        raise ConfigError(setting, str(path), reason, f"run: chmod 600 {path}")
    if not re.fullmatch(rb"[!-~]+", token):
        reason = "not one word of printable ASCII"
        hint = f"run: openssl rand -hex 32 > {path}"
        raise ConfigError(setting, str(path), reason, hint)
    return token


def load_tls(context: ssl.SSLContext, settings: AdminSection) -> None:
    """Read the certificate of addresses off loopback; new connections have it.

    Raises:
        ConfigError: It cannot be used; the one before stays.
    """
    setting, value = "admin.certificate", str(settings.certificate)
    hint = "set admin.certificate and admin.key to PEM files that belong together"
    if settings.certificate is None:
        raise ConfigError(setting, None, "missing", hint)
    try:
        # Asked for a passphrase, OpenSSL would ask the terminal.
        context.load_cert_chain(settings.certificate, settings.key, password=lambda: "")
    except ssl.SSLError as exc:
        reason = f"OpenSSL refuses it: {exc.reason or exc}"
        raise ConfigError(setting, value, reason, hint) from None
    except OSError as exc:
        reason = f"it or its key cannot be read: {exc.strerror}"
        raise ConfigError(setting, value, reason, hint) from exc


def _names_no_domain(request: web.BaseRequest) -> bool:
    """Tell whether every Host header is an address or localhost, or there is none."""
    return all(_is_local(host) for host in request.headers.getall("Host", []))


def _is_local(host: str) -> bool:
    try:
        name = urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return False
    return name == "localhost" or is_ip(name)
