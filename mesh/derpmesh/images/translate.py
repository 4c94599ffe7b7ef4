"""Makes a configuration of `derpd` of the variables of another relay's image."""

from collections.abc import Mapping
from typing import NamedTuple

from derpmesh.images.admission import admission
from derpmesh.images.certificate import certificate
from derpmesh.images.draft import IDENTITY, Draft, Remark, Tree
from derpmesh.images.families import FLAGS, Family, Flag, family_of
from derpmesh.images.listening import host, listeners, relay
from derpmesh.images.meshing import mesh
from derpmesh.images.rest import limits, names, without_a_key


_OURS = ("DERP_", "TAILSCALE_DERP_", "MESH_", "STUN_", "VERIFY_CLIENT")


class Translation(NamedTuple):
    """What `derpd` is to do, and what there is to say of it."""

    tree: Tree
    """A configuration, which `derpd --check-config` accepts."""
    remarks: list[Remark]
    """Variables that we have a key for, or that change nothing."""
    refusals: list[Remark]
    """What we do not do, or cannot know: somebody must act."""
    family: str = ""
    """Whose variables they are."""
    folder: str = ""
    """Where that image has its certificates."""
    identity: str = ""
    """Where that image has the key of the node."""


def translate(
    environ: Mapping[str, str], image: str = "", *, in_place: bool = False
) -> Translation:
    """Translate the variables of a container.

    Args:
        environ: All of them; those that no image reads are left out.
        image: What it was made of, if that is known.
        in_place: Whether `derpd` is to run where the image would: nobody is shown
            the tree, so secrets stay in it, and files are taken over.
    """
    family = family_of(environ, image)
    if family is None:
        return Translation({}, [], [])
    draft = Draft(family, _said(family, environ), in_place)
    for step in _STEPS:
        step(draft)
    draft.remarks += [*_unspoken(draft), *_others(draft, environ)]
    identity = draft.text(Flag.CONFIG) or IDENTITY
    return Translation(
        draft.tree,
        draft.remarks,
        draft.refusals,
        family=family.name,
        folder=draft.folder,
        identity=identity,
    )


def _said(family: Family, environ: Mapping[str, str]) -> dict[Flag, tuple[str, str]]:
    """Find what is set; a variable of the family's own comes first."""
    names = [*family.variables, *(name for name in FLAGS if name != "HOSTNAME")]
    found: dict[Flag, tuple[str, str]] = {}
    for name in names:
        value = environ.get(name, "").strip()
        if value:
            found.setdefault(FLAGS[name], (name, value))
    return found


def _unspoken(draft: Draft) -> list[Remark]:
    """Remark on variables that made no difference to any step."""
    spoken = {remark.variable for remark in (*draft.remarks, *draft.refusals)}
    names = [name for name, _ in draft.said.values() if name not in spoken]
    return [Remark(name, "left out: it changes nothing here") for name in names]


def _others(draft: Draft, environ: Mapping[str, str]) -> list[Remark]:
    """Remark on variables that were not used."""
    used = {name for name, _ in draft.said.values()}
    found = []
    for name, value in sorted(environ.items()):
        if name in used or not value or name.startswith("DERPD_"):
            continue
        if name in FLAGS and name not in ("HOSTNAME", "TZ"):
            found.append(Remark(name, f"left out: {draft.name(FLAGS[name])} says it"))
        elif name.startswith(_OURS) and name not in FLAGS:
            found.append(Remark(name, "left out: no image that we know reads it"))
    return found


_STEPS = (
    host,
    listeners,
    relay,
    certificate,
    admission,
    mesh,
    limits,
    names,
    without_a_key,
)
