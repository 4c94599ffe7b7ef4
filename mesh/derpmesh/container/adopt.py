"""From the variables and volumes of another image to a configuration of ours."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from derpmesh.container.answers import Tree, Unanswered, key_of, said_of, unanswered
from derpmesh.container.volumes import (
    Left,
    Move,
    goes_with_the_container,
    lone_address,
    state_of,
    what_is_left,
)
from derpmesh.images import Remark, Translation, translate


_SEED = "camllia/derper"
_SEED_CERTIFICATES = "root/derper-certs"


class Adopted(NamedTuple):
    """What the container is to do, before keys of ours are looked at."""

    tree: Tree
    """Part of a configuration; empty: nothing of another image is here."""
    remarks: list[str]
    """What an operator should read: our keys, above all."""
    moves: Sequence[Move] = ()
    """Files that the node is to take over before it starts."""


def adopt(environ: Mapping[str, str], root: Path = Path("/")) -> Adopted:
    """Read what another image's users set and mounted.

    Args:
        environ: All variables of the container.
        root: Where its files are.

    Raises:
        Unanswered: A variable means what we do not do; none is passed over.
        ConfigError: A volume cannot be used.
    """
    # Not Path.is_dir: a folder that we may not look into is no reason to end here.
    image = _SEED if os.path.isdir(root / _SEED_CERTIFICATES) else ""  # noqa: PTH112
    found = translate(environ, in_place=True)
    if not found.tree and not found.refusals:
        found = translate(environ, image, in_place=True)
    if not found.family:
        return Adopted({}, [])
    tree, refusals = found.tree, list(found.refusals)
    remarks = [_said(found, remark) for remark in found.remarks]
    left = Left(_below(root, found.folder), _below(root, found.identity))
    lone = None if _host(tree) else lone_address(left.folder)
    if lone is not None:
        refusals = [one for one in refusals if key_of(one.variable) != "node.host"]
        tree["node"] = {"host": lone}
        remarks.append(
            f"nothing says what clients dial: node.host is {lone}, as the certificate"
            f" in {left.folder} is for it; DERPD_NODE__HOST says another"
        )
    open_ = unanswered(refusals, environ, tree)
    if open_:
        raise Unanswered(open_)
    is_pinned = _is_pinned(tree) and not said_of(environ, "tls")
    state = state_of(environ, left if is_pinned else None)
    tree["state_dir"] = str(state)
    host = environ.get("DERPD_NODE__HOST") or _host(tree)
    moves = what_is_left(left, state, host if is_pinned else None)
    if goes_with_the_container(state):
        remarks.append(
            f"{state} goes with the container, and with it the node's key and the pin"
            " of its certificate; mount a volume there"
        )
    # Other images have no port of that kind, and on the host's network it may be taken.
    tree["admin"] = {"listen": []}
    return Adopted(tree, remarks, moves)


def _below(root: Path, absolute: str) -> Path:
    return root / absolute.lstrip("/")


def _host(tree: Tree) -> str:
    node = tree.get("node")
    return str(node.get("host", "")) if isinstance(node, dict) else ""


def _is_pinned(tree: Tree) -> bool:
    tls = tree.get("tls")
    return isinstance(tls, dict) and tls.get("mode") == "self-signed"


def _said(found: Translation, remark: Remark) -> str:
    return f"{remark.variable}, of {found.family}: {remark.text}"
