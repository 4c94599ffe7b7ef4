"""The head of an HTTP request on a public port: judged raw, then parsed by h11.

The grammar is tiny on purpose. What follows the blank line is never HTTP again
after an upgrade: it belongs to DERP, and often comes in the same segment.
"""

import re
from dataclasses import dataclass

import h11

from derpnode.errors import ProtocolError


MAX_HEAD = 8 * 1024
"""Bytes of a request head, blank line included."""

MAX_LINES = 64
"""Lines of a request head, the request line included."""

MAX_TARGET = 2048
"""Bytes of a request target."""

_END = b"\r\n\r\n"
_START = re.compile(rb"[A-Z]{1,16}(?: |\Z)")
_REQUEST_LINE = re.compile(rb"([A-Z]{1,16}) ([!-~]+) (HTTP/1\.[01])")
_BAD_BYTES = re.compile(rb"[\0-\x08\x0b\x0c\x0e-\x1f\x7f]|(?<!\r)\n|\r(?!\n|\Z)")


@dataclass(eq=False)
class BadRequest(ProtocolError):
    """A request that is answered with an error, and its connection closed."""

    status: int
    reason: str

    def __str__(self) -> str:
        return f"{self.status} {self.reason}"


@dataclass(frozen=True)
class Request:
    """A request without a body."""

    method: str
    target: str
    """As it was sent: path and query, or the authority of a CONNECT."""

    headers: tuple[tuple[str, str], ...]
    """Names in lower case, in the order they came."""

    http11: bool

    @property
    def path(self) -> str:
        """The target without its query."""
        return self.target.partition("?")[0]

    @property
    def query(self) -> str:
        """What follows the first question mark, which is not included."""
        return self.target.partition("?")[2]

    def header(self, name: str) -> str:
        """The first value of a header, or an empty text."""
        return next((value for key, value in self.headers if key == name), "")

    def all(self, name: str) -> list[str]:
        """Every value of a header."""
        return [value for key, value in self.headers if key == name]

    def has_token(self, name: str, token: str) -> bool:
        """Whether a comma-separated header holds a token, in any case."""
        tokens = ",".join(self.all(name)).lower().split(",")
        return token in (found.strip() for found in tokens)


def head_size(data: bytes | bytearray) -> int:
    """Find the size of the head that `data` begins with; 0 when more must come.

    Raises:
        BadRequest: It can never become a head we accept.
    """
    if data and not _START.match(data) and not _is_prefix(data):
        raise BadRequest(400, "the method is not upper-case letters")
    end = data.find(_END, 0, MAX_HEAD)
    head = data[: end + len(_END)] if end >= 0 else data
    if _BAD_BYTES.search(head):
        raise BadRequest(400, "lines end in CR LF and hold no control bytes")
    if head.count(b"\n") > MAX_LINES:
        raise BadRequest(431, f"more than {MAX_LINES} lines in the head")
    if end >= 0:
        return end + len(_END)
    if len(data) >= MAX_HEAD:
        raise BadRequest(431, f"more than {MAX_HEAD} bytes in the head")
    return 0


def _is_prefix(data: bytes | bytearray) -> bool:
    """Whether this may still become a method: upper-case letters and no more yet."""
    return len(data) <= 16 and data.isalpha() and data.isupper()  # noqa: PLR2004


def parse_head(head: bytes) -> Request:
    """Read a whole head.

    Raises:
        BadRequest: It breaks the grammar, or announces a body.
    """
    line = _REQUEST_LINE.fullmatch(head.partition(b"\r\n")[0])
    if line is None:
        raise BadRequest(400, "the request line is not METHOD TARGET HTTP/1.1")
    if len(line[2]) > MAX_TARGET:
        raise BadRequest(414, f"more than {MAX_TARGET} bytes in the target")
    if line[1] != b"CONNECT" and not line[2].startswith(b"/"):
        raise BadRequest(400, "the target does not begin with a slash")
    if re.search(rb"\r\n[ \t]", head):
        raise BadRequest(400, "folded header lines")
    parser = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEAD)
    try:
        parser.receive_data(head)
        event = parser.next_event()
    except h11.RemoteProtocolError as exc:
        raise BadRequest(exc.error_status_hint, str(exc)) from exc
    if not isinstance(event, h11.Request):
        raise BadRequest(400, "no request")
    request = Request(
        event.method.decode(),
        event.target.decode(),
        tuple((k.decode(), v.decode("latin-1")) for k, v in event.headers),
        event.http_version == b"1.1",
    )
    _refuse_body(request)
    return request


def _refuse_body(request: Request) -> None:
    """Refuse what announces a body: there is none here, so it could only smuggle."""
    if request.all("transfer-encoding"):
        raise BadRequest(400, "Transfer-Encoding: no request has a body here")
    if any(length != "0" for length in request.all("content-length")):
        raise BadRequest(400, "Content-Length: no request has a body here")
