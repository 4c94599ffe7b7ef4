"""Where the records of a region are."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from derpmesh.membership.keys import Keys


KEYS = Keys("/derpmesh/v1", 901)


def test_keys():
    """As `etcdctl` shows them."""
    assert KEYS.root == b"/derpmesh/v1/regions/901/"
    assert KEYS.region == b"/derpmesh/v1/regions/901/intent/_region"
    assert KEYS.of("members", "901a") == b"/derpmesh/v1/regions/901/members/901a"


@given(
    st.sampled_from(["intent", "members", "status"]), st.from_regex(r"\A[0-9a-z-]+\Z")
)
def test_key_that_was_made_is_read(kind, name):
    """It says whose record of which kind it is."""
    assert KEYS.read(KEYS.of(kind, name)) == (kind, name)


@given(st.binary())
def test_any_key_can_be_read(key):
    """Whatever stands in etcd, below the region or not."""
    assert KEYS.read(key) is None
    found = KEYS.read(KEYS.root + key)
    assert found is None or KEYS.of(*found).startswith(KEYS.root)


@pytest.mark.parametrize(
    "key",
    [
        KEYS.region,
        KEYS.root,
        KEYS.of("intent", ""),
        KEYS.of("intent", "901a/more"),
        KEYS.root + b"other/901a",
        Keys("/derpmesh/v1", 90).of("intent", "901a"),
        Keys("/derpmesh/v1", 9011).of("intent", "901a"),
        Keys("/other", 901).of("intent", "901a"),
    ],
)
def test_key_of_no_node(key):
    """The region's own, and what others keep there."""
    assert KEYS.read(key) is None
