"""The head of a request: how much is read of it, and what is refused."""

import contextlib
import string
import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from derpnode.server.head import (
    MAX_HEAD,
    MAX_LINES,
    MAX_TARGET,
    BadRequest,
    Request,
    head_size,
    parse_head,
)
from tests.conformance.scene import untraced


SMALL = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


def refusal(data: bytes) -> int:
    """Read what is refused; return the status."""
    with pytest.raises(BadRequest) as raised:
        parse_head(data[: head_size(data)])
    assert str(raised.value).startswith(str(raised.value.status))
    return raised.value.status


def test_a_request():
    """Its parts, with names in lower case and values as they came."""
    request = parse_head(
        b"GET /derp?a=b?c HTTP/1.1\r\nHost: x\r\nUpgrade: DERP\r\nX: 1\r\nx: 2\r\n\r\n"
    )
    assert (request.method, request.target) == ("GET", "/derp?a=b?c")
    assert (request.path, request.query) == ("/derp", "a=b?c")
    assert request.http11
    assert request.headers[:2] == (("host", "x"), ("upgrade", "DERP"))
    assert request.header("x") == "1"
    assert request.header("y") == ""
    assert request.all("x") == ["1", "2"]


def test_http_1_0():
    """It needs no host."""
    assert not parse_head(b"GET / HTTP/1.0\r\n\r\n").http11


def test_a_connect_names_an_authority():
    """It is refused elsewhere, with words of its own."""
    request = parse_head(b"CONNECT a:443 HTTP/1.1\r\nHost: a\r\n\r\n")
    assert (request.method, request.target) == ("CONNECT", "a:443")


@pytest.mark.parametrize(
    ("value", "token", "expected"),
    [
        ("Upgrade", "upgrade", True),
        ("keep-alive,UPGRADE", "upgrade", True),
        ("a, upgrade , b", "upgrade", True),
        ("upgraded", "upgrade", False),
        ("", "upgrade", False),
    ],
)
def test_tokens(value, token, expected):
    """A list in any case, with or without spaces, over several lines."""
    request = Request("GET", "/", (("connection", value),), http11=True)
    assert request.has_token("connection", token) == expected
    more = Request("GET", "/", (("x", "a"), ("x", token)), http11=True)
    assert more.has_token("x", token)


@pytest.mark.parametrize("at", range(len(SMALL)))
def test_a_head_that_is_not_whole(at):
    """It may still become one, wherever it is cut."""
    assert head_size(SMALL[:at]) == 0


def test_what_follows_a_head():
    """It is not the head's, and is not judged."""
    assert head_size(SMALL + b"\0\n\r any bytes") == len(SMALL)
    assert head_size(bytearray(SMALL * 2)) == len(SMALL)


def sized(size: int, line: bytes = b"X: ") -> bytes:
    """Write a head of so many bytes."""
    start = b"GET / HTTP/1.1\r\nHost: x\r\n" + line
    return start + b"y" * (size - len(start) - 4) + b"\r\n\r\n"


def test_the_longest_head():
    """8 KiB, the blank line included; more is refused before it has come."""
    assert head_size(sized(MAX_HEAD)) == MAX_HEAD
    assert refusal(sized(MAX_HEAD + 1)) == 431
    assert refusal(sized(MAX_HEAD + 1)[:MAX_HEAD]) == 431
    assert head_size(sized(MAX_HEAD + 1)[: MAX_HEAD - 1]) == 0


def test_the_most_lines():
    """64, the blank one included; one more is refused at once."""
    lines = b"GET / HTTP/1.1\r\nHost: x\r\n"
    most = lines + b"X: y\r\n" * (MAX_LINES - 3) + b"\r\n"
    assert head_size(most) == len(most)
    assert refusal(lines + b"X: y\r\n" * (MAX_LINES - 1)) == 431


def test_the_longest_target():
    """2 KiB."""
    target = b"/" + b"x" * (MAX_TARGET - 1)
    assert parse_head(b"GET %s HTTP/1.1\r\nHost: x\r\n\r\n" % target)
    assert refusal(b"GET %sx HTTP/1.1\r\nHost: x\r\n\r\n" % target) == 414


@pytest.mark.parametrize(
    "start", [b"g", b"GEt", b"\x16\x03", b"1", b" ", b"\r\n", b"G1", b"A" * 17, b"\0"]
)
def test_what_never_becomes_a_head(start):
    """It is refused by its first bytes."""
    assert refusal(start) == 400


@pytest.mark.parametrize("start", [b"", b"G", b"A" * 16, b"GET ", b"GET /"])
def test_what_may_become_one(start):
    """It is waited for."""
    assert head_size(start) == 0


@pytest.mark.parametrize("byte", [*range(9), *range(11, 32), 127])
def test_control_bytes(byte):
    """All but the tab are refused, wherever they are: a lone CR too."""
    head = b"GET / HTTP/1.1\r\nHost: x\r\nX: a%cb\r\n\r\n" % byte
    assert refusal(head) == 400
    assert refusal(head[:-4]) == 400  # before the end has come


def test_a_tab_may_be_in_a_value():
    """As RFC 9110, 5.5 has it."""
    assert parse_head(b"GET / HTTP/1.1\r\nHost: x\r\nX: a\tb\r\n\r\n")


@pytest.mark.parametrize(
    ("line", "status"),
    [
        (b"Transfer-Encoding: chunked", 400),
        (b"Transfer-Encoding: gzip", 501),
        (b"Content-Length: 1", 400),
        (b"Content-Length: x", 400),
        (b"Host: y", 400),
    ],
)
def test_lines_that_are_refused(line, status):
    """Bodies and second hosts."""
    assert refusal(b"GET / HTTP/1.1\r\nHost: x\r\n" + line + b"\r\n\r\n") == status


@pytest.mark.parametrize("length", [b"0", b"0, 0"])
def test_an_empty_body(length):
    """It is none."""
    assert parse_head(
        b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: %s\r\n\r\n" % length
    )


@given(st.binary(max_size=300) | st.text(string.printable).map(str.encode))
@example(b"GET / HTTP/1.1\r\n\r\n")
@example(b"GET / HTTP/1.1\r\nHost:\r\n\r\n")
def test_any_bytes(data):
    """They are a head, may become one, or are refused: nothing else."""
    status = 0
    try:
        size = head_size(data)
        if size:
            assert isinstance(parse_head(data[:size]), Request)
    except BadRequest as exc:
        status = exc.status
    assert status in {0, 400, 414, 431, 501}


@given(st.integers(0, len(SMALL) * 2), st.binary(max_size=20))
def test_a_byte_more_never_undoes_a_refusal(at, more):
    """What was refused stays refused when more comes."""
    data = (SMALL * 2)[:at] + more
    try:
        size = head_size(data)
    except BadRequest:
        with pytest.raises(BadRequest):
            head_size(data + b"x")
    else:
        assert size in {0, len(SMALL)}


@pytest.mark.parametrize(
    "head",
    [
        sized(MAX_HEAD),
        sized(MAX_HEAD, b"X: \t"),
        b"GET / HTTP/1.1\r\nHost: x\r\n" + b"X:\r\n" * (MAX_LINES - 3) + b"\r\n",
        b"GET /" + b"/" * (MAX_TARGET - 1) + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        sized(MAX_HEAD, b"Content-Length: " + b"0, " * 2000),
    ],
    ids=["long", "tabs", "lines", "target", "list"],
)
def test_no_head_stalls_the_loop(head):
    """B9: the worst takes less than 5 ms of the processor."""
    costs = []
    for _ in range(5):
        started = time.thread_time()
        with contextlib.suppress(BadRequest), untraced():
            parse_head(head[: head_size(head)])
        costs.append(time.thread_time() - started)
    assert min(costs) < 0.005
