"""Maps of any content, as hypothesis draws them."""

from hypothesis import strategies as st

from derpctl.map.model import DerpMap, HomeParams, Node, Region


PIN = f"sha256-raw:{'ab' * 32}"

_names = st.sampled_from(["900a", "900b", "900c", ""]) | st.text(max_size=4)
_texts = st.text(max_size=8) | st.sampled_from(["none", "8.8.8.8", "::1%x", PIN, "a"])
_whole = st.integers(-1, 70_000) | st.integers(-(1 << 63), (1 << 63) - 1)
_numbers = st.integers(900, 902) | _whole

nodes = st.builds(
    Node,
    name=_names,
    region_id=_numbers,
    host_name=_texts,
    cert_name=_texts,
    ipv4=_texts,
    ipv6=_texts,
    stun_port=_whole,
    stun_only=st.booleans(),
    derp_port=_whole,
    insecure_for_tests=st.booleans(),
    stun_test_ip=_texts,
    can_port80=st.booleans(),
)


def maps(floats: st.SearchStrategy[float]) -> st.SearchStrategy[DerpMap]:
    """Draw maps; names and numbers clash often.

    Args:
        floats: Which coordinates and scores there may be.
    """
    regions = st.builds(
        Region,
        region_id=_numbers,
        region_code=_texts,
        region_name=_texts,
        latitude=floats,
        longitude=floats,
        avoid=st.booleans(),
        no_measure_no_home=st.booleans(),
        nodes=st.lists(nodes, max_size=8).map(tuple),
    )
    scores = st.dictionaries(_numbers, floats, max_size=3)
    return st.builds(
        DerpMap,
        home_params=st.none() | st.builds(HomeParams, region_score=scores),
        regions=st.dictionaries(_numbers, regions, max_size=3),
        omit_default_regions=st.booleans(),
    )
