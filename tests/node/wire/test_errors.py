"""Errors: what they say, and whose fault they are."""

import pytest

from derpnode.errors import ConfigError, NodeError, ProtocolError
from derpnode.wire.errors import (
    BadHandshake,
    BadKeyText,
    BadPayload,
    FrameTooLarge,
    FrameTooShort,
)


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (FrameTooLarge(0x12, 1001, 1000), "frame 0x12: 1001 bytes, limit is 1000"),
        (FrameTooShort(0x04, 31, 32), "frame 0x04: 31 bytes, minimum is 32"),
        (BadHandshake("meshKey is not text"), "handshake: meshKey is not text"),
        (BadKeyText("node key", "not hexadecimal"), "node key: not hexadecimal"),
        (BadPayload("STUN response", "no address"), "STUN response: no address"),
    ],
)
def test_wire_error_text(error, text):
    """Each wire error states value and limit, and is the peer's fault."""
    assert isinstance(error, ProtocolError)
    assert str(error) == text


def test_config_error_text():
    """A configuration error names the setting, the value, why, and what to do."""
    error = ConfigError("node.stun_port", 0, reason="not a UDP port", hint="use 3478")
    assert isinstance(error, NodeError)
    assert str(error) == "node.stun_port = 0: not a UDP port; use 3478"


def test_errors_compare_by_identity():
    """Two equal mistakes are two errors, and each can be hashed."""
    assert BadHandshake("x") != BadHandshake("x")
    assert len({BadHandshake("x"), BadHandshake("x")}) == 2
