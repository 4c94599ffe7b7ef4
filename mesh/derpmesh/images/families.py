"""The images that operators come from: what each calls derper's flags.

A variable means the same in every family that has it; what differs is what holds when
it is not set. Names of flags are those of ``cmd/derper/derper.go``. What holds unless
it is set is known of camllia/derper, fredliang/derper and ip_derper; of the others it
is taken to be as in the image that they resemble.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class Flag(StrEnum):
    """What a variable sets: a flag of derper, or what stands in for one."""

    HOSTNAME = "-hostname"
    ADDRESS = "-a"
    PORT = "the port of -a"
    HTTP_PORT = "-http-port"
    STUN = "-stun"
    STUN_PORT = "-stun-port"
    CERT_MODE = "-certmode"
    CERT_DIR = "-certdir"
    VERIFY_CLIENTS = "-verify-clients"
    VERIFY_URL = "-verify-client-url"
    FAIL_OPEN = "-verify-client-url-fail-open"
    SOCKET = "-socket"
    MESH_WITH = "-mesh-with"
    MESH_KEY = "-mesh-psk-file"
    CONFIG = "-c"
    DEV = "-dev"
    VERSION = "-version"
    DERP = "-derp"
    HOME = "-home"
    SECRETS_URL = "-secrets-url"
    SECRETS_PREFIX = "-secrets-path-prefix"
    SECRETS_CACHE = "-secrets-cache-dir"
    BOOTSTRAP = "-bootstrap-dns-names"
    UNPUBLISHED = "-unpublished-bootstrap-dns-names"
    ACCEPT_LIMIT = "-accept-connection-limit"
    ACCEPT_BURST = "-accept-connection-burst"
    KEEPALIVE = "-tcp-keepalive-time"
    USER_TIMEOUT = "-tcp-user-timeout"
    WRITE_TIMEOUT = "-tcp-write-timeout"
    AUTH_KEY = "the key that tailscaled logs in with"
    TIME_ZONE = "the time zone"


@dataclass(frozen=True, slots=True)
class Family:
    """Images that read the same variables."""

    name: str
    """The best known of them."""

    variables: Mapping[str, Flag]
    cert_mode: str
    """What holds when nobody says it."""
    cert_dir: str
    """The same; absolute, in the container."""
    verifies: bool
    """The same, for `-verify-clients`."""
    images: tuple[str, ...] = field(default=())
    """Parts of the names of images."""


_XAVIER = {
    "HOSTNAME": Flag.HOSTNAME,
    "ADDR": Flag.ADDRESS,
    "HTTP_PORT": Flag.HTTP_PORT,
    "RUN_STUN": Flag.STUN,
    "STUN_PORT": Flag.STUN_PORT,
    "CERT_MODE": Flag.CERT_MODE,
    "CERT_DIR": Flag.CERT_DIR,
    "VERIFY_CLIENTS": Flag.VERIFY_CLIENTS,
    "VERIFY_CLIENT_URL": Flag.VERIFY_URL,
    "VERIFY_FAIL_OPEN": Flag.FAIL_OPEN,
    "MESH_WITH": Flag.MESH_WITH,
    "MESH_PSKFILE": Flag.MESH_KEY,
    "CONFIG_PATH": Flag.CONFIG,
    "DEV": Flag.DEV,
    "VERSION_FLAG": Flag.VERSION,
    "RUN_DERP": Flag.DERP,
    "FLAGHOME": Flag.HOME,
    "SECRETS_URL": Flag.SECRETS_URL,
    "SECRETS_PREFIX": Flag.SECRETS_PREFIX,
    "SECRETS_CACHEDIR": Flag.SECRETS_CACHE,
    "BOOTSTRAP_DNS": Flag.BOOTSTRAP,
    "UNPUBLISHED_DNS": Flag.UNPUBLISHED,
    "SOCKET": Flag.SOCKET,
    "ACCEPT_CONNECTION_LIMIT": Flag.ACCEPT_LIMIT,
    "ACCEPT_CONNECTION_BURST": Flag.ACCEPT_BURST,
    "TCP_KEEPALIVE_TIME": Flag.KEEPALIVE,
    "TCP_USER_TIMEOUT": Flag.USER_TIMEOUT,
    "TCP_WRITE_TIMEOUT": Flag.WRITE_TIMEOUT,
}

_IP_DERPER = {
    "DERP_HOST": Flag.HOSTNAME,
    "DERP_ADDR": Flag.ADDRESS,
    "DERP_HTTP_PORT": Flag.HTTP_PORT,
    "DERP_STUN": Flag.STUN,
    "DERP_CERTS": Flag.CERT_DIR,
    "DERP_VERIFY_CLIENTS": Flag.VERIFY_CLIENTS,
}

_FREDLIANG = {
    "DERP_DOMAIN": Flag.HOSTNAME,
    "DERP_ADDR": Flag.ADDRESS,
    "DERP_HTTP_PORT": Flag.HTTP_PORT,
    "DERP_STUN": Flag.STUN,
    "DERP_STUN_PORT": Flag.STUN_PORT,
    "DERP_CERT_MODE": Flag.CERT_MODE,
    "DERP_CERT_DIR": Flag.CERT_DIR,
    "DERP_VERIFY_CLIENTS": Flag.VERIFY_CLIENTS,
    "DERP_VERIFY_CLIENT_URL": Flag.VERIFY_URL,
    "DERP_VERIFY_CLIENT_URL_FAIL_OPEN": Flag.FAIL_OPEN,  # ofwh's fork alone
}

_NITEZS = {
    "DERP_HOSTNAME": Flag.HOSTNAME,
    "DERP_ADDR": Flag.ADDRESS,
    "DERP_HTTP_PORT": Flag.HTTP_PORT,
    "DERP_STUN_ENABLE": Flag.STUN,
    "DERP_STUN_PORT": Flag.STUN_PORT,
    "DERP_CERTMODE": Flag.CERT_MODE,
    "DERP_VERIFY_CLIENTS": Flag.VERIFY_CLIENTS,
}

_ARCTIC = {
    "DERP_DOMAIN": Flag.HOSTNAME,
    "DERP_PORT": Flag.PORT,
    "DERP_HTTP_PORT": Flag.HTTP_PORT,
    "DERP_STUN": Flag.STUN,
    "DERP_STUN_PORT": Flag.STUN_PORT,
    "DERP_CERT_MODE": Flag.CERT_MODE,
    "DERP_CERT_DIR": Flag.CERT_DIR,
    "DERP_VERIFY_CLIENTS": Flag.VERIFY_CLIENTS,
    "DERP_VERIFY_CLIENT_URL": Flag.VERIFY_URL,
}

_WITH_TAILSCALED = {
    "TAILSCALE_DERP_HOSTNAME": Flag.HOSTNAME,
    "TAILSCALE_DERP_CERTMODE": Flag.CERT_MODE,
    "TAILSCALE_DERP_VERIFY_CLIENTS": Flag.VERIFY_CLIENTS,
    "TAILSCALE_AUTH_KEY": Flag.AUTH_KEY,
}

_YOUNGV = {
    "DERP_HOST": Flag.HOSTNAME,
    "DERP_PORT": Flag.PORT,
    "HTTP_PORT": Flag.HTTP_PORT,
    "STUN_PORT": Flag.STUN_PORT,
    "VERIFY_CLIENTS": Flag.VERIFY_CLIENTS,
    "TZ": Flag.TIME_ZONE,
}

_CERTS = "/app/certs"

FAMILIES = (
    Family(
        "camllia/derper",
        _XAVIER,
        cert_mode="manual",
        cert_dir="/root/derper-certs",
        verifies=True,
        images=("camllia/derper", "xavieralpha/derper"),
    ),
    Family(
        "fredliang/derper",
        _FREDLIANG,
        cert_mode="letsencrypt",
        cert_dir=_CERTS,
        verifies=False,
        images=("fredliang/derper", "derper-docker"),
    ),
    Family(
        "yangchuansheng/ip_derper",
        _IP_DERPER,
        cert_mode="manual",
        cert_dir=_CERTS,
        verifies=False,
        images=("ip_derper",),
    ),
    Family(
        "nitezs/derper",
        _NITEZS,
        cert_mode="letsencrypt",
        cert_dir=_CERTS,
        verifies=False,
        images=("nitezs/",),
    ),
    Family(
        "arcticlampyrid/derper-custom-cert",
        _ARCTIC,
        cert_mode="manual",
        cert_dir=_CERTS,
        verifies=False,
        images=("derper-custom-cert", "derper_custom_cert"),
    ),
    Family(
        "tijjjy/tailscale-derp",
        _WITH_TAILSCALED,
        cert_mode="letsencrypt",
        cert_dir=_CERTS,
        verifies=False,
        images=("tailscale-derp",),
    ),
    Family(
        "youngv/derper",
        _YOUNGV,
        cert_mode="letsencrypt",
        cert_dir=_CERTS,
        verifies=False,
        images=("youngv/",),
    ),
)
"""Of two that fit an environment as well, the first is taken."""

FLAGS: Mapping[str, Flag] = {
    name: flag for family in FAMILIES for name, flag in family.variables.items()
}
"""Every variable of every family."""

_IN_EVERY_CONTAINER = frozenset({"HOSTNAME", "TZ"})


def family_of(environ: Mapping[str, str], image: str = "") -> Family | None:
    """Tell whose variables these are; None: nobody's.

    Args:
        environ: Variables of a container.
        image: What it was made of, if that is known.
    """
    for family in FAMILIES:
        if any(part in image.lower() for part in family.images):
            return family
    said = {name for name, value in environ.items() if value} - _IN_EVERY_CONTAINER
    best = max(FAMILIES, key=lambda family: len(said & family.variables.keys()))
    if said & best.variables.keys():
        return best
    is_named = names_a_server(environ.get("HOSTNAME", "").strip())
    return FAMILIES[0] if is_named else None


def names_a_server(hostname: str) -> bool:
    """Tell what somebody meant clients to dial from what a container runtime sets.

    Docker sets `HOSTNAME` to twelve hex digits or to the name of the machine, and
    Kubernetes to the name of the pod: none of them has a dot, a colon or a slash.
    """
    return any(mark in hostname for mark in ".:/")
