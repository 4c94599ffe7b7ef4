"""Whether a map may be served: headscale would take an empty one for the last word."""

from derpctl.errors import CtlError
from derpctl.exits import Exit
from derpctl.export import check
from derpctl.map.model import DerpMap


def check_usable(derp_map: DerpMap) -> None:
    """Refuse a map that clients would fail with, or that takes them all they have.

    Raises:
        CtlError: Says why.
    """
    if not any(region.nodes for region in derp_map.regions.values()):
        value, reason = "the map", "there is no relay in it"
        raise CtlError(value, reason, "add nodes to the region", Exit.INVALID)
    check(derp_map, "derpmap")
