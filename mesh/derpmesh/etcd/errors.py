"""What may go wrong with etcd, sorted by what the caller may do about it.

EtcdError
├── NotSent          nothing left this machine; sending it again is safe
├── Ambiguous        it left, and nobody knows whether it was done; look before again
├── Refused          etcd said no
├── Unauthenticated  it does not believe who we are
│   └── TokenRefused   as before, but a new login may help
├── Compacted        what came after a revision is forgotten; read anew
├── StaleAnswer      older than what was known; ask another endpoint
├── LeaseLost        its keys are gone; take a new one
├── WatchEnded       resume from the last event, at another endpoint
├── FileUnusable     a file with a secret or a certificate; the operator's to mend
└── ClientMissing    the library is not there, or is another one; the operator's
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, cast

from derpnode.errors import NodeError


# gRPC's codes, as far as we act on them.
# Source: google.golang.org/grpc/codes, ``codes.go``.
UNKNOWN = 2
INVALID_ARGUMENT = 3
NOT_FOUND = 5
PERMISSION_DENIED = 7
RESOURCE_EXHAUSTED = 8
FAILED_PRECONDITION = 9
OUT_OF_RANGE = 11
UNAUTHENTICATED = 16

_UNDECIDED = frozenset({1, UNKNOWN, 4, 10, 13, 14, 15})
"""Codes after which a request may have been done all the same.

Canceled, Unknown, DeadlineExceeded, Aborted, Internal, Unavailable and DataLoss:
etcd says "request timed out" and "no leader" with 14, for one.
"""

_LOGIN_AGAIN = (
    "invalid auth token",
    "user name is empty",  # no token, while authentication is on
    "revision of auth store is old",
    "revision in header is old",  # the same, of old servers
)
"""Parts of messages that a new login answers.

Source: etcd ``api/v3rpc/rpctypes/error.go``.
"""

_MAX_MESSAGE = 200  # characters of a message that are shown
_SERVER_ERROR = 500
_NO_SUCH_PAGE = 404


class EtcdError(NodeError):
    """Something that etcd, or the way to it, may do at any time."""


@dataclass(eq=False)
class NotSent(EtcdError):
    """There was no connection, so nothing was done."""

    endpoint: str
    reason: str

    def __str__(self) -> str:
        return f"{self.endpoint}: {self.reason}"


@dataclass(eq=False)
class Ambiguous(EtcdError):
    """The request left and its answer is missing, or says nothing certain."""

    endpoint: str
    reason: str

    def __str__(self) -> str:
        return f"{self.endpoint}: {self.reason}"


@dataclass(eq=False)
class Refused(EtcdError):
    """Etcd said no, so nothing was done."""

    endpoint: str
    code: int
    """gRPC's; a missing permission (7) is final."""

    message: str

    def __str__(self) -> str:
        return f"{self.endpoint}: {self.message} (code {self.code})"

    @property
    def transient(self) -> bool:
        """Whether another endpoint, or the same one later, may say yes."""
        return self.code == RESOURCE_EXHAUSTED


@dataclass(eq=False)
class Unauthenticated(EtcdError):
    """Etcd does not accept the user or its password."""

    endpoint: str
    message: str

    def __str__(self) -> str:
        return f"{self.endpoint}: {self.message}"


class TokenRefused(Unauthenticated):
    """The token is no longer good, or there is none and one is needed."""


@dataclass(eq=False)
class Compacted(EtcdError):
    """What is asked for lies before the revision that etcd remembers from."""

    revision: int
    """The first one it remembers; 0 if it did not say."""

    def __str__(self) -> str:
        told = f" before {self.revision}" if self.revision else ""
        return f"history{told} is compacted; read anew"


@dataclass(eq=False)
class StaleAnswer(EtcdError):
    """An endpoint knows less than was known before it was asked.

    It lags, is cut off, or belongs to another cluster: one restored from a backup. A
    write that was answered so was done, there.
    """

    endpoint: str
    what: Literal["cluster_id", "raft_term", "revision"]
    known: int
    found: int

    def __str__(self) -> str:
        return f"{self.endpoint}: {self.what} is {self.found}, was {self.known}"


@dataclass(eq=False)
class LeaseLost(EtcdError):
    """The lease has ended, and its keys with it."""

    lease: int

    def __str__(self) -> str:
        return f"lease {self.lease:x} has ended; its keys are gone"


@dataclass(eq=False)
class WatchEnded(EtcdError):
    """The stream of events broke off; nothing after the last event is known."""

    endpoint: str
    reason: str

    def __str__(self) -> str:
        return f"{self.endpoint}: {self.reason}"


@dataclass(eq=False)
class FileUnusable(EtcdError):
    """A file that etcd's clients need cannot be used. Its content is never shown."""

    path: str
    reason: str
    hint: str

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}; {self.hint}"


@dataclass(eq=False)
class ClientMissing(EtcdError):
    """The Python package that speaks to etcd cannot be used."""

    reason: str
    hint: str

    def __str__(self) -> str:
        return f"{self.reason}; {self.hint}"


def parse_error(answer: bytes | Mapping[str, object]) -> tuple[int, str]:
    """Read the gRPC code and the message of an error, in any shape it may have.

    ==================  =================================================
    etcd up to 3.5      ``{"error": TEXT, "message": TEXT, "code": N}``
    etcd 3.5, 3.6       ``{"code": N, "message": TEXT}``
    a line of a stream  ``{"error": {"grpc_code": N, "message": TEXT, …}}``,
                        or ``{"error": {"code": N, "message": TEXT}}``
    not from etcd       text: a proxy's page, say
    ==================  =================================================

    Returns:
        The code, 2 (unknown) where none is told, and one line of text.
    """
    if isinstance(answer, bytes):
        try:
            found: object = json.loads(answer)
        except (ValueError, RecursionError):
            return UNKNOWN, _line(answer.decode("utf-8", "replace"))
        if not isinstance(found, dict):
            return UNKNOWN, _line(str(found))
        answer = cast("dict[str, object]", found)
    inner = answer.get("error")
    if isinstance(inner, dict):
        answer = cast("dict[str, object]", inner)
    code = answer.get("code", answer.get("grpc_code"))
    message = answer.get("message") or answer.get("error") or ""
    return code if type(code) is int else UNKNOWN, _line(str(message))


def _line(text: str) -> str:
    """Make one short line of text that may come from anybody."""
    words = " ".join(text[: 4 * _MAX_MESSAGE].split())
    shown = "".join(c if c.isprintable() else "�" for c in words)
    return shown if len(shown) <= _MAX_MESSAGE else f"{shown[:_MAX_MESSAGE]}…"


def verdict(
    endpoint: str, status: int, answer: bytes | Mapping[str, object]
) -> EtcdError:
    """Say what an answer that is an error means for the caller.

    Args:
        endpoint: Who gave it.
        status: That of HTTP; 200 for a line of a stream.
        answer: The body, or the document.
    """
    code, message = parse_error(answer)
    if code == OUT_OF_RANGE and "compacted" in message:
        return Compacted(0)
    if code == UNAUTHENTICATED or any(part in message for part in _LOGIN_AGAIN):
        return TokenRefused(endpoint, message)
    if code in _UNDECIDED or status >= _SERVER_ERROR:
        if status == _NO_SUCH_PAGE:
            message += "; start etcd with enable-grpc-gateway: true"
        return Ambiguous(endpoint, message or f"HTTP status {status}")
    return Refused(endpoint, code, message)
