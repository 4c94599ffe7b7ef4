"""The command that replaces the mesh key, a step at a time: `POST /v1/mesh-key`."""

import json
from collections.abc import Mapping

from derpnode.server.admincommands import BadCommand, RefusedCommand
from derpnode.server.facts import NodeFacts
from derpnode.server.meshkeys import MeshKeyRefused, MeshKeys
from derpnode.wire.errors import BadKeyText
from derpnode.wire.keys import MeshKey


_STEPS = {
    "switch": MeshKeys.switch,
    "retire": MeshKeys.retire,
    "back": MeshKeys.back,
    "abort": MeshKeys.abort,
}
_PHASES = ("stage", *_STEPS)


async def mesh_key(facts: NodeFacts, body: bytes) -> dict[str, object]:
    """Take a step; one that was taken before changes nothing.

    Args:
        facts: The node.
        body: JSON: `phase`, and for `stage` the `key`. Errors do not repeat it.

    Raises:
        BadCommand: It is none.
        RefusedCommand: The step would do harm, or the files cannot be written.
    """
    phase, key = _parse(body)
    keys = facts.mesh_keys
    if keys is None:
        message = "mesh.key_file = None: this node has no mesh key; set one, restart it"
        raise RefusedCommand(message)
    try:
        if key is not None:
            await keys.stage(key)
        else:
            await _STEPS[phase](keys)
    except MeshKeyRefused as exc:
        raise RefusedCommand(str(exc)) from exc
    return {"name": facts.config.node.name, "mesh_keys": keys.fingerprints()}


def _parse(body: bytes) -> tuple[str, MeshKey | None]:
    """Read the phase, and the key of `stage`.

    Raises:
        BadCommand: There is something else.
    """
    try:
        found: object = json.loads(body)
    except (ValueError, RecursionError):
        message = "the body is no JSON"
        raise BadCommand(message) from None
    if not isinstance(found, Mapping) or found.get("phase") not in _PHASES:
        message = f"the body names no phase; there are {', '.join(_PHASES)}"
        raise BadCommand(message)
    phase = str(found["phase"])
    wanted = {"phase", "key"} if phase == "stage" else {"phase"}
    if found.keys() != wanted:
        message = f"the body of {phase} must have {' and '.join(sorted(wanted))}, only"
        raise BadCommand(message)
    return phase, _key(found["key"]) if phase == "stage" else None


def _key(text: object) -> MeshKey:
    try:
        return MeshKey.parse(str(text))
    except BadKeyText as exc:
        message = f"{exc}; give 64 hex digits"
        raise BadCommand(message) from None
