"""Keys: text forms, boxes, and secrets that stay out of logs."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from derpnode.wire import keys
from derpnode.wire.errors import BadHandshake, BadKeyText
from derpnode.wire.keys import ZERO_KEY, MeshKey, NodeKey, PrivateKey
from tests.node.wire.strategies import damaged, nonces, packets, private_keys


# Opened with Go's own key package.
SERVER = PrivateKey(b"\x11" * 32)
SERVER_HEX = "7b4e909bbe7ffe44c465a220037d608ee35897d31ef972f07f74892cb0f73f13"
CLIENT = PrivateKey(b"\x22" * 32)
CLIENT_HEX = "0faa684ed28867b97f4a6a2dee5df8ce974e76b7018e3f22a1c4cf2678570f20"
IDENTITY = '{\n\t"PrivateKey": "privkey:' + "11" * 32 + '"\n}'
MESH_HEX = "ab" * 32

# Points of order 1, 2, 4 and 8, and one that only reduces to such a point.
# Source: RFC 7748 section 7 and https://cr.yp.to/ecdh.html, "validate".
LOW_ORDER = [
    "00" * 32,
    "01" + "00" * 31,
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
    "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
    "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
]


def test_public_keys_match_go():
    """Public keys are what Go derives from the same secrets."""
    assert SERVER.public.hex() == SERVER_HEX
    assert CLIENT.public.hex() == CLIENT_HEX


def test_node_key_size():
    """A node key is 32 bytes, no more and no fewer."""
    assert keys.node_key(SERVER.public) == SERVER.public
    for size in (0, 31, 33):
        with pytest.raises(BadKeyText, match=f"^node key: {size} bytes, must be 32$"):
            keys.node_key(bytes(size))


def test_node_key_text():
    """The text form is a prefix and hex digits, lower-case when written."""
    assert keys.node_key_text(SERVER.public) == f"nodekey:{SERVER_HEX}"
    assert keys.parse_node_key(f"nodekey:{SERVER_HEX}") == SERVER.public
    assert keys.parse_node_key(f"nodekey:{SERVER_HEX.upper()}") == SERVER.public


@pytest.mark.parametrize(
    "text",
    [
        "",
        "nodekey:",
        SERVER_HEX,
        f"NODEKEY:{SERVER_HEX}",
        f"privkey:{SERVER_HEX}",
        f" nodekey:{SERVER_HEX}",
        f"nodekey:{SERVER_HEX}\n",
        f"nodekey:{SERVER_HEX[1:]}",
        f"nodekey:{SERVER_HEX}0",
        f"nodekey:{SERVER_HEX[:-1]}g",
        f"nodekey:{SERVER_HEX[:-1]}\N{FULLWIDTH DIGIT ONE}",
        f"nodekey:{SERVER_HEX[:-2]} 1",
    ],
)
def test_bad_node_key_text(text):
    """Prefix, length and alphabet are exact; white space is not trimmed."""
    with pytest.raises(BadKeyText, match=r"^node key: "):
        keys.parse_node_key(text)


def test_untyped_text():
    """The untyped form is the digits alone."""
    assert keys.untyped_text(SERVER.public) == SERVER_HEX
    assert keys.parse_untyped(SERVER_HEX.upper()) == SERVER.public
    with pytest.raises(BadKeyText, match=r"^node key: 72 hex digits, must be 64$"):
        keys.parse_untyped(f"nodekey:{SERVER_HEX}")


def test_short_key():
    """Logs show five characters of base64, and nothing for nobody."""
    assert keys.short_key(SERVER.public) == "[e06Qm]"
    assert keys.short_key(ZERO_KEY) == ""


def test_private_key_text():
    """The text form of the secret is read and written as Go does."""
    assert SERVER.text() == "privkey:" + "11" * 32
    assert PrivateKey.parse("privkey:" + "AB" * 32).text() == "privkey:" + "ab" * 32


@pytest.mark.parametrize("raw", [b"", bytes(31), b"\1" * 33, bytes(32)])
def test_bad_private_key(raw):
    """A private key has 32 bytes, and not all of them are zero."""
    with pytest.raises(BadKeyText, match=r"^private key: "):
        PrivateKey(raw)


def test_from_seed_clamps():
    """New keys have the bits set that Go sets when it makes one."""
    assert PrivateKey.from_seed(b"\xff" * 32).text().endswith("f8" + "ff" * 30 + "7f")
    assert PrivateKey.from_seed(bytes(32)).text().endswith("00" * 31 + "40")


def test_from_seed_needs_all_of_it():
    """A short seed is refused, not stretched."""
    with pytest.raises(BadKeyText, match=r"^private key: 16 bytes, must be 32$"):
        PrivateKey.from_seed(bytes(16))


def test_secrets_stay_out_of_reprs():
    """Neither repr nor str shows a secret."""
    mesh = MeshKey.parse(MESH_HEX)
    for text in (repr(SERVER), str(SERVER), repr(mesh), str(mesh)):
        assert "1111" not in text
        assert "abab" not in text
    assert repr(SERVER) == "<PrivateKey of [e06Qm]>"
    assert repr(mesh) == f"<MeshKey {mesh.fingerprint()}>"


@pytest.mark.parametrize("parse", [PrivateKey.parse, MeshKey.parse])
def test_secrets_stay_out_of_errors(parse):
    """A mistyped secret is not repeated, nor kept as the error's cause."""
    with pytest.raises(BadKeyText) as caught:
        parse("privkey:" + "5ec2e7" * 10 + "zzzz")
    assert "5ec2e7" not in repr(caught.value)
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


@pytest.mark.parametrize("point", LOW_ORDER)
def test_low_order_points_are_refused(point):
    """With such a key anybody could open the box, so there is none."""
    with pytest.raises(BadHandshake, match="low order"):
        SERVER.box(NodeKey(bytes.fromhex(point)))


def test_box_is_shared():
    """What one side seals the other opens, and the layout is nonce first."""
    sealed = CLIENT.seal(SERVER.public, b"hello", b"\x33" * 24)
    assert type(sealed) is bytes
    assert sealed.startswith(b"\x33" * 24)
    assert len(sealed) == 24 + 16 + 5
    assert SERVER.open(CLIENT.public, sealed) == b"hello"


@given(private_keys, private_keys, packets, nonces)
def test_box_round_trip(alice, bob, plaintext, nonce):
    """Any two keys can talk."""
    assert bob.open(alice.public, alice.seal(bob.public, plaintext, nonce)) == plaintext


SEALED = CLIENT.seal(SERVER.public, b"hello", b"\x33" * 24)


@given(st.binary(max_size=100) | damaged(st.just(SEALED)))
def test_damaged_box(sealed):
    """A box that is not whole does not open."""
    with pytest.raises(BadHandshake, match=r"^handshake: the sealed box cannot be"):
        SERVER.open(CLIENT.public, sealed)


@pytest.mark.parametrize("text", [MESH_HEX, MESH_HEX.upper(), f"\t {MESH_HEX}\r\n"])
def test_mesh_key_text(text):
    """A mesh key file may have either case, and white space around it."""
    assert MeshKey.parse(text).text() == MESH_HEX


@pytest.mark.parametrize(
    "text",
    ["", " \n", "00" * 32, "ab" * 31, "ab" * 33, "xy" * 32, "ab" * 16 + " " * 32],
)
def test_bad_mesh_key(text):
    """Empty, all zeros and misspelt keys are no keys."""
    with pytest.raises(BadKeyText, match=r"^mesh key: "):
        MeshKey.parse(text)


def test_mesh_key_matches():
    """Only the same 32 bytes match; no key never does."""
    mesh = MeshKey.parse(MESH_HEX)
    assert mesh.matches(mesh.secret)
    for other in (None, b"", bytes(32), mesh.secret[:-1], mesh.secret[:-1] + b"\0"):
        assert not mesh.matches(other)


def test_mesh_keys_are_equal_if_their_secrets_are():
    """And nothing else is a mesh key."""
    one, other = MeshKey(b"\1" * 32), MeshKey(b"\2" * 32)
    assert one == MeshKey(b"\1" * 32)
    assert len({one, MeshKey(b"\1" * 32), other}) == 2
    assert one != other
    assert one != b"\1" * 32


def test_mesh_key_fingerprint():
    """A fingerprint tells keys apart and is no part of them."""
    one, other = MeshKey(b"\1" * 32), MeshKey(b"\2" * 32)
    assert one.fingerprint() == MeshKey(b"\1" * 32).fingerprint()
    assert one.fingerprint() != other.fingerprint()
    assert len(one.fingerprint()) == 16
    assert one.fingerprint() == "d9580f17365c9ae8"
    assert one.fingerprint() not in one.text()


def test_identity_file_matches_derper():
    """The file is the one derper writes: tabs, and no newline at the end."""
    assert keys.identity_json(SERVER) == IDENTITY
    assert keys.parse_identity(IDENTITY).public == SERVER.public


def test_identity_ignores_other_fields():
    """Derper ignores fields it does not know; names match in any case."""
    text = '{"x": [1], "privatekey": "privkey:%s"}' % ("11" * 32)
    assert keys.parse_identity(text).public == SERVER.public


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        "null",
        '{"PrivateKey": null}',
        '{"PrivateKey": 1}',
        '{"PrivateKey": ""}',
        '{"PrivateKey": "nodekey:' + "11" * 32 + '"}',
        '{"PrivateKey": "privkey:' + "00" * 32 + '"}',
        "\udcff",
    ],
)
def test_bad_identity(text):
    """A file without a usable key is refused, never replaced by a new key."""
    with pytest.raises(BadKeyText):
        keys.parse_identity(text)


@given(private_keys)
def test_text_round_trips(private):
    """Every text form reads back as the key it was written for."""
    public = private.public
    assert keys.parse_identity(keys.identity_json(private)).text() == private.text()
    assert PrivateKey.parse(private.text()).public == public
    assert keys.parse_node_key(keys.node_key_text(public)) == public
    assert keys.parse_untyped(keys.untyped_text(public)) == public


@given(st.text())
@pytest.mark.parametrize(
    "parse",
    [
        keys.parse_node_key,
        keys.parse_untyped,
        keys.parse_identity,
        PrivateKey.parse,
        MeshKey.parse,
    ],
)
def test_arbitrary_text(parse, text):
    """No text that hypothesis thinks of is a key, and none breaks a parser."""
    with pytest.raises(BadKeyText):
        parse(text)
