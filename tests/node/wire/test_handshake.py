"""The handshake: golden bytes, the JSON matrix, and boxes gone wrong."""

import json
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from derpnode.wire import handshake
from derpnode.wire.errors import (
    BadHandshake,
    FrameTooLarge,
    FrameTooShort,
    ProtocolError,
)
from derpnode.wire.frames import HEADER, HEADER_SIZE
from derpnode.wire.handshake import ClientInfo, open_client_info, open_server_info
from derpnode.wire.keys import NodeKey, PrivateKey
from tests.node.wire.strategies import damaged, nonces, private_keys


# Opened with Go's own key package.
SERVER = PrivateKey(b"\x11" * 32)
CLIENT = PrivateKey(b"\x22" * 32)
CLIENT_NONCE = b"\x33" * 24
SERVER_NONCE = b"\x44" * 24
SERVER_KEY = bytes.fromhex(
    "01"  # type
    "00000028"  # size
    "44455250f09f9491"  # magic
    "7b4e909bbe7ffe44c465a220037d608ee35897d31ef972f07f74892cb0f73f13"  # key
)
CLIENT_INFO = bytes.fromhex(
    "02"  # type
    "00000068"  # size
    "0faa684ed28867b97f4a6a2dee5df8ce974e76b7018e3f22a1c4cf2678570f20"  # key
    "333333333333333333333333333333333333333333333333"  # nonce
    "0cac76b82cb75df3a51a9d802720c338"  # tag
    "4d3eb8fccc9a8433ce902111b5d68524"  # {"version":2,"Can
    "935652b1a16fbfc21be3b4a3ed66992a"  # AckPings":true}
)
SERVER_INFO = bytes.fromhex(
    "03"  # type
    "00000035"  # size
    "444444444444444444444444444444444444444444444444"  # nonce
    "98cc589c163885043e1278210bd48dee"  # tag
    "e3c56f584bfdcbc303ff0f3c69"  # {"version":2}
)
MODERN = ClientInfo(version=2, can_ack_pings=True)
MESH = "ab" * 32


def sealed(body: bytes) -> bytes:
    """The payload of a ClientInfo with this plaintext."""
    return CLIENT.public + CLIENT.seal(SERVER.public, body, CLIENT_NONCE)


def info(body: bytes) -> ClientInfo:
    """What a server makes of a ClientInfo with this plaintext."""
    return open_client_info(sealed(body), SERVER).info


def test_server_key_matches_go():
    """ServerKey is magic and key."""
    assert handshake.server_key_frame(SERVER.public) == SERVER_KEY
    assert handshake.parse_server_key(SERVER_KEY[HEADER_SIZE:]) == SERVER.public


def test_server_key_may_grow():
    """Bytes after the key are ignored, up to 1024 in all."""
    longest = SERVER_KEY[HEADER_SIZE:].ljust(1024, b"\xff")
    assert handshake.parse_server_key(longest) == SERVER.public
    with pytest.raises(FrameTooLarge, match=r"1025 bytes, limit is 1024$"):
        handshake.parse_server_key(longest + b"\xff")


def test_server_key_too_short():
    """A ServerKey without the whole key is refused."""
    with pytest.raises(FrameTooShort, match=r"39 bytes, minimum is 40$"):
        handshake.parse_server_key(SERVER_KEY[HEADER_SIZE:-1])


def test_server_key_needs_the_magic():
    """Whoever does not say DERP is no DERP server."""
    with pytest.raises(BadHandshake, match="magic"):
        handshake.parse_server_key(bytes(40))


def test_client_info_matches_go():
    """ClientInfo is what a modern client sends, to the byte."""
    frame = handshake.client_info_frame(MODERN, CLIENT, SERVER.public, CLIENT_NONCE)
    assert frame == CLIENT_INFO


def test_login():
    """The server learns key, capabilities and nonce, and gets the box."""
    login = open_client_info(CLIENT_INFO[HEADER_SIZE:], SERVER)
    assert (login.key, login.info) == (CLIENT.public, MODERN)
    assert login.nonce == CLIENT_NONCE
    assert handshake.server_info_frame(login.box, SERVER_NONCE) == SERVER_INFO


def test_server_info_matches_go():
    """ServerInfo says the version and nothing else."""
    assert HEADER.unpack_from(SERVER_INFO) == (3, 53)
    opened = open_server_info(SERVER_INFO[HEADER_SIZE:], CLIENT, SERVER.public)
    assert opened == {"version": 2}


@pytest.mark.parametrize(
    ("said", "body"),
    [
        (ClientInfo(version=0), b'{"CanAckPings":false}'),
        (ClientInfo(), b'{"version":2,"CanAckPings":false}'),
        (
            ClientInfo(bytes.fromhex(MESH), 2, True, True, "app"),
            b'{"meshKey":"%s","version":2,"CanAckPings":true,"IsProber":true,'
            b'"AppName":"app"}' % MESH.encode(),
        ),
    ],
)
def test_client_info_writes_what_go_writes(said, body):
    """Fields come in Go's order, and those that are zero stay away."""
    frame = handshake.client_info_frame(said, CLIENT, SERVER.public, CLIENT_NONCE)
    assert SERVER.open(CLIENT.public, frame[HEADER_SIZE + 32 :]) == body


@pytest.mark.parametrize(
    ("body", "heard"),
    [
        (b"{}", ClientInfo(version=0)),
        (b"null", ClientInfo(version=0)),
        (b' {"x":[{"version":"x"}],"y":1e999} ', ClientInfo(version=0)),
        (b'{"version":99}', ClientInfo(version=99)),
        (b'{"version":-0}', ClientInfo(version=0)),
        (b'{"version":null}', ClientInfo(version=0)),
        (b'{"version":7,"version":null}', ClientInfo(version=7)),
        (b'{"version":1,"VERSION":3}', ClientInfo(version=3)),
        (b'{"version":9223372036854775807}', ClientInfo(version=2**63 - 1)),
        (b'{"ver\\u017fion":5,"ver-sion":6}', ClientInfo(version=5)),
        (b'{"canackpings":true}', ClientInfo(version=0, can_ack_pings=True)),
        (b'{"CanAckPings":true,"CanAckPings":null}', ClientInfo(None, 0, True)),
        (b'{"ISPROBER":true}', ClientInfo(version=0, is_prober=True)),
        (b'{"IsProber":null}', ClientInfo(version=0)),
        (b'{"appname":"a"}', ClientInfo(version=0, app_name="a")),
        (b'{"App\\u004eame":" ~"}', ClientInfo(version=0, app_name=" ~")),
        (b'{"AppName":null}', ClientInfo(version=0)),
        (b'{"AppName":""}', ClientInfo(version=0)),
        (b'{"AppName":"\\n","AppName":"ok"}', ClientInfo(version=0, app_name="ok")),
        (b'{"AppName":"%s"}' % (b"x" * 32), ClientInfo(None, 0, app_name="x" * 32)),
        (b'{"x\xff":1}', ClientInfo(version=0)),
    ],
)
def test_json_that_go_takes(body, heard):
    """C10: names in any case, last of several, null as nothing."""
    assert info(body) == heard


@pytest.mark.parametrize("name", ["meshKey", "MeshKey", "MESHKEY", "me\\u0073hKey"])
@pytest.mark.parametrize(
    "digits", [MESH, MESH.upper(), "00" * 32, "\\u0061b" + "ab" * 31]
)
def test_mesh_key_of_right_form(name, digits):
    """64 hex digits of either case are taken, whether right or wrong."""
    body = f'{{"{name}":"{digits}"}}'.encode()
    assert info(body).mesh_key == bytes.fromhex(json.loads(f'"{digits}"'))


@pytest.mark.parametrize(
    "value",
    [
        b"null",
        b'""',
        b"1",
        b"true",
        b"[]",
        b"{}",
        b'"%s"' % (b"ab" * 31),
        b'"%s"' % (b"a" * 63),
        b'"%s"' % (b"a" * 65),
        b'" %s"' % (b"a" * 63),
        b'"%s"' % (b"ab" * 33),
        b'"%s"' % (b"g" * 64),
        b'"%s"' % ("\N{FULLWIDTH DIGIT ONE}" * 64).encode(),
    ],
)
def test_mesh_key_of_wrong_form(value):
    """Any other mesh key closes, a right one after it notwithstanding."""
    for body in (
        b'{"meshKey":%s}',
        b'{"meshKey":%s,"meshKey":"' + MESH.encode() + b'"}',
    ):
        with pytest.raises(BadHandshake, match="meshKey"):
            info(body % value)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"garbage",
        b"{}x",
        b"true",
        b'"x"',
        b'{"version":"2"}',
        b'{"version":2.0}',
        b'{"version":2e0}',
        b'{"version":true}',
        b'{"version":[]}',
        b'{"version":"x","version":2}',
        b'{"version":9223372036854775808}',
        b'{"version":-9223372036854775809}',
        b'{"version":%s}' % (b"9" * 100_000),
        b'{"CanAckPings":1}',
        b'{"CanAckPings":"true"}',
        b'{"IsProber":0}',
        b'{"IsProber":{}}',
        b'{"AppName":1}',
        b'{"AppName":[]}',
        b'{"AppName":{}}',
        b'{"AppName":true}',
        b'{"x":NaN}',
        b'{"x":' + b"[" * 100_000,
    ],
)
def test_json_that_go_refuses(body):
    """C10: garbage, other JSON values, and fields of another type close."""
    with pytest.raises(BadHandshake):
        info(body)


@pytest.mark.parametrize(
    "name",
    [
        b"x" * 33,
        b"a" * 200_000,
        b"\\n",
        b"\\u0000",
        b"\x7f",
        "\xe9".encode(),
        b"\xff",
        b"\\ud800",
        b"\\u00e9",
        "\N{SNOWMAN}".encode() * 11,
    ],
)
@pytest.mark.parametrize("before", [b"", b'"meshKey":"' + MESH.encode() + b'",'])
def test_bad_app_name(before, name):
    """C10: a name that is too long or not printable closes, mesh key or not."""
    with pytest.raises(BadHandshake, match="AppName is not 0 to 32 printable bytes"):
        info(b'{%s"appname":"%s"}' % (before, name))


def test_client_info_sizes():
    """C8 and C9: 56 bytes to 256 KiB, both of them allowed."""
    room = 262_144 - 56 - 16 - len(b'{"x":""}')
    assert info(b'{"x":"' + b"a" * room + b'"}') == ClientInfo(version=0)
    with pytest.raises(FrameTooLarge, match=r"262145 bytes, limit is 262144$"):
        open_client_info(bytes(262_145), SERVER)
    with pytest.raises(FrameTooShort, match=r"55 bytes, minimum is 56$"):
        open_client_info(bytes(55), SERVER)
    with pytest.raises(BadHandshake, match="opened"):
        open_client_info(CLIENT.public + bytes(24), SERVER)


def test_zero_client_key():
    """C11: the key of nobody is refused before anything is opened."""
    with pytest.raises(BadHandshake, match="low order"):
        open_client_info(bytes(100), SERVER)


def test_another_server():
    """A ClientInfo that was sealed to another server does not open."""
    with pytest.raises(BadHandshake, match="opened"):
        open_client_info(CLIENT_INFO[HEADER_SIZE:], PrivateKey(b"\x55" * 32))


def test_server_info_may_grow():
    """Fields of newer servers are passed on."""
    body = b'{"version":2,"TokenBucketBytesPerSecond":7}'
    payload = SERVER.seal(CLIENT.public, body, SERVER_NONCE)
    opened = open_server_info(payload, CLIENT, SERVER.public)
    assert opened == {"version": 2, "TokenBucketBytesPerSecond": 7}


@pytest.mark.parametrize("body", [b"", b"[]", b"{"])
def test_server_info_is_an_object(body):
    """A ServerInfo that is no JSON object ends the connection."""
    payload = SERVER.seal(CLIENT.public, body, SERVER_NONCE)
    with pytest.raises(BadHandshake, match="JSON"):
        open_server_info(payload, CLIENT, SERVER.public)


def test_server_info_sizes():
    """A client takes 24 bytes to 1 MiB more, if the box opens."""
    with pytest.raises(FrameTooShort, match=r"23 bytes, minimum is 24$"):
        open_server_info(bytes(23), CLIENT, SERVER.public)
    with pytest.raises(FrameTooLarge, match=r"1048601 bytes, limit is 1048600$"):
        open_server_info(bytes(1_048_601), CLIENT, SERVER.public)
    for size in (24, 1_048_600):
        with pytest.raises(BadHandshake, match="opened"):
            open_server_info(bytes(size), CLIENT, SERVER.public)


def test_secrets_stay_out_of_reprs():
    """A login can be logged: neither mesh key nor box is shown."""
    login = open_client_info(sealed(b'{"meshKey":"%s"}' % MESH.encode()), SERVER)
    assert "mesh_key" not in repr(login)
    assert "box" not in repr(login)


infos = st.builds(
    ClientInfo,
    st.none() | st.binary(min_size=32, max_size=32),
    st.integers(-(2**63), 2**63 - 1),
    st.booleans(),
    st.booleans(),
    st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=32),
)


@given(infos, private_keys, private_keys, nonces)
def test_round_trip(said, client, server, nonce):
    """What a client says is what the server hears, and the answer opens."""
    frame = handshake.client_info_frame(said, client, server.public, nonce)
    login = open_client_info(frame[HEADER_SIZE:], server)
    assert (login.key, login.info, login.nonce) == (client.public, said, nonce)
    answer = handshake.server_info_frame(login.box, nonce)
    assert open_server_info(answer[HEADER_SIZE:], client, server.public)


@given(infos, private_keys, nonces)
def test_claimed_length_is_actual(said, client, nonce):
    """Every handshake frame is as long as its header says."""
    box = SERVER.box(client.public)
    for frame in (
        handshake.server_key_frame(client.public),
        handshake.client_info_frame(said, client, SERVER.public, nonce),
        handshake.server_info_frame(box, nonce),
    ):
        assert HEADER.unpack_from(frame)[1] == len(frame) - HEADER_SIZE


@given(st.binary(max_size=150))
def test_arbitrary_payloads(payload):
    """Any payload is a key or a ProtocolError, never anything else."""
    for parse in (
        handshake.parse_server_key,
        lambda data: open_client_info(data, SERVER),
        lambda data: open_server_info(data, CLIENT, SERVER.public),
    ):
        with pytest.raises(ProtocolError):
            parse(payload)


@given(damaged(st.just(CLIENT_INFO[HEADER_SIZE + 32 :])))
def test_damaged_client_info(box):
    """A ClientInfo does not open after any change to its box."""
    with pytest.raises(ProtocolError):
        open_client_info(CLIENT.public + box, SERVER)


@pytest.mark.parametrize("bit", range(255))
def test_damaged_client_key(bit):
    """A ClientInfo does not open under any other key."""
    key = int.from_bytes(CLIENT.public, "little") ^ 1 << bit
    with pytest.raises(BadHandshake):
        open_client_info(key.to_bytes(32, "little") + CLIENT_INFO[37:], SERVER)


def test_top_bit_of_a_key_is_free():
    """The curve ignores one bit; as in Go, a client may choose it, and is told apart.

    So its owner has two keys, and nobody gains another's: RFC 7748, section 5.
    """
    alias = CLIENT.public[:-1] + bytes([CLIENT.public[-1] | 0x80])
    login = open_client_info(alias + CLIENT_INFO[37:], SERVER)
    assert login.key == alias != CLIENT.public


@given(st.binary(max_size=100))
def test_arbitrary_json(body):
    """Whatever a client seals is an answer or BadHandshake."""
    with suppress(BadHandshake):
        assert isinstance(info(body), ClientInfo)


def test_server_without_a_key():
    """A client does not log in to a server whose key anybody could have."""
    with pytest.raises(BadHandshake, match="low order"):
        handshake.client_info_frame(MODERN, CLIENT, NodeKey(bytes(32)), CLIENT_NONCE)
