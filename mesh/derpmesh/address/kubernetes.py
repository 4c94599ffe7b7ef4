"""Reads objects of the Kubernetes API with the account of the pod."""

import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

import aiohttp
from pydantic import BaseModel, ValidationError

from derpmesh.address.objects import Machine, Service
from derpnode.errors import NodeError


ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
"""Where a pod's token is, and the certificate of who signs the API's."""

_PATIENCE = aiohttp.ClientTimeout(total=10)
_NOT_FOUND = 404
_OK = 200
_REFUSED = (401, 403)

T = TypeVar("T", bound=BaseModel)


@dataclass(eq=False)
class ApiRefused(NodeError):
    """The account may not read an object. Asking again is of no use."""

    path: str
    status: int

    def __str__(self) -> str:
        return f"the API answers {self.status} to {self.path}"


@dataclass(eq=False)
class ApiAway(NodeError):
    """No usable answer. The next try may have one."""

    reason: str

    def __str__(self) -> str:
        return f"the API cannot be asked: {self.reason}"


class Cluster(Protocol):
    """Where objects are read."""

    async def service(self, namespace: str, name: str) -> Service | None:
        """Give a Service; None if there is none.

        Raises:
            ApiRefused: The account may not read it.
            ApiAway: There is no usable answer.
        """

    async def machine(self, name: str) -> Machine | None:
        """Give a Node; as `service`."""


class Api:
    """The API as a pod sees it.

    Args:
        url: `https://HOST:PORT`.
        account: Folder with `token` and `ca.crt`; read anew for each question, as
            tokens are renewed.
    """

    def __init__(self, url: str, account: Path = ACCOUNT) -> None:
        self._url = url
        self._account = account

    async def service(self, namespace: str, name: str) -> Service | None:
        """See `Cluster`."""
        return await self._get(
            f"/api/v1/namespaces/{namespace}/services/{name}", Service
        )

    async def machine(self, name: str) -> Machine | None:
        """See `Cluster`."""
        return await self._get(f"/api/v1/nodes/{name}", Machine)

    async def _get(self, path: str, kind: type[T]) -> T | None:
        try:
            token = (self._account / "token").read_text("ascii").strip()
            context = ssl.create_default_context(cafile=self._account / "ca.crt")
        except (OSError, ValueError) as exc:
            raise ApiAway(reason=f"{self._account}: {_reason(exc)}") from exc
        headers = {"Authorization": f"Bearer {token}", "Accept": "application/json"}
        try:
            async with (
                aiohttp.ClientSession(timeout=_PATIENCE, headers=headers) as session,
                session.get(self._url + path, ssl=context) as answer,
            ):
                return _read(path, answer.status, await answer.read(), kind)
        except (TimeoutError, aiohttp.ClientError) as exc:
            raise ApiAway(_reason(exc)) from exc


def _read(path: str, status: int, body: bytes, kind: type[T]) -> T | None:
    if status == _NOT_FOUND:
        return None
    if status in _REFUSED:
        raise ApiRefused(path, status)
    if status != _OK:
        raise ApiAway(reason=f"it answers {status}")
    try:
        return kind.model_validate_json(body)
    except ValidationError as exc:
        raise ApiAway(reason="its answer is no such object") from exc


def _reason(exc: Exception) -> str:
    return " ".join(str(exc).split()) or "no answer"


def api_of(environ: Mapping[str, str]) -> Api | None:
    """Find the API by what every pod is told of it; None outside of a cluster."""
    host, port = (
        environ.get(f"KUBERNETES_SERVICE_{name}", "") for name in ("HOST", "PORT")
    )
    if not host or not port:
        return None
    return Api(f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}")
