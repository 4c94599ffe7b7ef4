"""All rules, applied to one map."""

from derpctl.map.lint import addresses, dialling, headscale, homes, names, trust
from derpctl.map.lint.finding import Finding
from derpctl.map.lint.place import MapRule, RegionRule, Terms, look_around
from derpctl.map.model import DerpMap


_STRICT = Terms()

_REGION_RULES: tuple[RegionRule, ...] = (
    names.region_id,
    names.node_region_id,
    names.id_range,
    names.names,
    dialling.relays,
    dialling.stun,
    dialling.host_names,
    dialling.ports,
    addresses.families,
    addresses.explicit,
    trust.pins,
    trust.insecure,
    addresses.port_80,
    addresses.shared,
    names.codes,
    homes.avoid,
    addresses.reachable,
    dialling.size,
    headscale.embedded,
    headscale.shuffled,
    homes.coordinates,
)
_FIRST: tuple[MapRule, ...] = (homes.scores,)
_LAST: tuple[MapRule, ...] = (homes.alone,)


def lint(derp_map: DerpMap, terms: Terms = _STRICT) -> list[Finding]:
    """Apply every rule, region by region; findings are in the order of the map."""
    world = look_around(derp_map, terms)
    return [
        *(finding for rule in _FIRST for finding in rule(world)),
        *(
            finding
            for place in world.places()
            for rule in _REGION_RULES
            for finding in rule(place)
        ),
        *(finding for rule in _LAST for finding in rule(world)),
    ]
