"""What is asked of somebody who starts a node, and what it makes. Pure."""

import ipaddress
import os
import re
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from derpctl.errors import CtlError
from derpctl.exits import Exit
from derpmesh.config import DaemonConfig
from derpnode.config import is_ip


Tree = dict[str, object]

FILE = "file"
"""Answer to where nodes are recorded, if not in etcd."""

KEYS, TAILSCALED, EVERYBODY = "keys", "tailscaled", "everybody"
"""Answers to who may connect; a URL is one as well."""

_SOCKET = "/var/run/tailscale/tailscaled.sock"
_SYSTEM = Path("/etc/derpmesh")
_SYSTEM_STATE = Path("/var/lib/derpd")
_CODE = re.compile(r"[a-z0-9-]{1,32}")
_MOST_SOCKET_PATH = 107  # bytes; unix(7), sun_path


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """All of them."""

    region: int
    code: str
    name: str
    host: str
    """What clients dial."""
    admit: tuple[str, ...]
    """`keys`, `tailscaled`, `tailscaled:SOCKET`, a URL; or `everybody`."""
    etcd: tuple[str, ...] = ()
    """Endpoints; without any the region is in a file."""
    directory: Path
    """Where the files are; absolute."""
    node: str
    """Name of the node."""
    certificate: Path | None = None
    """Of a domain; by default in the directory."""
    key: Path | None = None
    mesh_key: Path | None = None
    """That of the region, if it has one; by default one is made."""

    @property
    def config_file(self) -> Path:
        """Of `derpd`."""
        return self.directory / "derpd.yaml"

    @property
    def region_file(self) -> Path:
        """What nodes find each other by, without etcd."""
        return self.directory / "region.yaml"

    @property
    def clients_file(self) -> Path:
        """Who may connect, by key."""
        return self.directory / "clients"

    @property
    def mesh_key_file(self) -> Path:
        """The secret that nodes of the region share."""
        return self.mesh_key or self.directory / "mesh.key"

    @property
    def state(self) -> Path:
        """What the node keeps for itself."""
        if self.directory == _SYSTEM:
            return _SYSTEM_STATE
        return self.directory / "state"

    @property
    def pair(self) -> tuple[Path, Path] | None:
        """Certificate and key that somebody must bring; None for an address."""
        if is_ip(self.host):
            return None
        return (
            self.certificate or self.directory / f"{self.host}.crt",
            self.key or self.directory / f"{self.host}.key",
        )

    @property
    def admin(self) -> str:
        """URL by which derpctl reaches the node."""
        socket = self.state / "admin.sock"
        is_short = len(os.fsencode(socket)) <= _MOST_SOCKET_PATH
        return f"unix:{socket}" if is_short else "http://127.0.0.1:9090"


def is_loopback(host: str) -> bool:
    """Tell whether only this machine dials it."""
    return is_ip(host) and ipaddress.ip_address(host).is_loopback


def daemon_tree(answers: Answers) -> Tree:
    """Make the configuration of `derpd`.

    Raises:
        CtlError: It would be an open relay, or an answer cannot be used.
    """
    host = answers.host
    if EVERYBODY in answers.admit and not is_loopback(host):
        reason = "an open relay on a public address carries strangers' traffic"
        hint = "give --admit keys, tailscaled or a URL"
        value = f"--admit {EVERYBODY}"
        raise CtlError(value, reason, hint, Exit.REFUSED)
    if not _CODE.fullmatch(answers.code):
        value, hint = f"--code {answers.code}", "write 1 to 32 of a to z, 0 to 9 and -"
        raise CtlError(value, "no code", hint, Exit.USAGE)
    tree: Tree = {
        "node": {"name": answers.node, "host": host},
        "region": {
            "id": answers.region,
            "code": answers.code,
            "name": answers.name,
        },
        "state_dir": str(answers.state),
        **_listeners(host),
        **_tls(answers),
        "admission": _admission(answers),
        "mesh": {"key_file": str(answers.mesh_key_file)},
        "registry": (
            {"etcd": {"endpoints": list(answers.etcd)}}
            if answers.etcd
            else {"file": str(answers.region_file)}
        ),
    }
    _check(tree)
    return tree


def derpctl_tree(answers: Answers) -> Tree:
    """Make the configuration of derpctl."""
    tree: Tree = {
        "region": answers.region,
        "nodes": [{"name": answers.node, "admin": answers.admin}],
    }
    if answers.etcd:
        tree["registry"] = {"etcd": {"endpoints": list(answers.etcd)}}
    return tree


def _listeners(host: str) -> Tree:
    """Stay on loopback where clients dial loopback."""
    if not is_loopback(host):
        return {}
    shown = f"[{host}]" if ":" in host else host
    ports = {"derp": 443, "http": 80, "stun": 3478}
    return {name: {"listen": [f"{shown}:{port}"]} for name, port in ports.items()}


def _tls(answers: Answers) -> Tree:
    pair = answers.pair
    if pair is None:
        return {}
    return {"tls": {"certificate": str(pair[0]), "key": str(pair[1])}}


def _admission(answers: Answers) -> Tree:
    found: Tree = {}
    sockets, urls = [], []
    for one in answers.admit:
        kind, _, socket = one.partition(":")
        if one == EVERYBODY:
            found["mode"] = "open"
        elif one == KEYS:
            found["key_file"] = str(answers.clients_file)
        elif kind == TAILSCALED:
            sockets.append(socket or _SOCKET)
        elif one.startswith(("http://", "https://")):
            urls.append(one)
        else:
            hint = "give keys, tailscaled, tailscaled:SOCKET, a URL or everybody"
            value, reason = f"--admit {one}", "nobody is called so"
            raise CtlError(value, reason, hint, Exit.USAGE)
    if sockets:
        found["tailscaled"] = sockets
    if urls:
        found["urls"] = urls
    return found


def _check(tree: Tree) -> None:
    """Refuse what `derpd` would.

    Raises:
        CtlError: Says which key, in its words.
    """
    try:
        problems = list(DaemonConfig.model_validate(tree).problems())
    except ValidationError as exc:
        error = exc.errors()[0]
        place = (part for part in error["loc"] if not str(part).startswith("function"))
        where = ".".join(map(str, place))
        reason = error["msg"].removeprefix("Value error, ")
        hint = "see docs/reference/configuration.md"
        raise CtlError(where, reason, hint, Exit.USAGE) from None
    for problem in problems:
        raise CtlError(problem.setting, problem.reason, problem.hint, Exit.USAGE)
