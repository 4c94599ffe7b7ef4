"""Which region a client takes for its home: its own rule, on given latencies.

Source: tailscale 1.104, addReportHistoryAndSetPreferredDERP in
``net/netcheck/netcheck.go``, and maybeSetNearestDERP in
``wgengine/magicsock/derp.go``.
"""

import math
from collections.abc import Mapping, Sequence

from derpctl.map.model import DerpMap


Latencies = Mapping[int, float]
"""Seconds to each region that answered; those that did not are left out."""

LONGEST = 3.0
"""Seconds that a client waits for STUN. Source: stunProbeTimeout."""

LEAST_GAIN = 0.010
"""Seconds that another region must be better by. Source: preferredDERPAbsoluteDiff."""

FRAME_TIME = 8.0
"""Seconds for which a frame proves that the home is there, whatever STUN says.
Source: PreferredDERPFrameTime."""

KEEP_ALIVE = 120.0
"""The same where nothing answers at all. Source: PreferredDERPKeepAliveTimeout."""

_NANOSECONDS = 1_000_000_000


def choose(
    derp_map: DerpMap,
    now: Latencies,
    *,
    home: int | None = None,
    before: Sequence[Latencies] = (),
    heard: float = math.inf,
) -> int | None:
    """Give the home that a client takes; None: any region, and nobody can tell which.

    Of two that are equally good a client takes either; here it is the lower number.

    Args:
        derp_map: What it has. Regions that are not in it count for nothing.
        now: What it just measured.
        home: Where it is at home. One that it must not measure has just been made so,
            and a client leaves a region that is defined anew.
        before: What it measured in the last five minutes.
        heard: Seconds since its home sent it anything.
    """
    now = _measurable(derp_map, now)
    home = home if home is not None and _may_be_home(derp_map, home) else None
    if not now:
        # Nothing answers: netcheck keeps a home that it heard of, and then magicsock
        # keeps any home before it draws one.
        return home
    best = _scaled(derp_map, _lowest([now, *before]))
    chosen = min(now, key=lambda number: (best[number], number))
    if home is None or chosen == home:
        return chosen
    # Unlike `best`, what the home is compared by is of this report alone.
    current = _scaled(derp_map, now).get(home, 0)
    if (current or heard < FRAME_TIME) and _is_sticky(current, best[chosen]):
        return home
    return chosen


def _is_sticky(current: int, best: int) -> bool:
    """Tell whether a home is good enough to stay, though another one is better."""
    # In Go's arithmetic of whole nanoseconds. A home that only sent frames is at 0.
    return current - best < LEAST_GAIN * _NANOSECONDS or best > current // 3 * 2


def _may_be_home(derp_map: DerpMap, number: int) -> bool:
    region = derp_map.regions.get(number)
    return region is not None and not region.no_measure_no_home


def _measurable(derp_map: DerpMap, latencies: Latencies) -> Latencies:
    """Leave out what a client does not measure, and what did not answer in time."""
    return {
        number: latency
        for number, latency in latencies.items()
        if _may_be_home(derp_map, number)
        and derp_map.regions[number].nodes
        and latency <= LONGEST
    }


def _lowest(reports: Sequence[Latencies]) -> Latencies:
    found: dict[int, float] = {}
    for report in reports:
        for number, latency in report.items():
            found[number] = min(latency, found.get(number, math.inf))
    return found


def _scaled(derp_map: DerpMap, latencies: Latencies) -> Mapping[int, int]:
    """Multiply by the scores of regions; one that is not above 0 is ignored."""
    scores = derp_map.home_params.region_score if derp_map.home_params else {}
    found = {}
    for number, latency in latencies.items():
        score = scores.get(number, 0.0)
        nanoseconds = round(latency * _NANOSECONDS)
        found[number] = int(nanoseconds * score) if score > 0 else nanoseconds
    return found
