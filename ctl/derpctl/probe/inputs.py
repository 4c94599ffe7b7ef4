"""Finds a node to probe: in a file, or by asking it where it is."""

from dataclasses import replace
from pathlib import Path

from derpctl.admin import Admin, AdminFailed, NodeView
from derpctl.config import CtlConfig, read_token
from derpctl.errors import CtlError
from derpctl.exits import Exit
from derpctl.map.errors import BadMap
from derpctl.map.model import DerpMap
from derpctl.map.read import parse_derp_map, read_node
from derpctl.probe.target import Target, from_node
from derpnode.client import ClientTls
from derpnode.wire.errors import BadKeyText
from derpnode.wire.keys import MeshKey


def read_map(path: Path) -> DerpMap:
    """Read DERPMap JSON.

    Raises:
        CtlError: There is none, or it is something else.
    """
    text = _read(path, "--from-map")
    try:
        return parse_derp_map(text)
    except BadMap as exc:
        value = f"--from-map = {path}"
        hint = "give DERPMap JSON, as from derpctl map export -f derpmap"
        raise CtlError(value, str(exc), hint, Exit.INVALID) from exc


def mesh_key_from(path: Path | None) -> MeshKey | None:
    """Read a mesh key.

    Raises:
        CtlError: The file has none; the message does not show what it has.
    """
    if path is None:
        return None
    try:
        return MeshKey.parse(_read(path, "--mesh-key-file"))
    except BadKeyText as exc:
        value, hint = f"--mesh-key-file = {path}", "it must hold 64 hex digits"
        raise CtlError(value, str(exc), hint, Exit.CONFIG) from None


async def ask(
    config: CtlConfig,
    name: str,
    tls: ClientTls,
    *,
    timeout: float,  # noqa: ASYNC109 - part of the error
) -> Target:
    """Ask a node of ours where it is.

    Raises:
        CtlError: We have no such node, or it does not say.
    """
    known = {node.name: node.admin for node in config.nodes}
    if name not in known:
        reason = f"not among the nodes of region {config.region}"
        hint = f"there is {', '.join(known)}; or give HOST:PORT"
        raise CtlError(name, reason, hint, Exit.NOT_FOUND)
    token = read_token(config.token_file)
    try:
        view = await Admin(known[name], timeout, token, config.admin_authorities).node()
        return _target(view, replace(tls, ca_file=tls.ca_file or config.ca_file))
    except AdminFailed as exc:
        hint = "give HOST:PORT, or --from-map, to probe without its admin"
        raise CtlError(exc.url, exc.reason, hint, Exit.UNREACHABLE) from exc
    except BadMap as exc:
        hint = "give HOST:PORT, or --from-map"
        raise CtlError(name, str(exc), hint, Exit.INVALID) from exc


def _target(view: NodeView, tls: ClientTls) -> Target:
    node = read_node(f"{view.name}.map_entry", dict(view.map_entry))
    http = [address.rpartition(":")[2] for address in view.listeners.get("http", ())]
    ports = [int(port) for port in http if port.isdecimal()]
    return replace(
        from_node(node, tls),
        http_port=ports[0] if ports else None,
        server_key=view.server_key or None,
    )


def _read(path: Path, option: str) -> str:
    try:
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        reason = exc.strerror if isinstance(exc, OSError) else "not text"
        value, hint = f"{option} = {path}", "check the path and its mode"
        raise CtlError(
            value, (reason or "unreadable").lower(), hint, Exit.CONFIG
        ) from exc
