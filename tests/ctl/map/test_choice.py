"""Which home clients choose, by our port of their rule; and what is said of it."""

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from derpctl.map.choice import FRAME_TIME, LONGEST, choose
from derpctl.map.errors import Collides
from derpctl.map.model import DerpMap, HomeParams, Node, Region
from derpctl.map.preview import preview
from derpctl.map.shape import Preset, over, with_preset


def region(number, **fields):
    node = Node(name=f"{number}a", region_id=number, host_name="a.example.net")
    return Region(region_id=number, nodes=(node,), **fields)


OURS = DerpMap(regions={900: region(900)})
OFFICIAL = DerpMap(regions={1: region(1), 2: region(2)})
BOTH = over(OURS, OFFICIAL)
PREFERRED = over(with_preset(OURS, Preset.PREFER), OFFICIAL)
FALLBACK = over(with_preset(OURS, Preset.FALLBACK_ONLY), OFFICIAL)
OBSERVED = over(with_preset(OURS, Preset.OBSERVE_ONLY), OFFICIAL)

FAR = {900: 0.080, 1: 0.040}
NEAR = {900: 0.040, 1: 0.080}

latencies = st.dictionaries(
    st.sampled_from([1, 2, 900]), st.floats(0.0001, LONGEST), max_size=3
)
homes = st.none() | st.sampled_from([1, 2, 900])
every_map = st.sampled_from([BOTH, PREFERRED, FALLBACK, OBSERVED])


def test_preferred():
    """Row 18: ours at 80 ms wins over 40 ms, though the other is the home."""
    assert choose(PREFERRED, FAR) == 900
    assert choose(PREFERRED, FAR, home=1) == 900
    assert choose(BOTH, FAR) == choose(BOTH, FAR, home=900) == 1


def test_preferred_and_down():
    """Row 18: the official one wins when ours has no answer."""
    assert choose(PREFERRED, {1: 0.040}) == 1
    assert choose(PREFERRED, {1: 0.040}, home=900) == 1
    assert choose(PREFERRED, FAR | {900: LONGEST + 1}, home=900) == 1


def test_fallback():
    """The other way round: even ours at 40 ms loses to 80 ms, until that is down."""
    assert choose(FALLBACK, NEAR) == choose(FALLBACK, NEAR, home=900) == 1
    assert choose(FALLBACK, {900: 0.040}, home=1) == 900
    assert choose(BOTH, NEAR, home=1) == 900


def test_observed():
    """Never a home, however near, and left by who had it."""
    assert choose(OBSERVED, {900: 0.001, 1: 1.0}) == 1
    assert choose(OBSERVED, {900: 0.001, 1: 1.0}, home=900, heard=0) == 1
    assert choose(OBSERVED, {900: 0.001}, home=900) is None


@pytest.mark.parametrize(
    ("old", "new", "kept"),
    [
        (0.0300, 0.0200, False),  # 10 ms, and two thirds to the letter
        (0.0300, 0.0201, True),
        (0.0299, 0.0190, False),
        (0.0290, 0.0191, True),  # 9.9 ms
        (0.3000, 0.2001, True),  # more than two thirds
        (0.3000, 0.1999, False),
    ],
)
def test_stickiness(old, new, kept):
    """A gain below 10 ms, or of less than a third, moves nobody."""
    assert choose(BOTH, {1: old, 2: new}, home=1) == (1 if kept else 2)


def test_history():
    """What counts is the best of five minutes, of those that answer now."""
    assert choose(BOTH, {1: 0.050, 2: 0.060}, before=[{2: 0.020, 900: 0.001}]) == 2


def test_frames():
    """Frames keep a home that answers no STUN, for eight seconds."""
    assert choose(BOTH, {1: 0.040}, home=900, heard=FRAME_TIME - 1) == 900
    assert choose(BOTH, {1: 0.040}, home=900, heard=FRAME_TIME) == 1


def test_scores_that_count_for_nothing():
    """Zero and less are ignored; so is a region without nodes."""
    odd = replace(BOTH, home_params=HomeParams(region_score={900: 0.0, 1: -4.0}))
    assert choose(odd, FAR) == choose(BOTH, FAR)
    bare = replace(BOTH, regions={**BOTH.regions, 1: Region(region_id=1)})
    assert choose(bare, FAR) == 900


@given(every_map, latencies, homes)
def test_a_home_is_one_that_can_be(derp_map, now, home):
    """It answered, or it was the home and nothing answered."""
    found = choose(derp_map, now, home=home)
    able = {n for n in now if not derp_map.regions[n].no_measure_no_home}
    assert found in able if able else found in (home, None)


@given(every_map, latencies, homes, latencies)
def test_a_home_is_kept(derp_map, now, home, before):
    """Who measures the same again does not move again."""
    found = choose(derp_map, now, home=home, before=[before])
    assert choose(derp_map, now, home=found, before=[before]) == found


@given(every_map, latencies, homes, st.floats(0.0001, LONGEST))
def test_nearer_is_never_worse(derp_map, now, home, nearer):
    """A region that wins still wins from nearer."""
    found = choose(derp_map, now, home=home)
    if found in now and nearer < now[found]:
        assert choose(derp_map, now | {found: nearer}, home=home) == found


@given(latencies, homes)
def test_presets_pull_one_way(now, home):
    """Who chooses ours as a fallback chooses it anyway, and more so if preferred."""
    if choose(FALLBACK, now, home=home) == 900:
        assert choose(BOTH, now, home=home) == 900
    if choose(BOTH, now, home=home) == 900:
        assert choose(PREFERRED, now, home=home) == 900


CHOICES = json.loads((Path(__file__).parent / "choices.json").read_text())
"""Drawn cases, and what netcheck of tailscale 1.104.5 made of them, called through a
copy of the module that exports its function. None has a tie, which Go breaks at random;
nanoseconds, and -1 for a home that was never heard of."""


@pytest.mark.parametrize("case", CHOICES, ids=map(str, range(len(CHOICES))))
def test_choices_of_go(case):
    """The same as Go's own function; 0 is left to magicsock, which keeps a home."""
    scores = {int(number): score for number, score in case["scores"].items()}
    derp_map = replace(BOTH, home_params=HomeParams(region_score=scores))
    before = [seconds(report) for report in case["before"]]
    heard = math.inf if case["heard"] < 0 else case["heard"]
    home = case["home"] or None
    found = choose(
        derp_map, seconds(case["now"]), home=home, before=before, heard=heard
    )
    assert found == (case["chosen"] or home)


def seconds(report):
    """Read a report of nanoseconds."""
    return {int(number): value / 1e9 for number, value in report.items()}


def test_collisions():
    """Neither a number nor a node's name may be in both maps."""
    with pytest.raises(Collides, match=r"^region 900 is in both maps$"):
        over(OURS, DerpMap(regions={900: region(900)}))
    other = DerpMap(regions={7: replace(region(7), nodes=OURS.regions[900].nodes)})
    with pytest.raises(Collides, match=r"^node 900a is in both maps$"):
        over(OURS, other)
    assert over(OURS, other, [7]) == OURS


def test_scores_of_both():
    """Ours count for ours, theirs for theirs, as far as they are still there."""
    theirs = replace(OFFICIAL, home_params=HomeParams(region_score={1: 2.0, 2: 3.0}))
    found = over(with_preset(OURS, Preset.PREFER), theirs, [2])
    assert found.home_params == HomeParams(region_score={1: 2.0, 900: 0.25})
    assert over(OURS, theirs).home_params == theirs.home_params


# In words.


def test_preview_of_a_preference():
    """The example of the documentation, with both thresholds."""
    assert list(preview(with_preset(OURS, Preset.PREFER), 900, {})) == [
        "a client measures 40 ms to region 1, 80 ms to region 900, which counts as"
        " 20 ms",
        "its home is region 900; if ours were at more than 159.9 ms, it is region 1",
        "one at home in region 1 moves to it; if ours were at more than 106.6 ms, it"
        " stays",
        "while region 900 does not answer, it is region 1",
    ]


def test_preview_of_a_fallback():
    """Who loses is told at what it would win."""
    assert list(preview(FALLBACK, 900, {900: 0.04, 2: 0.08})) == [
        "a client measures 80 ms to region 2, 40 ms to region 900, which counts as"
        " 160 ms",
        "its home is region 2; if ours were at 19.9 ms or less, it is region 900",
        "one at home in region 2 stays; if ours were at 13.3 ms or less, it moves",
        "while region 900 does not answer, it is region 2",
    ]


def test_preview_of_extremes():
    """Where no latency would do, and where any would."""
    lines = list(preview(FALLBACK, 900, {900: 0.04, 1: 0.0001}))
    assert "; at no latency it moves" in lines[2]
    lines = list(preview(PREFERRED, 900, {1: 3.0}))
    assert "; at no latency below the 3 s that clients wait it is region 1" in lines[1]


def test_preview_of_what_has_no_rival():
    """Not measured, or alone."""
    assert len(list(preview(OBSERVED, 900, {}))) == 1
    alone = replace(OURS, omit_default_regions=True)
    assert list(preview(alone, 900, {1: 0.01})) == [
        "a client measures 80 ms to region 900",
        "region 900 is the only one that answers, and so its home",
    ]


@given(every_map, latencies)
def test_preview_takes_any_latencies(derp_map, given):
    """Whatever is given, something is said."""
    assert list(preview(derp_map, 900, given))
