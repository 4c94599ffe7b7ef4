"""STUN: which requests deserve an answer, and which answer."""

from contextlib import suppress
from ipaddress import ip_address
from zlib import crc32

import pytest
from hypothesis import given
from hypothesis import strategies as st

from derpnode.wire.errors import BadPayload
from derpnode.wire.stun import (
    binding_request,
    binding_response,
    parse_binding_request,
    parse_binding_response,
)
from tests.node.wire.strategies import damaged, ports


# Seen between a tailscaled and a derper.
ID = bytes(range(12))
REQUEST = bytes.fromhex(
    "0001"  # binding request
    "0014"  # length
    "2112a442"  # cookie
    "000102030405060708090a0b"  # transaction id
    "80220008"  # SOFTWARE
    "7461696c6e6f6465"  # tailnode
    "80280004"  # FINGERPRINT
    "8aabad90"  # CRC-32, masked
)
RESPONSE = bytes.fromhex(
    "0101"  # binding success
    "000c"  # length
    "2112a442"  # cookie
    "000102030405060708090a0b"  # transaction id
    "00200008"  # XOR-MAPPED-ADDRESS
    "0001"  # IPv4
    "9f45"  # port, masked
    "5e12a443"  # address, masked
)
RESPONSE_V6 = bytes.fromhex(
    "0101"  # binding success
    "0018"  # length
    "2112a442"  # cookie
    "000102030405060708090a0b"  # transaction id
    "00200014"  # XOR-MAPPED-ADDRESS
    "0002"  # IPv6
    "9f45"  # port, masked
    "0113a9fa 00010203 04050607 08090a0a"  # 2001:db8::1, masked
)
COOKIE = "2112a442"
SOFTWARE = "80220008" + b"tailnode".hex()
HEAD = "00010014" + COOKIE + ID.hex()

transactions = st.binary(min_size=12, max_size=12)
addresses = st.ip_addresses(v=4) | st.ip_addresses(v=6).filter(
    lambda ip: ip.ipv4_mapped is None
)


def signed(message: str) -> bytes:
    """A message in hex, and its FINGERPRINT."""
    data = bytes.fromhex(message)
    return data + bytes.fromhex("80280004") + (crc32(data) ^ 0x5354554E).to_bytes(4)


def answer(*attributes: str) -> bytes:
    """A success response with these attributes, in hex."""
    body = bytes.fromhex("".join(attributes))
    return bytes.fromhex(f"0101{len(body):04x}{COOKIE}{ID.hex()}") + body


def test_request_matches_go():
    """Our request is the one that tailscale sends."""
    assert binding_request(ID) == REQUEST
    assert parse_binding_request(REQUEST) == ID
    assert parse_binding_request(memoryview(bytearray(REQUEST))) == ID


@pytest.mark.parametrize(
    "request_",
    [
        pytest.param(signed(HEAD + SOFTWARE), id="good"),
        pytest.param(signed(HEAD.replace("0014", "0000") + SOFTWARE), id="length 0"),
        pytest.param(
            signed(HEAD.replace("0014", "ffff") + SOFTWARE), id="length wrong"
        ),
        pytest.param(signed(HEAD + SOFTWARE + "00060000"), id="extra attribute"),
        pytest.param(signed(HEAD + "0006000361626300" + SOFTWARE), id="padding"),
        pytest.param(signed(HEAD + "8022000178ffffff" + SOFTWARE), id="two SOFTWARE"),
        pytest.param(signed(signed(HEAD + SOFTWARE).hex()), id="two FINGERPRINT"),
    ],
)
def test_answered(request_):
    """C50: SOFTWARE anywhere, FINGERPRINT last, and the length is not looked at."""
    assert parse_binding_request(request_) == ID


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="empty"),
        pytest.param(REQUEST[:19], id="short"),
        pytest.param(bytes.fromhex(HEAD), id="bare RFC 5389"),
        pytest.param(signed(HEAD), id="no SOFTWARE"),
        pytest.param(
            signed(HEAD + "80220008" + b"otherone".hex()), id="other SOFTWARE"
        ),
        pytest.param(signed(HEAD + "80220007" + b"tailnode".hex()), id="7 of 8 bytes"),
        pytest.param(bytes.fromhex(HEAD + SOFTWARE), id="no FINGERPRINT"),
        pytest.param(REQUEST[:-1] + b"\x91", id="bad FINGERPRINT"),
        pytest.param(
            signed(HEAD + SOFTWARE) + b"\0\x06\0\0", id="FINGERPRINT not last"
        ),
        pytest.param(REQUEST + bytes(3), id="3 trailing bytes"),
        pytest.param(REQUEST + bytes(4), id="4 trailing bytes"),
        pytest.param(signed(HEAD.replace(COOKIE, "2112a443") + SOFTWARE), id="cookie"),
        pytest.param(signed("0011" + HEAD[4:] + SOFTWARE), id="indication"),
        pytest.param(signed("0101" + HEAD[4:] + SOFTWARE), id="response"),
        pytest.param(signed("c001" + HEAD[4:] + SOFTWARE), id="top bits"),
        pytest.param(signed(HEAD + SOFTWARE + "0006ffff"), id="attribute too long"),
        pytest.param(signed(HEAD + SOFTWARE + "0006"), id="attribute cut short"),
        pytest.param(bytes.fromhex(HEAD + SOFTWARE + "80280000"), id="no CRC"),
    ],
)
def test_not_answered(data):
    """C50: everything else is dropped in silence."""
    assert parse_binding_request(data) is None


def test_missing_padding():
    """The last attribute needs its padding too."""
    message = HEAD + SOFTWARE + "00060001"
    assert parse_binding_request(bytes.fromhex(message + "78")) is None


def test_response_matches_go():
    """C51: an IPv4 answer has 32 bytes, an IPv6 answer 44."""
    assert binding_response(ID, ip_address("127.0.0.1"), 48727) == RESPONSE
    assert binding_response(ID, ip_address("2001:db8::1"), 48727) == RESPONSE_V6
    assert (len(RESPONSE), len(RESPONSE_V6)) == (32, 44)


def test_response_to_a_mapped_address():
    """An IPv4 client of a dual-stack socket is told its IPv4 address."""
    assert binding_response(ID, ip_address("::ffff:127.0.0.1"), 48727) == RESPONSE


@given(transactions)
def test_request_round_trip(transaction):
    """A request gives its transaction id back."""
    assert parse_binding_request(binding_request(transaction)) == transaction


@given(transactions, addresses, ports)
def test_response_round_trip(transaction, ip, port):
    """A response says which address it was for, and is as long as it says."""
    data = binding_response(transaction, ip, port)
    assert int.from_bytes(data[2:4]) == len(data) - 20
    assert parse_binding_response(data) == (transaction, ip, port)


XORED = "00200008 0001 9f45 5e12a443"
PLAIN = "00010008 0001 1234 c0000201"


@pytest.mark.parametrize(
    ("data", "ip", "port"),
    [
        pytest.param(answer(XORED), "127.0.0.1", 48727, id="masked"),
        pytest.param(answer("8020" + XORED[4:]), "127.0.0.1", 48727, id="old number"),
        pytest.param(answer(PLAIN), "192.0.2.1", 0x1234, id="plain"),
        pytest.param(answer(XORED, PLAIN), "127.0.0.1", 48727, id="masked first"),
        pytest.param(answer(PLAIN, XORED), "127.0.0.1", 48727, id="masked last"),
        pytest.param(answer(SOFTWARE, XORED), "127.0.0.1", 48727, id="others skipped"),
        pytest.param(answer(XORED) + b"xyz", "127.0.0.1", 48727, id="trailing bytes"),
        pytest.param(
            answer("00010014 0002 1234 00000000000000000000ffffc0000201"),
            "192.0.2.1",
            0x1234,
            id="v4-mapped",
        ),
    ],
)
def test_responses_of_other_servers(data, ip, port):
    """Clients take the masked address under either number, or else the plain one."""
    assert parse_binding_response(data) == (ID, ip_address(ip), port)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="empty"),
        pytest.param(RESPONSE[:19], id="short"),
        pytest.param(REQUEST, id="request"),
        pytest.param(RESPONSE.replace(b"\x21\x12", b"\x21\x13", 1), id="cookie"),
        pytest.param(RESPONSE[:-1], id="cut short"),
        pytest.param(answer(), id="no attribute"),
        pytest.param(answer(SOFTWARE), id="no address"),
        pytest.param(answer(XORED, "00"), id="half an attribute"),
        pytest.param(answer("00200003 00019f00"), id="no port"),
        pytest.param(answer("00200007 0001 9f45 5e12a400"), id="short IPv4"),
        pytest.param(answer("00200008 0002 9f45 5e12a443"), id="short IPv6"),
        pytest.param(answer("00200008 0003 9f45 5e12a443"), id="unknown family"),
    ],
)
def test_bad_responses(data):
    """A response without a whole address in it is refused."""
    with pytest.raises(BadPayload, match=r"^STUN "):
        parse_binding_response(data)


@given(st.binary(max_size=100) | damaged(st.sampled_from([REQUEST, RESPONSE])))
def test_damaged(data):
    """Any datagram is read or refused, never anything else."""
    assert parse_binding_request(data) is None or data[8:20] == ID
    with suppress(BadPayload):
        parse_binding_response(data)
