"""A step of a translation: whom the node meshes with."""

from derpmesh.images.draft import Draft, Tree
from derpmesh.images.families import Flag
from derpmesh.images.listening import bracketed
from derpnode.config import MeshPeer, is_ip


KEY_FILE = "/etc/derpmesh/mesh.key"
"""Where the mesh key is, if the variables do not say."""


def mesh(draft: Draft) -> None:
    """Say whom it meshes with, and by which key."""
    if Flag.MESH_KEY in draft.said:
        draft.put("mesh.key_file", draft.text(Flag.MESH_KEY))
        draft.remark(Flag.MESH_KEY, "mesh.key_file; its mode must be 0600")
    if Flag.MESH_WITH not in draft.said:
        return
    peers = []
    for part in draft.text(Flag.MESH_WITH).split(","):
        peer = _peer(draft, part.strip())
        if peer:
            peers.append(peer)
    if not peers:
        return
    draft.put("mesh.peers", peers)
    draft.remark(
        Flag.MESH_WITH, "mesh.peers; nodes of ours find each other by registry"
    )
    if Flag.MESH_KEY not in draft.said:
        draft.put("mesh.key_file", KEY_FILE)
        draft.refuse(Flag.MESH_KEY, f"nodes mesh by a key; put it into {KEY_FILE}")


def _peer(draft: Draft, text: str) -> Tree | None:
    """Read `HOST` or `HOST/DIAL`, as derper does; None for the node itself."""
    host, _, dial = text.partition("/")
    if not host or host == draft.host:
        return None
    peer: Tree = {"url": f"https://{host}"}
    if dial and is_ip(dial):
        peer["dial"] = f"{bracketed(dial)}:443"
    elif dial:
        hint = "set mesh.peers[].dial to IP:PORT"
        draft.refuse(Flag.MESH_WITH, f"{dial!r:.80} is no IP address to dial; {hint}")
    try:
        MeshPeer.model_validate(peer)
    except ValueError:
        hint = "set mesh.peers by hand"
        draft.refuse(Flag.MESH_WITH, f"{host!r:.80} is no host to dial; {hint}")
        return None
    return peer
