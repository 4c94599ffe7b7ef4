"""Errors of etcd in every shape, and what they mean for the caller."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from derpmesh.etcd.errors import (
    Ambiguous,
    Compacted,
    EtcdError,
    FileUnusable,
    LeaseLost,
    NotSent,
    Refused,
    StaleAnswer,
    TokenRefused,
    WatchEnded,
    parse_error,
    verdict,
)


AT = "http://a:2379"


@pytest.mark.parametrize(
    ("body", "code", "message"),
    [
        # etcd 3.4.23
        (
            b'{"error":"etcdserver: permission denied",'
            b'"message":"etcdserver: permission denied","code":7}',
            7,
            "etcdserver: permission denied",
        ),
        # etcd 3.5.16 of Debian, 3.6
        (b'{"code":5, "message":"etcdserver: x"}', 5, "etcdserver: x"),
        # lines of streams: 3.4, and newer
        (
            b'{"error":{"grpc_code":14,"http_code":503,"message":"no leader",'
            b'"http_status":"Service Unavailable"}}',
            14,
            "no leader",
        ),
        (b'{"error":{"code":14,"message":"no leader"}}', 14, "no leader"),
        # not from etcd
        (b"404 page not found\n", 2, "404 page not found"),
        (b"", 2, ""),
        (b"[1]", 2, "[1]"),
        (b'{"error":"alone"}', 2, "alone"),
        (b'{"code":"7","message":["x"]}', 2, "['x']"),
        (b"[" * 100_000, 2, "[" * 200 + "…"),
    ],
)
def test_shapes(body, code, message):
    """All that was seen of servers, and what proxies say."""
    assert parse_error(body) == (code, message)


def test_text_of_a_stranger_is_one_short_line():
    """It ends in logs."""
    assert parse_error(b"a\r\nb\x1b[31m\x00") == (2, "a b�[31m�")
    assert len(parse_error(b"x" * 9999)[1]) == 201


@given(st.binary(max_size=60))
def test_any_bytes_are_an_error_of_some_kind(body):
    """Nothing else is raised."""
    code, message = parse_error(body)
    assert isinstance(code, int)
    assert message.isprintable()


def error(code: int, message: str) -> bytes:
    """Write an error."""
    return json.dumps({"code": code, "message": message}).encode()


@pytest.mark.parametrize(
    ("status", "code", "message", "kind"),
    [
        (403, 7, "etcdserver: permission denied", Refused),
        (429, 8, "etcdserver: too many requests", Refused),
        (404, 5, "etcdserver: requested lease not found", Refused),
        (400, 11, "etcdserver: mvcc: required revision has been compacted", Compacted),
        (400, 11, "etcdserver: mvcc: required revision is a future one", Refused),
        (401, 16, "etcdserver: invalid auth token", TokenRefused),
        (400, 3, "etcdserver: user name is empty", TokenRefused),
        (400, 3, "etcdserver: revision of auth store is old", TokenRefused),
        (503, 14, "etcdserver: request timed out", Ambiguous),
        (504, 4, "context deadline exceeded", Ambiguous),
        (500, 2, "context deadline exceeded", Ambiguous),
        (500, 13, "etcdserver: corrupt cluster", Ambiguous),
        (502, 99, "bad gateway", Ambiguous),
    ],
)
def test_verdicts(status, code, message, kind):
    """What decides is whether it may have been done, and whether a login helps."""
    assert type(verdict(AT, status, error(code, message))) is kind


def test_only_one_refusal_passes():
    """A missing permission is final."""
    assert Refused(AT, 8, "too many requests").transient
    assert not Refused(AT, 7, "permission denied").transient


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (NotSent(AT, "connection refused"), f"{AT}: connection refused"),
        (Ambiguous(AT, "no answer in 3 s"), f"{AT}: no answer in 3 s"),
        (Refused(AT, 7, "permission denied"), f"{AT}: permission denied (code 7)"),
        (TokenRefused(AT, "invalid auth token"), f"{AT}: invalid auth token"),
        (Compacted(0), "history is compacted; read anew"),
        (Compacted(9), "history before 9 is compacted; read anew"),
        (StaleAnswer(AT, "revision", 9, 7), f"{AT}: revision is 7, was 9"),
        (LeaseLost(255), "lease ff has ended; its keys are gone"),
        (WatchEnded(AT, "the stream ended"), f"{AT}: the stream ended"),
        (FileUnusable("/p", "mode 0644", "chmod"), "/p: mode 0644; chmod"),
        (
            verdict(AT, 404, b"404 page not found\n"),
            f"{AT}: 404 page not found; start etcd with enable-grpc-gateway: true",
        ),
        (verdict(AT, 302, b""), f"{AT}: HTTP status 302"),
    ],
)
def test_words(found: EtcdError, said: str):
    """Where, what, and what to do about it."""
    assert str(found) == said
