"""The environment of stock derper images, by which they mesh with the others."""

from collections.abc import Iterator, Sequence

from derpctl.map.canonical import revision
from derpctl.map.lint.finding import printable
from derpctl.map.model import (
    DEFAULT_DERP_PORT,
    DEFAULT_STUN_PORT,
    DerpMap,
    Node,
    Region,
)
from derpctl.map.policy import refuse_scores


KEY_FILE = "/etc/derpmesh/mesh.key"
"""Where images find the mesh key: whoever starts them mounts it there."""

_HEAD = """\
# DERP map, revision {revision}: how a stock derper takes the place of each node.
# Give a machine its section only. The names are those of camllia/derper, which is the
# one to take for a region of several nodes; those that begin with DERP_ are those of
# fredliang/derper, which cannot mesh. All need the region's mesh key, in
# {key_file}.
"""


def env(derp_map: DerpMap) -> str:
    """Write a section for each node, in the form of an env file.

    Raises:
        CannotCarry: The map has region scores, which relays know nothing of.
    """
    refuse_scores(derp_map, "the environment of a relay")
    lines = [
        line
        for number in sorted(derp_map.regions)
        for node in derp_map.regions[number].nodes
        for line in _section(node, derp_map.regions[number])
    ]
    head = _HEAD.format(revision=revision(derp_map), key_file=KEY_FILE)
    return head + "".join(f"{line}\n" for line in lines)


def _section(node: Node, region: Region) -> Iterator[str]:
    yield ""
    yield f"# {_shown(node.name)} of region {region.region_id}"
    reason = _no_derper(node)
    if reason:
        yield f"# {reason}"
        return
    others = [other for other in region.nodes if other is not node]
    mesh = [_target(other) for other in others if not _no_derper(other)]
    for other in others:
        if not other.stun_only and _no_derper(other):
            yield f"# Its derper cannot mesh with {_shown(other.name)}, see there."
    yield from _variables(node, mesh)


def _no_derper(node: Node) -> str:
    """Say why no derper can mesh with a node; nothing if one can."""
    if node.stun_only:
        return "It relays nothing, so that nothing meshes with it."
    if node.cert_name.startswith("sha256-raw:"):
        return (
            "derper cannot mesh with it: it is pinned, and derper checks chains only."
            " It needs a domain, or stays a node of ours."
        )
    if not node.host_name:
        return "It has no host name to dial."
    return ""


def _target(node: Node) -> str:
    port = node.derp_port or DEFAULT_DERP_PORT
    host = _shown(node.host_name)
    host = f"[{host}]" if ":" in host else host
    return host if port == DEFAULT_DERP_PORT else f"{host}:{port}"


def _variables(node: Node, mesh: Sequence[str]) -> Iterator[str]:
    host, port = _shown(node.host_name), node.derp_port or DEFAULT_DERP_PORT
    stun = node.stun_port or DEFAULT_STUN_PORT
    flags = [f"-hostname {host}", f"-a :{port}"]
    flags.append(f"-stun-port {stun}" if stun > 0 else "-stun=false")
    pairs = [("HOSTNAME", "DERP_DOMAIN", host), ("ADDR", "DERP_ADDR", f":{port}")]
    if stun > 0:
        pairs.append(("STUN_PORT", "DERP_STUN_PORT", str(stun)))
    else:
        pairs.append(("RUN_STUN", "DERP_STUN", "false"))
    # Other ports are not served with TLS unless the certificate is brought along.
    mode = "letsencrypt" if port == DEFAULT_DERP_PORT else "manual"
    pairs.append(("CERT_MODE", "DERP_CERT_MODE", mode))
    flags.append(f"-certmode {mode}")
    if mesh:
        flags += [f"-mesh-psk-file {KEY_FILE}", f"-mesh-with {','.join(mesh)}"]
    yield f"# derper {' '.join(flags)}"
    yield from (f"{name}={value}" for name, _, value in pairs)
    if mesh:
        yield f"MESH_PSKFILE={KEY_FILE}"
        yield f"MESH_WITH={','.join(mesh)}"
    yield from (f"{name}={value}" for _, name, value in pairs)


def _shown(text: str) -> str:
    """Give a text that stays on its line."""
    return printable(text)
