"""Clusters of etcd that tests share: each leaves them as they were, but for its keys.

A plain one has a single server. A secured one is as it should be in earnest: three
servers, TLS with names and client certificates, and users that may do what they must.
"""

import ssl
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from derpmesh.etcd.tls import client_context
from tests.mesh.etcd.certificates import Authority
from tests.support.etcd import (
    Cluster,
    Version,
    add_user,
    cluster,
    enable_users,
    post,
    require_etcd,
    token_of,
    transaction,
)
from tests.support.peers import MissingTool


HOST = "localhost"
"""What certificates of secured servers are for: a name, not an address."""

_ROOT = "s3cret-of-root"


class SecuredEtcd:
    """A secured cluster that runs, and what its root does.

    Args:
        found: The cluster; it is not started yet.
        context: How clients prove themselves: without a common name.
    """

    def __init__(self, found: Cluster, context: ssl.SSLContext) -> None:
        self.cluster = found
        self.context = context

    def start(self) -> "SecuredEtcd":
        """Start it, and let in users alone."""
        self.cluster.start(self.context)
        enable_users(self.url, _ROOT, context=self.context)
        return self

    @property
    def url(self) -> str:
        """Where root asks."""
        return self.cluster.urls[0]

    def add_user(self, name: str, password: str, root: bytes) -> None:
        """Let a user read and write below a key, and nothing else."""
        add_user(
            self.url, name, password, root, token=self._token, context=self.context
        )

    def transaction(self, name: str, password: str) -> Callable[..., int]:
        """Give what does steps at once, as a user; see `tests.support.etcd`."""
        token = token_of(self.url, name, password, context=self.context)
        return partial(transaction, self.url, token=token, context=self.context)

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
            _require(version)
            made = cluster(self._folder / version, version=version)
            self._plain[version] = made
            made.start()
        return self._plain[version]

    def secured(self, version: Version) -> SecuredEtcd:
        """Give the secured cluster; skip where there is no such etcd."""
        if version not in self._secured:
            _require(version)
            made = secured_cluster(self._folder / f"secured-{version}", version)
            self._secured[version] = made
            made.start()
        return self._secured[version]

    def kill(self) -> None:
        """End all of them."""
        secured = [one.cluster for one in self._secured.values()]
        for one in (*self._plain.values(), *secured):
            one.kill()


def secured_cluster(
    folder: Path, version: Version, *arguments: str, count: int = 3
) -> SecuredEtcd:
    """Make a secured cluster that is not started yet.

    Args:
        folder: Its own.
        version: Which etcd.
        arguments: More words for the command line of each server.
        count: Of servers.
    """
    authority = Authority(folder / "ca")
    context = client_context(authority.ca, *authority.issue("client.example.com"))
    made = cluster(
        folder,
        count,
        version=version,
        host=HOST,
        tls=authority.server(HOST, client_auth=True),
        arguments=("--bcrypt-cost", "4", *arguments),
    )
    return SecuredEtcd(made, context)


def _require(version: Version) -> None:
    try:
        require_etcd(version)
    except MissingTool as missing:
        pytest.skip(str(missing))
