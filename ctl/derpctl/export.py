"""Judges the map that the region publishes, and writes it for whoever reads it."""

from collections.abc import Callable, Mapping

from derpctl.errors import CtlError
from derpctl.exits import Exit
from derpctl.map.acl import acl, acl_fragment
from derpctl.map.canonical import canonical_json
from derpctl.map.errors import CannotCarry
from derpctl.map.headscale import headscale
from derpctl.map.lint import Finding, Severity, Target, Terms, lint
from derpctl.map.model import DerpMap


def check(derp_map: DerpMap, form: str = "derpmap") -> list[Finding]:
    """Apply the rules to a map before anybody gets it; return the warnings.

    What is but worth knowing is for `map lint` to say: a trial on loopback is quiet.

    Args:
        derp_map: The map.
        form: The format that it is written in; headscale has rules of its own.

    Raises:
        CtlError: It breaks one, so that clients would fail.
    """
    target = Target.HEADSCALE if form == "headscale" else Target.TAILSCALE
    findings = lint(derp_map, Terms(allow_system_ids=True, target=target))
    for finding in findings:
        if finding.severity is Severity.ERROR:
            value = f"{finding.rule}: {finding.path}"
            hint = "correct what the registry, or the node's configuration, says"
            raise CtlError(value, finding.message, hint, Exit.INVALID)
    return [finding for finding in findings if finding.severity is Severity.WARNING]


def render(derp_map: DerpMap, form: str, *, fragment: bool = False) -> str:
    """Write a map in one of the formats.

    Raises:
        CtlError: The format cannot say all of it.
    """
    try:
        if form == "acl":
            return acl_fragment(derp_map) if fragment else acl(derp_map)
        return _PLAIN[form](derp_map)
    except CannotCarry as exc:
        value, hint = f"-f {form}", "use -f derpmap, or take it out"
        raise CtlError(value, str(exc), hint, Exit.REFUSED) from exc


_PLAIN: Mapping[str, Callable[[DerpMap], str]] = {
    "derpmap": canonical_json,
    "headscale": headscale,
}
