"""Clusters of etcd that tests share: each leaves them as they were, but for its keys.

A plain one has a single server. A secured one is as it should be in earnest: three
servers, TLS with names and client certificates, and users that may do what they must.
"""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import pytest

from derpmesh.etcd.tls import client_context
from tests.mesh.etcd.certificates import Authority
from tests.support.etcd import (
    Cluster,
    Found,
    Server,
    Version,
    add_user,
    cluster,
    enable_users,
    post,
    require_etcd,
    stored,
    token_of,
    transaction,
)
from tests.support.peers import MissingTool


HOST = "localhost"
"""What certificates of secured servers are for: a name, not an address."""

one_version = pytest.mark.parametrize("etcd_version", ["current"], indirect=True)
"""Marks what is the client's own doing, whichever etcd it asks."""

_ROOT = "s3cret-of-root"


class SecuredEtcd:
    """A secured cluster, and what its root does.

    Args:
        folder: Its own.
        version: Which etcd.
        count: Of servers.
        arguments: More words for the command line of each.
    """

    def __init__(
        self,
        folder: Path,
        version: Version,
        *,
        count: int = 3,
        arguments: Sequence[str] = (),
    ) -> None:
        self._authority = Authority(folder / "ca")
        self.ca = self._authority.ca
        self.certificate, self.key = self._authority.issue("client.example.com")
        """What clients prove themselves with; it has no common name."""

        self.context = client_context(self.ca, self.certificate, self.key)
        self.cluster = cluster(
            folder,
            count,
            version=version,
            host=HOST,
            tls=self._authority.server(HOST, client_auth=True),
            arguments=("--bcrypt-cost", "4", *arguments),
        )

    def start(self) -> "SecuredEtcd":
        """Start it, and let in users alone."""
        self.cluster.start(self.context)
        enable_users(self.url, _ROOT, context=self.context)
        return self

    @property
    def url(self) -> str:
        """Where root asks."""
        return self.cluster.urls[0]

    def restart(self, server: Server) -> None:
        """End a server as the power would, start it again, and wait until it serves."""
        server.kill()
        server.launch(self.cluster.peers)
        server.until_ready(self.context)

    def renew_certificate(self) -> None:
        """Sign another certificate for the servers, in the files of the first."""
        self._authority.issue(HOST)

    def add_user(self, name: str, password: str, root: bytes) -> None:
        """Let a user read and write below a key, and nothing else."""
        add_user(
            self.url, name, password, root, token=self._token, context=self.context
        )

    def transaction(self, name: str, password: str) -> Callable[..., int]:
        """Give what does steps at once, as a user; see `tests.support.etcd`."""
        token = token_of(self.url, name, password, context=self.context)
        return partial(transaction, self.url, token=token, context=self.context)

    def stored(self, key: bytes) -> Found | None:
        """Look what is stored under a key, as root."""
        return stored(self.url, key, token=self._token, context=self.context)

    def as_root(self, method: str, **payload: object) -> None:
        """Do something that only root may."""
        post(self.url, method, payload, token=self._token, context=self.context)

    @property
    def _token(self) -> str:
        return token_of(self.url, "root", _ROOT, context=self.context)


class Etcds:
    """Starts each cluster when it is first asked for.

    Args:
        folder: Where their data is.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._plain: dict[Version, Cluster] = {}
        self._secured: dict[Version, SecuredEtcd] = {}

    def plain(self, version: Version) -> Cluster:
        """Give the cluster of one server; skip where there is no such etcd."""
        if version not in self._plain:
            require(version)
            made = cluster(self._folder / version, version=version)
            self._plain[version] = made
            made.start()
        return self._plain[version]

    def secured(self, version: Version) -> SecuredEtcd:
        """Give the secured cluster; skip where there is no such etcd."""
        if version not in self._secured:
            require(version)
            made = SecuredEtcd(self._folder / f"secured-{version}", version)
            self._secured[version] = made
            made.start()
        return self._secured[version]

    def kill(self) -> None:
        """End all of them."""
        secured = [one.cluster for one in self._secured.values()]
        for one in (*self._plain.values(), *secured):
            one.kill()


def require(version: Version) -> None:
    """Have an etcd, or skip; on CI there is no skipping."""
    try:
        require_etcd(version)
    except MissingTool as missing:
        pytest.skip(str(missing))
