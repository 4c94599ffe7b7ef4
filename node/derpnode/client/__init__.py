"""A DERP client, made layer by layer so that each failure has a name and a time.

`connect` does all of it at once; a probe walks the layers itself: `Relay.resolve`,
`Relay.dial`, `Relay.secure`, `Stream.upgrade`, `Stream.server_key`, `Stream.login`.
"""

from derpnode.client.errors import (
    ClientError,
    DialFailed,
    LoginFailed,
    RelayFailed,
    ResolveFailed,
    ServerKeyFailed,
    TlsFailed,
    UpgradeFailed,
)
from derpnode.client.messages import (
    Health,
    KeepAlive,
    Message,
    PeerGone,
    PeerPresent,
    Ping,
    Pong,
    Received,
    Restarting,
    Unknown,
)
from derpnode.client.relay import DIAL_TIMEOUT, TIMEOUT, Relay
from derpnode.client.session import Client, connect, hello, introduce
from derpnode.client.stream import Answer, Stream
from derpnode.client.tls import (
    PIN_PREFIX,
    Certificates,
    ClientTls,
    check_certificates,
    own_certificates,
)


__all__ = [
    "DIAL_TIMEOUT",
    "PIN_PREFIX",
    "TIMEOUT",
    "Answer",
    "Certificates",
    "Client",
    "ClientError",
    "ClientTls",
    "DialFailed",
    "Health",
    "KeepAlive",
    "LoginFailed",
    "Message",
    "PeerGone",
    "PeerPresent",
    "Ping",
    "Pong",
    "Received",
    "Relay",
    "RelayFailed",
    "ResolveFailed",
    "Restarting",
    "ServerKeyFailed",
    "Stream",
    "TlsFailed",
    "Unknown",
    "UpgradeFailed",
    "check_certificates",
    "connect",
    "hello",
    "introduce",
    "own_certificates",
]
