"""Lays a demo out in a directory: the files of each node, and derpctl's own."""

import fcntl
import hashlib
import ipaddress
import os
import string
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import yaml

from derpctl.authority import Authority
from derpctl.demo.choices import Tls
from derpctl.demo.ports import ADMIN_HOST, Ports, are_free, free_ports
from derpctl.errors import CtlError
from derpctl.exits import Exit
from derpmesh.config import DaemonConfig, load_daemon_config
from derpnode.config import Address, InvalidConfig, parse_address
from derpnode.wire.errors import BadKeyText
from derpnode.wire.keys import KEY_SIZE, MeshKey


_MAX_SOCKET_PATH = 107  # bytes; unix(7), sun_path
_LOCALHOST = "localhost"

Tree = dict[str, object]


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What was asked for."""

    nodes: int
    region: int
    directory: Path
    """Absolute; made if it is not there."""
    bind: str
    """IP address of the relays."""
    tls: Tls
    settings: Sequence[str]
    """`KEY=VALUE` for every node's configuration."""
    etcd: Sequence[str] = ()
    """Endpoints; without any, the nodes find each other by a file."""


@dataclass(frozen=True, slots=True)
class NodePlan:
    """One node, ready to be started."""

    name: str
    config_file: Path
    log_file: Path
    ports: Ports
    config: DaemonConfig
    """As the node will see it, overrides included."""

    @property
    def admin(self) -> str:
        """URL of its admin listener."""
        if self.config.admin.listen:
            return f"http://{self.config.admin.listen[0]}"
        return f"unix:{self.config.admin_socket}"


@dataclass(frozen=True, slots=True)
class Plan:
    """A region, ready to be started."""

    options: Options
    nodes: Sequence[NodePlan]
    mesh_key_file: Path
    region_file: Path
    """What the nodes find each other by."""
    derp_map_file: Path
    derpctl_config: Path
    ca_file: Path | None

    @property
    def mesh_key(self) -> MeshKey:
        """What its nodes mesh with."""
        return MeshKey.parse(self.mesh_key_file.read_text("ascii"))


def lock(directory: Path) -> IO[bytes]:
    """Take a directory for one demo, until the file is closed.

    Raises:
        CtlError: It cannot be used, or another demo uses it.
    """
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        file = (directory / "demo.lock").open("wb")
    except OSError as exc:
        reason = (exc.strerror or str(exc)).lower()
        value, hint = f"--dir = {directory}", "give a directory that can be written"
        raise CtlError(value, reason, hint, Exit.USAGE) from exc
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as exc:
        file.close()
        value, reason = f"--dir = {directory}", "another demo runs in it"
        hint = "stop that one, or give another directory"
        raise CtlError(value, reason, hint, Exit.REFUSED) from exc
    return file


def make_plan(options: Options, *, fresh_ports: bool = False) -> Plan:
    """Write what the nodes need, and check it as they would.

    Args:
        options: What was asked for.
        fresh_ports: Take none that the directory remembers.

    Raises:
        CtlError: An option cannot be used; nothing was started.
    """
    directory = options.directory
    mesh_key_file = directory / "mesh.key"
    _keep_mesh_key(mesh_key_file)
    ca_file = _certify(options) if options.tls is Tls.CA else None
    names = node_names(options)
    remembered = [] if fresh_ports else _remembered(options, names)
    ports = remembered or free_ports(options.bind, len(names))
    nodes = [_node(options, *pair) for pair in zip(names, ports, strict=True)]
    plan = Plan(
        options=options,
        nodes=nodes,
        mesh_key_file=mesh_key_file,
        region_file=_region_file(options),
        derp_map_file=directory / "derp_map.json",
        derpctl_config=directory / "derpctl.yaml",
        ca_file=ca_file,
    )
    _write_derpctl_config(plan)
    return plan


def node_names(options: Options) -> list[str]:
    """Name nodes by custom: region id and a letter."""
    letters = string.ascii_lowercase[: options.nodes]
    return [f"{options.region}{letter}" for letter in letters]


def _keep_mesh_key(path: Path) -> None:
    try:
        MeshKey.parse(path.read_text("ascii"))
    except FileNotFoundError:
        text = MeshKey(os.urandom(KEY_SIZE)).text() + "\n"
        write_file(path, text.encode(), mode=0o600)
    except (OSError, ValueError, BadKeyText) as exc:
        reason, hint = "holds no mesh key", "remove it, and one is made"
        raise CtlError(str(path), reason, hint, Exit.CONFIG) from exc


def _certify(options: Options) -> Path:
    """Make an authority and a certificate for each node; forget its key."""
    authority = Authority()
    ca_file = options.directory / "ca.crt"
    write_file(ca_file, authority.pem)
    for name in node_names(options):
        pair = authority.issue([_LOCALHOST, options.bind])
        certificate, key = _pair_files(options, name)
        write_file(certificate, pair.certificate)
        write_file(key, pair.key, mode=0o600)
    return ca_file


def _pair_files(options: Options, name: str) -> tuple[Path, Path]:
    return options.directory / f"{name}.crt", options.directory / f"{name}.key"


def _region_file(options: Options) -> Path:
    return options.directory / "region.yaml"


def _config_file(options: Options, name: str) -> Path:
    return options.directory / f"{name}.yaml"


def _remembered(options: Options, names: Sequence[str]) -> list[Ports]:
    """Give the ports of the last demo here, if all of them are free."""
    found = []
    for name in names:
        try:
            config = load_daemon_config(_config_file(options, name), {})
            admin = parse_address(config.admin.listen[0])
        except (InvalidConfig, IndexError):
            return []
        derp, http, stun = (
            section.listen[0].port
            for section in (config.derp, config.http, config.stun)
        )
        ports = Ports(derp, http, stun, admin.port)
        if not are_free(options.bind, ports):
            return []
        found.append(ports)
    return found


def _node(options: Options, name: str, ports: Ports) -> NodePlan:
    config_file = _config_file(options, name)
    text = yaml.safe_dump(_tree(options, name, ports), sort_keys=False)
    write_file(config_file, f"# A node of a demo, made by derpctl.\n{text}".encode())
    try:
        config = load_daemon_config(config_file, {}, options.settings)
    except InvalidConfig as exc:
        problem = exc.problems[0]
        value = f"{problem.setting} = {problem.value!r}"
        raise CtlError(value, problem.reason, problem.hint, Exit.CONFIG) from exc
    log_file = options.directory / f"{name}.log"
    return NodePlan(name, config_file, log_file, ports, config)


def _tree(options: Options, name: str, ports: Ports) -> Tree:
    """Make the configuration of one node."""
    four = ipaddress.ip_address(options.bind).version == 4  # noqa: PLR2004 - IPv4
    pinned = options.tls is Tls.PINNED
    certificate, key = _pair_files(options, name)
    files = {"mode": "files", "certificate": str(certificate), "key": str(key)}
    directory = options.directory
    mesh = {"key_file": str(directory / "mesh.key")}
    if not pinned:
        mesh["ca_file"] = str(directory / "ca.crt")
    return {
        "node": {
            "name": name,
            "host": options.bind if pinned else _LOCALHOST,
            "ipv4": options.bind if four else "none",
            "ipv6": "none" if four else options.bind,
        },
        "region": {"id": options.region, "code": "demo", "name": "derpmesh demo"},
        "state_dir": str(directory / name),
        "derp": {"listen": [str(Address(options.bind, ports.derp))]},
        "http": {"listen": [str(Address(options.bind, ports.http))]},
        "stun": {"listen": [str(Address(options.bind, ports.stun))]},
        "tls": {"mode": "self-signed"} if pinned else files,
        "admission": {"mode": "open"},
        "mesh": mesh,
        "registry": (
            {"etcd": {"endpoints": list(options.etcd)}}
            if options.etcd
            else {"file": str(_region_file(options))}
        ),
        "admin": {
            "listen": [str(Address(ADMIN_HOST, ports.admin))],
            "socket": str(_socket(directory, name)),
        },
        "log": {"format": "json"},
    }


def _socket(directory: Path, name: str) -> Path:
    """Choose a path for the admin socket; those of sockets must be short."""
    path = directory / f"{name}.sock"
    if len(os.fsencode(path)) <= _MAX_SOCKET_PATH:
        return path
    tag = hashlib.sha256(os.fsencode(path)).hexdigest()[:12]
    return Path(tempfile.gettempdir()) / f"derpctl-{tag}.sock"


def _write_derpctl_config(plan: Plan) -> None:
    tree: Tree = {
        "region": plan.options.region,
        "nodes": [{"name": node.name, "admin": node.admin} for node in plan.nodes],
    }
    if plan.options.etcd:
        tree["registry"] = {"etcd": {"endpoints": list(plan.options.etcd)}}
    if plan.ca_file is not None:
        tree["ca_file"] = str(plan.ca_file)
    text = yaml.safe_dump(tree, sort_keys=False)
    write_file(plan.derpctl_config, f"# derpctl --config THIS …\n{text}".encode())


def write_file(path: Path, data: bytes, *, mode: int = 0o644) -> None:
    """Put a whole file in place.

    Raises:
        CtlError: It cannot be written.
    """
    temporary = path.with_name(f".{path.name}.new")
    try:
        temporary.unlink(missing_ok=True)
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
        temporary.replace(path)
    except OSError as exc:
        reason, hint = (
            (exc.strerror or str(exc)).lower(),
            "make room, or check its mode",
        )
        raise CtlError(str(path), reason, hint, Exit.CONFIG) from exc
