"""The settings of one node: a strict model of the configuration file.

Values come from the YAML file, then from the environment (`DERPD_A__B` sets
`a.b`), then from overrides on a command line; later ones win. An instance is
always usable: whatever can be judged without touching the network is judged here.
"""

import copy
import difflib
import ipaddress
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, Self, TypeVar, cast, get_args
from urllib.parse import urlsplit

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)
from pydantic_core import ErrorDetails

from derpnode.errors import ConfigError, NodeError


ENVIRONMENT_PREFIX = "DERPD_"
"""Variables that set configuration keys begin with this."""

NO_ADDRESS = "none"
"""What a map says of a family that a node does not have."""

_MAX_PORT = 65_535
_HIDDEN = "…"  # instead of a value that may be a secret
_PIN = re.compile(r"sha256-raw:[0-9a-f]{64}")
_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_DNS_NAME = re.compile(
    r"(?=.{1,253}$)[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
    r"(\.[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?)*"
)

IpAddress = ipaddress.IPv4Address | ipaddress.IPv6Address


@dataclass(eq=False)
class InvalidConfig(NodeError):
    """The configuration cannot be used; nothing was started."""

    problems: Sequence[ConfigError]

    def __str__(self) -> str:
        return "\n".join(str(problem) for problem in self.problems)


@dataclass(frozen=True, slots=True)
class Address:
    """A TCP or UDP address to listen on; `host` is an IP literal or empty."""

    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach the address."""
        return self.host != "" and ipaddress.ip_address(self.host).is_loopback


def parse_address(text: object) -> Address:
    """Read `HOST:PORT`, `[V6]:PORT` or `:PORT` (every address, both families).

    Raises:
        ValueError: It is none of these, or the port is not in 0 to 65535.
    """
    if isinstance(text, Address):
        return text
    host, colon, port = str(text).rpartition(":")
    if not colon or not port.isascii() or not port.isdecimal() or int(port) > _MAX_PORT:
        message = "not HOST:PORT with a port from 0 to 65535"
        raise ValueError(message)
    if host.startswith("[") and host.endswith("]"):
        host = str(ipaddress.IPv6Address(host[1:-1]))
    elif host:
        host = str(ipaddress.IPv4Address(host))
    return Address(host, int(port))


def is_ip(host: str) -> bool:
    """Tell an IP literal from a DNS name."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _host(text: str) -> str:
    if "://" in text:
        message = "has a scheme; give the bare name or address"
        raise ValueError(message)
    if is_ip(text):
        return _dialled(text)
    if text.rpartition(".")[2].isdigit():
        message = "not an IPv4 address: four numbers from 0 to 255, none with a 0 first"
        raise ValueError(message)
    if not _DNS_NAME.fullmatch(text):
        message = "not a DNS name or an IP address (ports belong to `listen`)"
        raise ValueError(message)
    return text


def _dialled(text: str) -> str:
    """Refuse an address that nobody else can dial."""
    address = ipaddress.ip_address(text)
    if address.is_unspecified or address.is_multicast:
        message = "no client can dial this address; give the one that they do"
        raise ValueError(message)
    if "%" in text:
        message = "it has a zone, which means nothing on another machine"
        raise ValueError(message)
    return text


def _node_name(text: str) -> str:
    if not _NAME.fullmatch(text):
        message = "not 1 to 63 of a-z, 0-9 and -"
        raise ValueError(message)
    return text


def _url(text: str) -> str:
    if not text.startswith(("http://", "https://")):
        message = "not an http:// or https:// URL"
        raise ValueError(message)
    url = urlsplit(text)  # says what is wrong with brackets
    if not url.hostname:
        message = "no host in it"
        raise ValueError(message)
    _ = url.port  # says what is wrong with it
    return text


def _ipv4(value: object) -> object:
    if value == NO_ADDRESS or isinstance(value, ipaddress.IPv4Address):
        return value
    return ipaddress.IPv4Address(str(value))


def _ipv6(value: object) -> object:
    if value == NO_ADDRESS or isinstance(value, ipaddress.IPv6Address):
        return value
    found = ipaddress.IPv6Address(str(value))
    if found.scope_id is not None:
        message = "it has a zone, which means nothing on another machine"
        raise ValueError(message)
    return found


def _pin(text: str) -> str:
    if not _PIN.fullmatch(text):
        message = "not sha256-raw: and 64 lower-case hex digits"
        raise ValueError(message)
    return text


def _off(value: object) -> object:
    return "off" if value is False else value  # YAML 1.1 takes a bare `off` for false


def _path(value: object) -> object:
    return Path(value) if isinstance(value, str) else value


AUTO_NAME = "auto"
"""Stands for a name that the registry is to give."""

Listen = Annotated[Address, BeforeValidator(parse_address)]
Host = Annotated[str, AfterValidator(_host)]
NodeName = Annotated[str, AfterValidator(_node_name)]
Url = Annotated[str, AfterValidator(_url)]
MapIPv4 = Annotated[ipaddress.IPv4Address | Literal["none"], BeforeValidator(_ipv4)]
MapIPv6 = Annotated[ipaddress.IPv6Address | Literal["none"], BeforeValidator(_ipv6)]
PinText = Annotated[str, AfterValidator(_pin)]
FilePath = Annotated[Path, BeforeValidator(_path)]
TlsMode = Annotated[
    Literal["auto", "files", "self-signed", "off"], BeforeValidator(_off)
]
Seconds = Annotated[float, Field(gt=0, le=86_400, strict=False)]
Count = Annotated[int, Field(ge=0)]


class Section(BaseModel):
    """A part of the configuration: frozen, typed, no unknown keys."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        strict=True,
        arbitrary_types_allowed=True,
        use_attribute_docstrings=True,
    )


class NodeSection(Section):
    """Who this node is."""

    name: NodeName = "900a"
    """Name in the DERP map, unique over all regions: region id and a letter. `auto`:
    the first letter that is free in the region's registry, kept in `state_dir`."""

    host: Host = "127.0.0.1"
    """What clients dial: a DNS name, or an IP address (then pinned, no domain)."""

    ipv4: MapIPv4 | None = None
    """IPv4 address for the map; `none` turns the family off. Default: from `host`."""

    ipv6: MapIPv6 | None = None
    """IPv6 address for the map; `none` turns the family off. Default: from `host`."""


class RegionSection(Section):
    """The region this node belongs to."""

    id: Annotated[int, Field(ge=1, le=65_535)] = 900
    """Region id; 900 to 999 are reserved for relays of your own."""

    code: str = "derpmesh"
    """Short tag of the region in client output."""

    name: str = "derpmesh"
    """Name of the region for people."""


class DerpSection(Section):
    """The relay and its public port."""

    enabled: bool = True
    """False runs a STUN-only node; probe and challenge paths still answer."""

    listen: Annotated[list[Listen], Field(min_length=1)] = [Address("", 443)]
    """Addresses of the relay, `HOST:PORT`; an empty host is every address."""

    public_port: Annotated[int, Field(ge=1, le=65_535)] | None = None
    """Port that clients dial, where it is not the one listened on."""

    home: str = "blank"
    """Page at `/`: `blank`, `default`, or a URL to redirect to."""

    serve_map: bool = False
    """Whether the public ports give the region's map to everybody, at
    `/derpmap/default` and `/derpmap.json`."""

    disallow_app_names: list[str] = []
    """Refuse clients that announce one of these names. Advisory: self-declared."""

    @model_validator(mode="after")
    def _home_is_known(self) -> Self:
        if self.home not in ("blank", "default"):
            _url(self.home)
        return self


class HttpSection(Section):
    """The plain HTTP port: captive-portal checks, everything else redirected."""

    enabled: bool = True
    """Whether to listen at all."""

    listen: Annotated[list[Listen], Field(min_length=1)] = [Address("", 80)]
    """Addresses, `HOST:PORT`."""


class StunSection(Section):
    """The STUN server."""

    enabled: bool = True
    """Whether to listen. Clients choose their home by STUN."""

    listen: Annotated[list[Listen], Field(min_length=1)] = [Address("", 3478)]
    """UDP addresses, `HOST:PORT`."""

    public_port: Annotated[int, Field(ge=1, le=65_535)] | None = None
    """Port that clients ask, where it is not the one listened on."""


class TlsSection(Section):
    """The certificate of the public port."""

    mode: TlsMode = "auto"
    """`auto`: `files` where `certificate` is set, else `self-signed` for an IP host.

    `off` serves plain HTTP, for a proxy on this machine that ends TLS.
    """

    certificate: FilePath | None = None
    """PEM file: the leaf, then its intermediates. Watched and reloaded."""

    key: FilePath | None = None
    """PEM file: the private key of the leaf."""

    @model_validator(mode="after")
    def _pair_is_whole(self) -> Self:
        if (self.certificate is None) != (self.key is None):
            message = "certificate and key go together; set both or neither"
            raise ValueError(message)
        if self.mode == "files" and self.certificate is None:
            message = "mode files needs certificate and key"
            raise ValueError(message)
        return self


class AdmissionSection(Section):
    """Who may relay. Any one source that says yes admits a client."""

    mode: Literal["any", "open"] = "any"
    """`any`: one of the sources must allow the key. `open`: everybody may relay."""

    i_know_this_is_public: bool = False
    """Needed for `open` on an address that is not loopback: strangers will use it."""

    key_file: FilePath | None = None
    """File of node keys, one `nodekey:…` a line, `#` comments. Watched."""

    tailscaled: list[FilePath] = []
    """Unix sockets of tailscaled; a client its tailnet knows is allowed."""

    urls: list[Url] = []
    """URLs asked as derper does: headscale's `/verify`, or your own."""

    timeout: Seconds = 2.0
    """Seconds a socket or URL may take to answer."""

    allow_ttl: Seconds = 900.0
    """Seconds for which a yes is remembered without asking again."""

    deny_ttl: Seconds = 30.0
    """Seconds for which a no is remembered without asking again."""

    grace: Annotated[float, Field(ge=0, le=30 * 86_400, strict=False)] = 86_400.0
    """Seconds for which a key seen before stays allowed while no source answers."""

    @property
    def sources(self) -> int:
        """How many places are asked."""
        return (self.key_file is not None) + len(self.tailscaled) + len(self.urls)


class MeshPeer(Section):
    """A relay of the region that no registry names: a Go derper, say."""

    url: Url
    """`https://HOST[:PORT]`; its path is `/derp`."""

    pin: PinText | None = None
    """`sha256-raw:` and the SHA-256 of its certificate; else the chain is checked."""

    ca_file: FilePath | None = None
    """PEM file of what is trusted instead of the system's roots."""

    dial: Listen | None = None
    """`IP:PORT` to connect to, where it is not the URL's host."""


class MeshSection(Section):
    """The right to mesh, and relays that no registry names."""

    key_file: FilePath | None = None
    """File with the mesh key: 64 hex digits, readable by its owner alone. Watched.

    Keys beside it, in `.next` and `.previous`, are taken of peers as well.
    """

    ca_file: FilePath | None = None
    """PEM file of what is trusted of members without a pin; else the system's roots."""

    peers: list[MeshPeer] = []
    """Relays that are in the region beside its members. They must dial us, too."""


class LimitsSection(Section):
    """What one client or stranger may cost. 0 turns a cap off."""

    accept_rate: Count = 1_000
    """New connections a second per listener; more are closed at once."""

    accept_burst: Count = 2_000
    """New connections that may come at once."""

    handshakes: Count = 4_096
    """Connections that may be between accept and login."""

    source_handshakes: Count = 64
    """The same per source: an IPv4 address or an IPv6 /64."""

    source_connections: Count = 1_024
    """Connections per source."""

    connections: Count = 0
    """Connections of the node."""

    receive_rate: Count = 0
    """Bytes a second read from one client; slowed down, never dropped."""

    receive_burst: Count = 0
    """Bytes a client may send at once; at least one frame (65,568)."""

    queued_bytes: Annotated[int, Field(ge=1 << 20)] = 256 << 20
    """Bytes that wait for slow receivers, over the whole node."""

    write_timeout: Annotated[float, Field(ge=0, le=3_600, strict=False)] = 2.0
    """Seconds without progress until a receiver that does not read is cut."""

    tcp_user_timeout: Annotated[float, Field(ge=0, le=3_600, strict=False)] = 15.0
    """Seconds of unacknowledged data until the kernel gives a connection up."""

    tcp_keepalive: Annotated[float, Field(ge=0, le=86_400, strict=False)] = 600.0
    """Idle seconds until TCP keepalive probes begin."""


class AdminSection(Section):
    """The admin listener: health, metrics, `/v1`. Never on a public port."""

    listen: list[str] = ["127.0.0.1:9090"]
    """TCP addresses `HOST:PORT`. Off loopback, `/v1` needs a token and TLS."""

    host: Host | None = None
    """What other machines dial for the first of these addresses that is off loopback.
    Default: that address, or `node.host` if it is every address."""

    socket: FilePath | None = None
    """Unix socket, mode 0660. Default: `admin.sock` in the state directory."""

    token_file: FilePath | None = None
    """File with the token that `/v1` asks for on TCP addresses off loopback."""

    certificate: FilePath | None = None
    """PEM certificate for admin addresses off loopback."""

    key: FilePath | None = None
    """PEM key for `certificate`."""

    public_metrics: bool = False
    """Whether `/metrics` is served on admin addresses off loopback, with no token."""

    @model_validator(mode="after")
    def _listen_is_safe(self) -> Self:
        for text in self.listen:
            if parse_address(text).is_loopback:
                continue
            if self.certificate is None or self.key is None:
                message = f"{text} is not loopback: set certificate and key"
                raise ValueError(message)
            if self.token_file is None:
                message = f"{text} is not loopback: set token_file"
                raise ValueError(message)
        return self


class BootstrapSection(Section):
    """`/bootstrap-dns`: names that clients may ask here when their DNS is dead."""

    names: list[Host] = []
    """DNS names published to everybody, looked up every ten minutes."""


class LogSection(Section):
    """What is logged, and how."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    """Least severe level that is written."""

    format: Literal["auto", "text", "json"] = "auto"
    """`auto`: text on a terminal, JSON otherwise."""


class NodeConfig(Section):
    """Settings of one node."""

    node: NodeSection = NodeSection()
    region: RegionSection = RegionSection()
    state_dir: FilePath = Path("/var/lib/derpd")
    """Directory of the node's key and self-signed certificate; made with mode 0700."""

    plane: Literal["auto", "python", "native"] = "auto"
    """What moves packets: the compiled plane where there is one, or Python."""

    derp: DerpSection = DerpSection()
    http: HttpSection = HttpSection()
    stun: StunSection = StunSection()
    tls: TlsSection = TlsSection()
    admission: AdmissionSection = AdmissionSection()
    mesh: MeshSection = MeshSection()
    limits: LimitsSection = LimitsSection()
    admin: AdminSection = AdminSection()
    bootstrap_dns: BootstrapSection = BootstrapSection()
    drain_grace: Annotated[float, Field(ge=0, le=3_600, strict=False)] = 20.0
    """Seconds from SIGTERM until every client has been told and closed."""

    log: LogSection = LogSection()

    def problems(self) -> Iterator[ConfigError]:
        """Yield what is wrong between sections; each alone is already valid."""
        yield from check_config(self)

    @property
    def tls_mode(self) -> Literal["files", "self-signed", "off"]:
        """How the public port gets its certificate, `auto` resolved."""
        if self.tls.mode != "auto":
            return self.tls.mode
        return "files" if self.tls.certificate is not None else "self-signed"

    @property
    def has_http_port(self) -> bool:
        """Whether plain HTTP is served beside TLS; without TLS there is one port."""
        return self.http.enabled and self.tls_mode != "off"

    @property
    def admin_socket(self) -> Path:
        """Where the admin Unix socket is."""
        return self.admin.socket or self.state_dir / "admin.sock"

    @property
    def is_loopback(self) -> bool:
        """Whether nobody outside this machine can reach the relay.

        Without TLS the relay is for a proxy, which is there for the outside.
        """
        behind_proxy = self.tls_mode == "off"
        return not behind_proxy and all(a.is_loopback for a in self.derp.listen)

    @property
    def has_rules(self) -> bool:
        """Whether a registry may say of clients, by name, that they are let in."""
        return False


C = TypeVar("C", bound=NodeConfig)


def check_config(config: NodeConfig) -> Iterator[ConfigError]:
    """Yield what is wrong between sections; each alone is already valid."""
    if config.tls_mode == "self-signed" and not is_ip(config.node.host):
        yield ConfigError(
            "tls.mode",
            config.tls.mode,
            reason=f"{config.node.host} is a DNS name, which needs a real certificate",
            hint="set tls.certificate and tls.key, or give node.host an IP address",
        )
    if config.derp.enabled:
        yield from _check_admission(config)


def _check_admission(config: NodeConfig) -> Iterator[ConfigError]:
    admission = config.admission
    if admission.mode == "any" and not admission.sources and not config.has_rules:
        yield ConfigError(
            "admission",
            "any",
            reason="no source says who may relay, so nobody could",
            hint="set admission.key_file, admission.tailscaled or admission.urls "
            "(on loopback only, admission.mode: open will do)",
        )
    public = not config.is_loopback and not admission.i_know_this_is_public
    if admission.mode == "open" and public:
        yield ConfigError(
            "admission.mode",
            "open",
            reason="an open relay on a public address carries strangers' traffic",
            hint="set admission.key_file, tailscaled or urls, or say "
            "admission.i_know_this_is_public: true",
        )


Tree = dict[str, object]


def load_config(
    path: Path | None,
    environ: Mapping[str, str],
    overrides: Sequence[str] = (),
) -> NodeConfig:
    """Read the configuration of a node alone; see `read_config`."""
    return read_config(NodeConfig, path, environ, overrides)


def read_config(
    model: type[C],
    path: Path | None,
    environ: Mapping[str, str],
    overrides: Sequence[str] = (),
    base: Mapping[str, object] | None = None,
) -> C:
    """Read a configuration and check it whole.

    Args:
        model: What it must be.
        path: The YAML file; None for the defaults alone.
        environ: Environment variables; those with our prefix set keys.
        overrides: `a.b=VALUE` texts, the value in YAML; they win over all.
        base: What holds where there is no file.

    Raises:
        InvalidConfig: Something cannot be used; every problem is listed.
    """
    tree = _read(path) if path is not None else copy.deepcopy(dict(base or {}))
    for name, value in _environment(environ):
        _assign(tree, name, value)
    for override in overrides:
        name, equals, value = override.partition("=")
        if not equals:
            raise InvalidConfig(
                [ConfigError("--set", override, "no `=` in it", "write KEY=VALUE")]
            )
        _assign(tree, name, value)
    try:
        config = model.model_validate(tree)
    except ValidationError as exc:
        problems = [_problem(model, error) for error in exc.errors()]
        raise InvalidConfig(problems) from None
    problems = list(config.problems())
    if problems:
        raise InvalidConfig(problems)
    return config


def _read(path: Path) -> Tree:
    try:
        tree = _yaml(path.read_text("utf-8"))
    except OSError as exc:
        reason, hint = f"cannot be read: {exc.strerror}", "check the path and its mode"
        raise InvalidConfig([ConfigError("--config", str(path), reason, hint)]) from exc
    except (yaml.YAMLError, UnicodeDecodeError) as exc:
        reason = f"not YAML: {' '.join(str(exc).split())}"
        hint = "see docs/reference/configuration.md"
        raise InvalidConfig([ConfigError("--config", str(path), reason, hint)]) from exc
    if tree is None:
        return {}
    if not isinstance(tree, dict):
        reason, hint = "not a mapping of keys", "see docs/reference/configuration.md"
        raise InvalidConfig([ConfigError("--config", str(path), reason, hint)])
    return cast("Tree", tree)


def _environment(environ: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Yield (dotted key, text) for every variable of ours, in a stable order."""
    for name in sorted(environ):
        if name.startswith(ENVIRONMENT_PREFIX) and environ[name] != "":
            dotted = name.removeprefix(ENVIRONMENT_PREFIX).lower().replace("__", ".")
            yield dotted, environ[name]


def _assign(tree: Tree, dotted: str, text: str) -> None:
    """Set one key from text; the text is YAML, so lists and numbers work."""
    *parents, last = dotted.split(".")
    for parent in parents:
        below = tree.setdefault(parent, {})
        if not isinstance(below, dict):
            below = tree[parent] = {}
        tree = cast("Tree", below)
    try:
        tree[last] = _yaml(text)
    except yaml.YAMLError:
        tree[last] = text


def _yaml(text: str) -> object:
    """Read YAML.

    Raises:
        yaml.YAMLError: It is none, or holds what the library cannot make: the 31st
            of February, a number of 5,000 digits, lists in lists without end.
    """
    try:
        value: object = yaml.safe_load(text)
    except (ValueError, LookupError, AttributeError, TypeError, RecursionError) as exc:
        raise yaml.YAMLError(exc) from exc
    return value


def _problem(model: type[BaseModel], error: ErrorDetails) -> ConfigError:
    """Put one finding of pydantic into our words: key, value, reason, remedy."""
    path = [part for part in error["loc"] if not str(part).startswith("function-")]
    setting = ".".join(str(part) for part in path)
    if error["type"] == "extra_forbidden":
        # Its value is not shown: it may be a secret in the wrong place.
        return ConfigError(setting, _HIDDEN, "unknown key", _nearest(model, path))
    reason = error["msg"].removeprefix("Value error, ")
    reason = reason[0].lower() + reason[1:]
    value = error["input"] if error["type"] != "missing" else None
    if setting.startswith("admission.urls"):
        value = _HIDDEN  # user, path and query of a URL may be secret
    return ConfigError(setting, value, reason, "see docs/reference/configuration.md")


def _nearest(section: type[BaseModel], path: Sequence[int | str]) -> str:
    """Say which keys there are, the most alike first."""
    for part in path[:-1]:
        field = section.model_fields.get(str(part))
        if field is None:  # the number of an item
            continue
        # The section itself, or that of the items of a list.
        inner = get_args(field.annotation) or (field.annotation,)
        if isinstance(inner[0], type) and issubclass(inner[0], BaseModel):
            section = inner[0]
    known = list(section.model_fields)
    close = difflib.get_close_matches(str(path[-1]), known, n=1)
    if close:
        return f"did you mean {close[0]}?"
    return f"the keys here are {', '.join(sorted(known))}"
