"""What is stored under a key, and what is none."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from derpmesh.membership.model import Member
from derpmesh.membership.records import (
    MAX_SIZE,
    BadRecord,
    ClientIntent,
    LiveMember,
    NodeIntent,
    RegionIntent,
    Stored,
)
from tests.mesh.membership.scene import REGION, member


KEY = b"/derpmesh/v1/regions/901/intent/901a"
WHERE = KEY.decode()

NODE: dict[str, object] = {
    "name": "901a",
    "host": "a.example.com",
    "ipv4": "192.0.2.1",
    "ipv6": "none",
    "derp_port": 8443,
    "dial": "10.0.0.1:4433",
}
INTENT: dict[str, object] = {"node": NODE, "author": "operator", "removed": False}
LIVE: dict[str, object] = {
    "name": "901a",
    "server_key": "nodekey:00",
    "instance": "one",
    "epoch": 1,
    "version": "1",
    "state": "serving",
    "pin": None,
    "admin": None,
    "mesh_keys": {"current": "00aa", "next": None, "previous": None},
}
WANTED: dict[str, object] = {
    "id": 901,
    "code": "test",
    "name": "Test",
    "join": "listed",
    "order": ["901b", "901a"],
    "bring_home": False,
    "author": "operator",
}
RULE: dict[str, object] = {
    "key": f"nodekey:{'ab' * 32}",
    "rule": "deny",
    "author": "operator",
}

KINDS: list[tuple[type[Stored], dict[str, object]]] = [
    (NodeIntent, INTENT),
    (NodeIntent, INTENT | {"drain": {"grace": 5.0, "force": True, "why": "dust"}}),
    (ClientIntent, RULE),
    (LiveMember, LIVE),
    (RegionIntent, WANTED),
]


def reason(model: type[Stored], value: bytes) -> str:
    """Read what is no record; give why not."""
    with pytest.raises(BadRecord) as caught:
        model.read(KEY, value)
    assert caught.value.key == WHERE
    return caught.value.reason


@pytest.mark.parametrize(("model", "document"), KINDS)
def test_record_is_written_as_it_was_read(model, document):
    """Byte for byte a JSON object, without spaces."""
    found = model.read(KEY, json.dumps(document).encode())
    assert json.loads(found.write()) == document
    assert model.read(KEY, found.write()) == found
    assert b" " not in found.write()


@pytest.mark.parametrize(("model", "document"), KINDS)
def test_unknown_fields_are_kept(model, document):
    """A newer version that wrote them finds them again after we wrote."""
    more = document | {"weight": 3, "zones": {"a": [None, "ü"]}}
    found = model.read(KEY, json.dumps(more).encode())
    assert json.loads(found.write()) == more


def test_unknown_fields_of_a_node_are_kept():
    """Also when we change the record; the member itself knows nothing of them."""
    more = INTENT | {"node": NODE | {"weight": 3}}
    found = NodeIntent.read(KEY, json.dumps(more).encode())
    changed = found.model_copy(update={"removed": True})
    assert json.loads(changed.write()) == more | {"removed": True}
    assert found.node == Member.model_validate(NODE)


def test_member_that_says_nothing_of_its_mesh_keys():
    """As older ones do not."""
    older = {name: value for name, value in LIVE.items() if name != "mesh_keys"}
    assert LiveMember.read(KEY, json.dumps(older).encode()).mesh_keys is None


def test_defaults_are_not_written():
    """So that a node's record can be read by people."""
    found = NodeIntent(node=member("a"), author="901a")
    assert json.loads(found.write()) == {
        "node": {"name": "901a", "host": "a.example.com"},
        "author": "901a",
        "removed": False,
    }


def test_owner():
    """The name that each must be stored under."""
    assert NodeIntent(node=member("a")).owner == "901a"
    assert LiveMember.read(KEY, json.dumps(LIVE).encode()).owner == "901a"
    assert RegionIntent(**REGION.model_dump()).owner == ""


def test_region():
    """As clients see it."""
    assert RegionIntent.read(KEY, json.dumps(WANTED).encode()).region == REGION


def test_size_limit():
    """The largest record is read; one byte more is not looked at."""
    value = json.dumps(INTENT).encode()
    assert NodeIntent.read(KEY, value.ljust(MAX_SIZE)).owner == "901a"
    assert reason(NodeIntent, value.ljust(MAX_SIZE + 1)) == (
        "65537 bytes, limit is 65536"
    )


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (b"", "not JSON: Expecting value"),
        (b'{"\xff', "not JSON: 'utf-8' codec can't decode"),
        (b"{", "not JSON: Expecting property name"),
        (b"[" * 60_000, "not JSON: maximum recursion depth"),
        (b"9" * 5_000, "not JSON: Exceeds the limit"),
        (b"null", "the record = None: "),
        (b"[]", "the record = []: "),
        (b"{}", "node = {}: Field required"),
    ],
)
def test_garbage(value, why):
    """It is said what is wrong with it, and not all of it is repeated."""
    assert reason(NodeIntent, value).startswith(why)
    assert len(reason(NodeIntent, value)) < 300


@pytest.mark.parametrize(
    ("about", "where"),
    [
        ({"name": "a b"}, "node.name = 'a b'"),
        ({"host": "näme.example.com"}, "node.host = 'näme.example.com'"),
        ({"ipv4": "192.0.2.256"}, "node.ipv4 = '192.0.2.256'"),
        ({"derp_port": 0}, "node.derp_port = 0"),
        ({"derp_port": 70_000}, "node.derp_port = 70000"),
        ({"derp_port": "443"}, "node.derp_port = '443'"),
        ({"derp_port": True}, "node.derp_port = True"),
        ({"pin": "sha256-raw:00"}, "node.pin = 'sha256-raw:00'"),
    ],
)
def test_field_of_a_node_that_is_wrong(about, where):
    """It is named, with its value."""
    wrong = INTENT | {"node": NODE | about}
    assert reason(NodeIntent, json.dumps(wrong).encode()).startswith(where)


@pytest.mark.parametrize("number", [0, 65_536, "901", None])
def test_region_with_an_id_that_is_none(number):
    """No client would take it."""
    wrong = WANTED | {"id": number}
    assert reason(RegionIntent, json.dumps(wrong).encode()).startswith("id = ")


@pytest.mark.parametrize("model", [LiveMember, RegionIntent])
def test_unknown_field_that_is_nested_deep(model):
    """What can be read can be shown; what cannot be shown is none."""
    deep = b"[" * 500 + b"]" * 500
    document = dict(KINDS)[model]
    value = json.dumps(document).encode()[:-1] + b', "more": ' + deep + b"}"
    assert reason(model, value).startswith("not JSON: ")


@given(st.binary(max_size=200))
def test_bytes(value):
    """Anything is read, or is no record; nothing else happens."""
    for model, _ in KINDS:
        with pytest.raises(BadRecord):
            model.read(KEY, value)


@given(
    st.dictionaries(
        st.sampled_from(["node", "author", "removed", "id", "name", "epoch", "more"]),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
            lambda some: st.lists(some) | st.dictionaries(st.text(), some),
            max_leaves=5,
        ),
    )
)
def test_documents(document):
    """As before, of anything that JSON can say."""
    value = json.dumps(document).encode()
    for model, _ in KINDS:
        try:
            found = model.read(KEY, value)
        except BadRecord:
            continue
        assert model.read(KEY, found.write()).write() == found.write()
