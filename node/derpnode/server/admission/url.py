"""Asks a URL whether a key may relay, with derper's question and answer.

headscale answers at ``/verify``. Source: tailscale
``derp/derpserver/derpserver.go``, ``verifyClient``; ``tailcfg/derpmap.go``,
``DERPAdmitClientRequest`` and ``DERPAdmitClientResponse``.
"""

import json
from typing import cast

import aiohttp
import yarl

from derpnode.errors import ConfigError
from derpnode.server.admission.http import HttpSource, read_capped
from derpnode.server.admission.verdict import Verdict
from derpnode.wire.keys import NodeKey, node_key_text


MAX_ANSWER = 4 * 1024
"""Bytes read of an answer. Source: ``verifyClient``, ``io.LimitReader``."""

MAX_REDIRECTS = 3
"""Redirects followed, all to the same host."""

_OK = 200
_KEEPS_BODY = frozenset({307, 308})  # other redirects turn POST into GET
_REDIRECTS = _KEEPS_BODY | {301, 302, 303}

Pairs = list[tuple[str, object]]


class Url(HttpSource):
    """Allows what the URL allows.

    Unlike derper, anything but a 200 with a JSON object is no answer, rather
    than a no: a proxy whose backend is down must not lock everybody out.

    Args:
        url: http or https. Only its scheme, host and port are part of the
            source's name: user, path and query may be secret.

    Raises:
        ConfigError: It cannot be used as a URL.
    """

    def __init__(self, url: str) -> None:
        try:
            self._url = yarl.URL(url)
            origin = self._url.origin()
        except ValueError:
            hint = "write https://HOST/PATH"
            raise ConfigError("admission.urls", "…", "not a URL", hint) from None
        super().__init__(f"url:{origin}")

    def connect(self) -> aiohttp.ClientSession:
        """Make a session."""
        return aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=None),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            headers={"Accept-Encoding": "identity", "User-Agent": "derpd"},
            skip_auto_headers=["Content-Type"],  # derper sends none
        )

    async def ask(self, key: NodeKey, ip: str) -> Verdict:
        """Post the question and judge the answer."""
        question = {"NodePublic": node_key_text(key), "Source": ip}
        body = json.dumps(question, separators=(",", ":")).encode()
        try:
            return await self._follow(body)
        except (aiohttp.ClientError, OSError) as exc:
            return self.unreachable(exc)

    async def _follow(self, body: bytes) -> Verdict:
        """Ask; go where the host itself sends us, but to no other."""
        url = self._url
        for _ in range(MAX_REDIRECTS + 1):
            status, location, answer = await self._post(url, body)
            if status not in _REDIRECTS:
                return self._judge(status, answer)
            target = _joined(url, location)
            if (
                target is None
                or status not in _KEEPS_BODY
                or not _is_same_host(url, target)
            ):
                return self.unknown(f"answered {status}, a redirect elsewhere")
            url = target
        return self.unknown(f"more than {MAX_REDIRECTS} redirects")

    def _judge(self, status: int, answer: bytes) -> Verdict:
        if status != _OK:
            return self.unknown(f"answered {status}")
        members = _first_object(answer)
        if members is None:
            return self.unknown("answered 200 with something else than JSON")
        if not _allows(members):
            return self.deny("it does not allow the key")
        return self.allow("it allows the key")

    async def _post(self, url: yarl.URL, body: bytes) -> tuple[int, str, bytes]:
        """Give status, redirect target and the first bytes of the answer."""
        try:
            return await self._post_once(url, body)
        except aiohttp.ServerDisconnectedError:
            # It closed an idle connection just as we took it up again.
            return await self._post_once(url, body)

    async def _post_once(self, url: yarl.URL, body: bytes) -> tuple[int, str, bytes]:
        async with self.session.post(url, data=body, allow_redirects=False) as answer:
            location = answer.headers.get("Location", "")
            return answer.status, location, await read_capped(answer, MAX_ANSWER)


def _joined(url: yarl.URL, location: str) -> yarl.URL | None:
    """Resolve where an answer sends us; None if that is no URL."""
    try:
        target = url.join(yarl.URL(location))
        target.port  # noqa: B018 - judged only when it is looked at
    except (ValueError, IndexError):  # yarl trips over `//[]@`
        return None
    return target


def _is_same_host(old: yarl.URL, new: yarl.URL) -> bool:
    """Tell whether a redirect stays on its host, and does not leave https."""
    if old.scheme == "https" and new.scheme != "https":
        return False
    return old.host == new.host and new.scheme in {"http", "https"}


def _first_object(answer: bytes) -> Pairs | None:
    """Read the JSON object that an answer begins with; None if there is none.

    What follows it is not looked at, as in Go. Members stay in order, and
    may be repeated.
    """
    decoder = json.JSONDecoder(object_pairs_hook=_Members)
    try:
        value: object = decoder.raw_decode(answer.decode().lstrip())[0]
    except (ValueError, RecursionError):
        return None
    return cast("Pairs", value) if isinstance(value, _Members) else None


class _Members(list[tuple[str, object]]):
    """The members of a JSON object, told apart from a JSON array."""


def _allows(members: Pairs) -> bool:
    """Find `Allow`, in any case; the last one counts, and only true is a yes.

    Source: Go ``encoding/json``, how it fills a struct: null changes nothing, and
    a value of another type is an error.
    """
    allow = False
    for name, value in members:
        if name.lower() != "allow" or value is None:
            continue
        if not isinstance(value, bool):
            return False
        allow = value
    return allow
