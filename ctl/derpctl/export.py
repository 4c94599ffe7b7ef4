"""Judges the map that the region publishes, and writes it for whoever reads it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from derpctl.errors import CtlError
from derpctl.exits import Exit
from derpctl.map.acl import acl, acl_fragment
from derpctl.map.canonical import canonical_json
from derpctl.map.derper import env
from derpctl.map.derpprobe import derpprobe
from derpctl.map.errors import CannotCarry, Collides
from derpctl.map.headscale import headscale
from derpctl.map.headscale_config import headscale_config
from derpctl.map.lint import Finding, Severity, Target, Terms, lint
from derpctl.map.model import DerpMap
from derpctl.map.policy import policy_json
from derpctl.map.shape import Preset, over, with_preset
from derpctl.map.terraform import terraform


_CONFIG = "headscale-config"
_SHUFFLED = "DM023"
_SCORED = frozenset({Preset.PREFER, Preset.FALLBACK_ONLY})
_HEADSCALE = frozenset({"headscale", _CONFIG})
"""Formats that headscale reads; it has rules of its own."""

_POLICIES = frozenset({"acl", "terraform"})
_WITH_NULL = _POLICIES | {"headscale"}
_DOCUMENTS = frozenset({"derpmap", "derpprobe"})
"""Formats of which another map can be a part."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Manner:
    """How a map is written, beside its format."""

    fragment: bool = False
    """With acl: the member alone."""
    plain: bool = False
    """With acl: JSON, without comments and trailing commas."""
    removed: tuple[int, ...] = ()
    """Regions of Tailscale's that clients shall not have."""
    only_ours: bool = False
    """Whether no other region is for clients."""
    url: str = ""
    """With headscale-config: where a server has the map."""
    file: str = ""
    """With headscale-config: where headscale's machine has it."""


_USUAL = Manner()


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What is to be made of the map."""

    form: str
    """The format."""
    manner: Manner = _USUAL
    preset: Preset | None = None
    """What the region is for."""
    omit_defaults: bool = False
    """Whether the map says that Tailscale's own regions are left out."""
    is_merged: bool = False
    """Whether another map will be laid under it."""


def check(derp_map: DerpMap, form: str = "derpmap") -> list[Finding]:
    """Apply the rules to a map before anybody gets it; return the warnings.

    What is but worth knowing is for `map lint` to say: a trial on loopback is quiet.

    Args:
        derp_map: The map.
        form: The format that it is written in; headscale has rules of its own.

    Raises:
        CtlError: It breaks one, so that clients would fail.
    """
    target = Target.HEADSCALE if form in _HEADSCALE else Target.TAILSCALE
    findings = lint(derp_map, Terms(allow_system_ids=True, target=target))
    for finding in findings:
        if finding.severity is Severity.ERROR:
            value = f"{finding.rule}: {finding.path}"
            hint = "correct what the registry, or the node's configuration, says"
            raise CtlError(value, finding.message, hint, Exit.INVALID)
    said = () if form != _CONFIG else (_SHUFFLED,)  # it turns updates off itself
    return [
        finding
        for finding in findings
        if finding.severity is Severity.WARNING and finding.rule not in said
    ]


def shape(derp_map: DerpMap, order: Order) -> DerpMap:
    """Have the map of the region say what the operator wants of it.

    Raises:
        CtlError: The format has no place for it.
    """
    for number in order.manner.removed:
        if number in derp_map.regions:
            value, reason = f"--remove-default {number}", "the region is your own"
            hint = "take it out of the registry instead"
            raise CtlError(value, reason, hint, Exit.REFUSED)
    if order.manner.removed and not order.is_merged and order.form not in _WITH_NULL:
        hint = "use --with-defaults, which leaves them out, or -f acl"
        raise _no_place("--remove-default", order.form, hint)
    carries = order.form in _POLICIES | _DOCUMENTS
    if order.omit_defaults and not carries:
        hint = _HINTS.get(order.form, "leave it out: the format says nothing of them")
        raise _no_place("--omit-default-regions", order.form, hint)
    if order.preset in _SCORED and order.form not in ("derpmap", "table"):
        value = f"--{order.preset} with -f {order.form}"
        reason = "it is a score (HomeParams.RegionScore), which only plain maps carry"
        raise CtlError(value, reason, "use -f derpmap", Exit.REFUSED)
    if order.preset is not None:
        derp_map = with_preset(derp_map, order.preset)
    omit = order.omit_defaults or (order.manner.only_ours and carries)
    return replace(derp_map, omit_default_regions=omit)


def merge(derp_map: DerpMap, base: DerpMap, order: Order) -> DerpMap:
    """Lay the region over another map; what is to be removed is left out of that.

    derpprobe reads no scores: those of the other map are left out for it.

    Raises:
        CtlError: Both have a region, or the name of a node.
    """
    if order.form == "derpprobe":
        base = replace(base, home_params=None)
    try:
        return over(derp_map, base, order.manner.removed)
    except Collides as exc:
        hint = "rename ours, or give --remove-default with the number of the region"
        raise CtlError("--with-defaults", str(exc), hint, Exit.INVALID) from exc


def render(
    derp_map: DerpMap, form: str, *, fragment: bool = False, manner: Manner = _USUAL
) -> str:
    """Write a map in one of the formats.

    Args:
        derp_map: What to write.
        form: One of those that `map export` has; all but `table`.
        fragment: As in `manner`.
        manner: How to write it, as far as the format can.

    Raises:
        CtlError: The format cannot say all of it.
    """
    try:
        if fragment:
            manner = replace(manner, fragment=True)
        return _WRITERS[form](derp_map, manner)
    except CannotCarry as exc:
        value, hint = f"-f {form}", "use -f derpmap, or take it out"
        raise CtlError(value, str(exc), hint, Exit.REFUSED) from exc


_HINTS: Mapping[str, str] = {
    "headscale": "use --only-ours, and -f headscale-config for the urls: [] it takes",
    "headscale-config": "use --only-ours, which writes urls: []",
}


def _no_place(option: str, form: str, hint: str) -> CtlError:
    reason = f"{form} has no place for it"
    return CtlError(option, reason, hint, Exit.REFUSED)


def _acl(derp_map: DerpMap, manner: Manner) -> str:
    if manner.plain:
        return policy_json(derp_map, manner.removed, fragment=manner.fragment)
    write = acl_fragment if manner.fragment else acl
    return write(derp_map, manner.removed)


_WRITERS: Mapping[str, Callable[[DerpMap, Manner], str]] = {
    "acl": _acl,
    "derpmap": lambda derp_map, _: canonical_json(derp_map),
    "headscale": lambda derp_map, manner: headscale(
        derp_map, manner.removed, only_ours=manner.only_ours
    ),
    "headscale-config": lambda derp_map, manner: headscale_config(
        derp_map, url=manner.url, file=manner.file, only_ours=manner.only_ours
    ),
    "derpprobe": lambda derp_map, _: derpprobe(derp_map),
    "terraform": lambda derp_map, manner: terraform(derp_map, manner.removed),
    "env": lambda derp_map, _: env(derp_map),
}
