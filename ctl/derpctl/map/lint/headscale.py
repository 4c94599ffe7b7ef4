"""What headscale does to a map before clients get it."""

from collections.abc import Iterator

from derpctl.map.lint.finding import Finding, Severity
from derpctl.map.lint.place import Place


_EMBEDDED = 999


def embedded(place: Place) -> Iterator[Finding]:
    """DM022: headscale's own region does not replace ours."""
    if place.world.is_for_headscale and place.key == _EMBEDDED:
        message = (
            f"region {_EMBEDDED} is by default that of headscale's embedded server,"
            " which replaces this one; use another number, or set"
            " derp.server.region_id there"
        )
        yield Finding("DM022", Severity.WARNING, place.path, message)


def shuffled(place: Place) -> Iterator[Finding]:
    """DM023: the order of nodes does not change by itself."""
    many = len(place.region.nodes)
    if place.world.is_for_headscale and many > 1:
        message = (
            f"{many} nodes, which headscale shuffles each time that it reads its map,"
            " so that every client of the region reconnects; turn"
            " derp.auto_update_enabled off there, or keep to one node"
        )
        yield Finding("DM023", Severity.WARNING, f"{place.path}.Nodes", message)
