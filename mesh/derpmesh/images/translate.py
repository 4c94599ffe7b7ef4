"""Makes a configuration of `derpd` of the variables of another relay's image."""

from collections.abc import Mapping
from typing import NamedTuple

from derpmesh.images.admission import admission
from derpmesh.images.certificate import certificate
from derpmesh.images.draft import Draft, Remark, Tree
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


def translate(environ: Mapping[str, str], image: str = "") -> Translation:
    """Translate the variables of a container.

    Args:
        environ: All of them; those that no image reads are left out.
        image: What it was made of, if that is known.
    """
    family = family_of(environ, image)
    if family is None:
        return Translation({}, [], [])
    draft = Draft(family, _said(family, environ))
    for step in _STEPS:
        step(draft)
    draft.remarks += [*_unspoken(draft), *_others(draft, environ)]
    return Translation(draft.tree, draft.remarks, draft.refusals)


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
