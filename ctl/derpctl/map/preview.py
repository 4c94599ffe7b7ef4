"""Says in plain words who becomes the home of clients, and from which latency on."""

import bisect
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from derpctl.map.choice import LONGEST, Latencies, choose
from derpctl.map.model import DerpMap, Node, Region


EXAMPLE: Latencies = {0: 0.080, 1: 0.040}
"""Ours, under 0, at 80 ms, and a region of Tailscale's at 40 ms."""

_STEP = 10_000  # steps a second that a threshold is found to


@dataclass(frozen=True, slots=True)
class _World:
    """A map, what a client measures, and who is who."""

    derp_map: DerpMap
    latencies: Latencies
    ours: int
    other: int | None

    def choose(
        self, *, home: int | None = None, changed: Latencies | None = None
    ) -> int | None:
        latencies = {**self.latencies, **(changed or {})}
        return choose(self.derp_map, latencies, home=home)

    def without(self, number: int) -> int | None:
        """Choose while one region does not answer, and was not heard of."""
        left = {n: one for n, one in self.latencies.items() if n != number}
        return choose(self.derp_map, left)


def preview(derp_map: DerpMap, ours: int, given: Latencies) -> Iterator[str]:
    """Say who wins.

    Args:
        derp_map: As clients get it; of Tailscale's own regions, those that `given`
            names are added where they are missing, unless the map leaves them out.
        ours: The region that it is about.
        given: Seconds to regions; what is missing is as in `EXAMPLE`.
    """
    region = derp_map.regions[ours]
    if region.no_measure_no_home:
        yield (
            f"region {ours} is not measured and is nobody's home; clients dial it"
            " only where a peer says that it lives there"
        )
        return
    world = _world(derp_map, ours, given)
    yield f"a client measures {_measured(world)}"
    if world.other is None:
        yield f"region {ours} is the only one that answers, and so its home"
        return
    yield _first(world)
    yield _stays_or_moves(world)
    yield f"while region {ours} does not answer, it is region {world.without(ours)}"


def _world(derp_map: DerpMap, ours: int, given: Latencies) -> _World:
    latencies = dict(given)
    latencies.setdefault(ours, EXAMPLE[0])
    if len(latencies) == 1 and not derp_map.omit_default_regions:
        there = [number for number in sorted(derp_map.regions) if number != ours]
        latencies[there[0] if there else 1] = EXAMPLE[1]
    regions = dict(derp_map.regions)
    if not derp_map.omit_default_regions:
        for number in latencies.keys() - regions.keys():
            regions[number] = _some_region(number)
    latencies = {n: one for n, one in latencies.items() if n in regions}
    whole = replace(derp_map, regions=regions)
    others = {n: one for n, one in latencies.items() if n != ours}
    other = choose(whole, others)
    return _World(whole, latencies, ours, other)


def _some_region(number: int) -> Region:
    node = Node(name=f"{number}a", region_id=number, host_name="")
    return Region(region_id=number, nodes=(node,))


def _measured(world: _World) -> str:
    return ", ".join(
        _said(number, latency, _scores(world.derp_map))
        for number, latency in sorted(world.latencies.items())
    )


def _said(number: int, latency: float, scores: Mapping[int, float]) -> str:
    score = scores.get(number, 1.0)
    counts = (
        f", which counts as {_ms(latency * score)}" if score not in (1.0, 0.0) else ""
    )
    return f"{_ms(latency)} to region {number}{counts}"


def _scores(derp_map: DerpMap) -> Mapping[int, float]:
    return derp_map.home_params.region_score if derp_map.home_params else {}


def _first(world: _World) -> str:
    """Say what a client without a home takes."""
    winner = world.choose()
    limit = _until(world, home=None)
    if winner == world.ours:
        return f"its home is region {winner}; {_from(limit)} it is region {world.other}"
    return f"its home is region {winner}; {_below(limit)} it is region {world.ours}"


def _stays_or_moves(world: _World) -> str:
    """Say what a client with the other home does."""
    limit = _until(world, home=world.other)
    if world.choose(home=world.other) == world.ours:
        return (
            f"one at home in region {world.other} moves to it; {_from(limit)} it stays"
        )
    return f"one at home in region {world.other} stays; {_below(limit)} it moves"


def _until(world: _World, *, home: int | None) -> float:
    """Find up to which latency our region wins, in seconds; 0 is never.

    The nearer a region is, the more it wins.
    """
    steps = range(1, int(LONGEST * _STEP) + 1)
    found = bisect.bisect_left(
        steps,
        1,
        key=lambda step: int(
            world.choose(home=home, changed={world.ours: step / _STEP}) != world.ours
        ),
    )
    return found / _STEP


def _from(limit: float) -> str:
    if limit >= LONGEST:
        return f"at no latency below the {LONGEST:g} s that clients wait"
    return f"if ours were at more than {_ms(limit)},"


def _below(limit: float) -> str:
    if not limit:
        return "at no latency"
    return f"if ours were at {_ms(limit)} or less,"


def _ms(seconds: float) -> str:
    return f"{round(seconds * 1000, 1):g} ms"
