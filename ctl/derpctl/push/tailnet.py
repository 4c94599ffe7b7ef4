"""The policy of a tailnet, as Tailscale's API has it: read, tried, and written.

Source: tailscale ``client/tailscale/acl.go`` and the OpenAPI description of
``/api/v2/tailnet/{tailnet}/acl``.
"""

import ipaddress
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from urllib.parse import quote, urlencode, urlsplit

import aiohttp

from derpctl.asking import asking
from derpctl.errors import CtlError
from derpctl.exits import Exit
from derpctl.map.lint import printable
from derpctl.push.credentials import Credentials


_HUJSON = "application/hujson"
_MOST = 8 << 20  # bytes of an answer
_MOST_SAID = 600  # characters that a message takes from the server
_ONLINE = "is this machine online?"
_OTHER = "is --api that of Tailscale?"
_WARNINGS = "warning(s) found"
"""The policy is valid all the same. Source: ``validateAndTestPolicyFile``."""


@dataclass(frozen=True, slots=True)
class Policy:
    """A policy file, and which of its versions it is."""

    text: str
    etag: str


@dataclass(slots=True)
class Tailnet:
    """One tailnet at one API. Each call asks once, and follows no redirect."""

    api: str
    """`https://api.tailscale.com`."""
    name: str
    """`example.com`; `-` is that of the credentials."""
    credentials: Credentials
    timeout: float
    """Seconds that an answer may take."""
    _token: str = field(default="", repr=False)

    async def read(self) -> Policy:
        """Get the policy.

        Raises:
            CtlError: It is not to be had.
        """
        answer = await self._ask("GET", "acl", headers={"Accept": _HUJSON})
        if answer.status != HTTPStatus.OK:
            raise self._refused(answer)
        etag = answer.headers.get("ETag", "")
        if not etag:
            reason = "the policy came without an ETag"
            hint = "edits of others could be lost; use --policy"
            raise CtlError(self.shown, reason, hint, Exit.REFUSED)
        try:
            return Policy(answer.body.decode("utf-8"), etag)
        except UnicodeDecodeError as exc:
            reason, hint = f"not text: byte {exc.start}", _OTHER
            raise CtlError(self.shown, reason, hint, Exit.INVALID) from exc

    async def validate(self, text: str) -> list[str]:
        """Have a policy tried, with the tests in it; give the warnings.

        Raises:
            CtlError: It would be refused.
        """
        headers = {"Content-Type": _HUJSON}
        answer = await self._ask("POST", "acl/validate", headers=headers, text=text)
        if answer.status != HTTPStatus.OK:
            raise self._refused(answer)
        verdict = answer.document()
        if verdict is None:
            raise self._unreadable()
        message, data = verdict.get("message"), verdict.get("data")
        if message == _WARNINGS:
            return [self._clean(line) for line in _details(data)]
        if message or data:
            reason = "; ".join([str(message or "refused"), *_details(data)])
            raise self._invalid(reason)
        return []

    async def write(self, policy: Policy) -> None:
        """Put a policy in force, if nobody wrote one since its version was read.

        Raises:
            CtlError: It is not in force, or there is no telling.
        """
        headers = {
            "Accept": _HUJSON,
            "Content-Type": _HUJSON,
            "If-Match": policy.etag,
        }
        answer = await self._ask("POST", "acl", headers=headers, text=policy.text)
        if answer.status != HTTPStatus.OK:
            raise self._refused(answer)

    @property
    def shown(self) -> str:
        """What to call its policy."""
        return "the policy" if self.name == "-" else f"the policy of {self.name}"

    async def _ask(
        self, method: str, path: str, *, headers: Mapping[str, str], text: str = ""
    ) -> "_Answer":
        self._token = self._token or await self._sign_in()
        url = f"{self.api}/api/v2/tailnet/{quote(self.name, safe='')}/{path}"
        sent = {**headers, "Authorization": f"Bearer {self._token}"}
        return await self._send(method, url, sent, text.encode("utf-8"))

    async def _sign_in(self) -> str:
        """Get what requests are signed with: of a client, one that lasts an hour."""
        if not self.credentials.client:
            return self.credentials.secret
        form = {
            "client_id": self.credentials.client,
            "client_secret": self.credentials.secret,
        }
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        url = f"{self.api}/api/v2/oauth/token"
        answer = await self._send("POST", url, headers, urlencode(form).encode())
        if answer.status == HTTPStatus.BAD_REQUEST:
            raise self._unknown(answer.status)
        if answer.status != HTTPStatus.OK:
            raise self._refused(answer)
        token = (answer.document() or {}).get("access_token")
        if not isinstance(token, str) or not token.isprintable() or not token:
            raise self._unreadable()
        return token

    async def _send(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes
    ) -> "_Answer":
        async with (
            asking(self.api, timeout=self.timeout, up=_ONLINE, broken=_OTHER),
            aiohttp.ClientSession() as session,
            session.request(
                method,
                url,
                headers=headers,
                data=body or None,
                allow_redirects=False,
            ) as answer,
        ):
            found = bytearray()
            while not answer.content.at_eof() and len(found) <= _MOST:
                found += await answer.content.read(_MOST + 1 - len(found))
            return _Answer(answer.status, answer.headers, bytes(found))

    def _refused(self, answer: "_Answer") -> CtlError:
        """Say what an answer means that is not what was asked for."""
        match answer.status:
            case HTTPStatus.UNAUTHORIZED | HTTPStatus.FORBIDDEN:
                return self._unknown(answer.status)
            case HTTPStatus.NOT_FOUND:
                hint = "correct --tailnet; - is that of the key"
                return CtlError(self.shown, "no such tailnet", hint, Exit.NOT_FOUND)
            case HTTPStatus.PRECONDITION_FAILED:
                reason = "somebody changed it meanwhile; nothing was written"
                return CtlError(self.shown, reason, "run it again", Exit.REFUSED)
            case HTTPStatus.BAD_REQUEST:
                said = (answer.document() or {}).get("message")
                return self._invalid(str(said or "refused, without a reason"))
            case _:
                hint = "try again later; nothing was written that is known of"
                reason = f"answered {answer.status}"
                return CtlError(self.api, reason, hint, Exit.UNREACHABLE)

    def _unknown(self, status: int) -> CtlError:
        reason = f"the credentials are not accepted ({status})"
        hint = "give an API key that is valid, or a client with scope policy_file"
        return CtlError(self.shown, reason, hint, Exit.CONFIG)

    def _invalid(self, reason: str) -> CtlError:
        hint = "nothing was written; correct the policy"
        return CtlError(self.shown, self._clean(reason), hint, Exit.INVALID)

    def _unreadable(self) -> CtlError:
        reason, hint = "no HTTP answer that can be read", _OTHER
        return CtlError(self.api, reason, hint, Exit.UNREACHABLE)

    def _clean(self, text: str) -> str:
        """Show what the server says, but for what it must not be told again."""
        for secret in (self.credentials.secret, self._token):
            text = text.replace(secret, "…") if secret else text
        return printable(" ".join(text.split()))[:_MOST_SAID]


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes

    def document(self) -> dict[str, object] | None:
        """Read the body as an object; nothing at all is an empty one."""
        try:
            found: object = json.loads(self.body or b"{}")
        except ValueError:
            return None
        return found if isinstance(found, dict) else None


def _details(data: object) -> list[str]:
    """Give what is said of users whose tests failed, a line for each."""
    lines = []
    for one in data if isinstance(data, list) else []:
        if isinstance(one, dict):
            said = [*_texts(one.get("errors")), *_texts(one.get("warnings"))]
            lines += [f"{one.get('user', '')}: {text}" for text in said]
    return lines


def _texts(found: object) -> list[str]:
    return [str(text) for text in found] if isinstance(found, list) else []


def api_url(text: str) -> str:
    """Read where the API is.

    Raises:
        CtlError: It is no URL, or credentials would go there in the clear.
    """
    hint = "give https://HOST[:PORT]"
    try:
        parts = urlsplit(text)
        host, _ = parts.hostname, parts.port
    except ValueError as exc:
        raise CtlError("--api", str(exc).lower(), hint, Exit.USAGE) from exc
    if (
        not host
        or not text.isprintable()
        or "@" in parts.netloc
        or parts.query
        or parts.fragment
    ):
        raise CtlError("--api", "not the URL of a server", hint, Exit.USAGE)
    if parts.scheme != "https" and not (parts.scheme == "http" and _is_here(host)):
        reason = "credentials would go there in the clear"
        raise CtlError("--api", reason, hint, Exit.USAGE)
    return text.rstrip("/")


def _is_here(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
