"""The settings of `derpd`: those of a node, and where its region is recorded."""

import ipaddress
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import Field

from derpnode.config import AUTO_NAME, FilePath, NodeConfig, Section, is_ip, read_config
from derpnode.errors import ConfigError


_PREFIX = re.compile(r"/[!-~]*[!-.0-~]")


class EtcdSection(Section):
    """The etcd cluster that the members of the region are recorded in."""

    endpoints: Annotated[list[str], Field(min_length=1)]
    """`http://HOST:PORT` or `https://HOST:PORT` of its members; tried in order."""

    prefix: str = "/derpmesh/v1"
    """What all keys begin with. `user` must read and write at `PREFIX/regions/ID/`."""

    user: str | None = None
    """Who the node is to etcd, where it has users."""

    password_file: FilePath | None = None
    """File with the password of `user`, readable by its owner alone."""

    ca_file: FilePath | None = None
    """PEM file of what is trusted to be etcd; else the system's roots."""

    certificate: FilePath | None = None
    """PEM file of a client certificate. Where etcd has users: without a common name."""

    key: FilePath | None = None
    """PEM file of the key of `certificate`."""

    ttl: Annotated[int, Field(ge=5, le=3_600)] = 15
    """Seconds after which the record of a node that says nothing ends."""


class RegistrySection(Section):
    """Where the members of the region are recorded. One place, or none."""

    file: FilePath | None = None
    """A YAML file that lists the nodes. Watched; an edit opens and closes links."""

    etcd: EtcdSection | None = None
    """An etcd cluster; nodes record themselves."""


class HomingSection(Section):
    """Bringing clients back to the node that their map prefers, after a failover."""

    enabled: bool = True
    """Whether this node moves its clients."""

    after: Annotated[float, Field(ge=0, le=86_400, strict=False)] = 600.0
    """Seconds for which that node must have been serving."""

    interval: Annotated[float, Field(ge=0.1, le=86_400, strict=False)] = 60.0
    """Seconds between two rounds."""

    share: Annotated[float, Field(gt=0, le=1, strict=False)] = 0.01
    """Part of the clients that prefer another node, moved in a round; 1 at least."""


class DaemonConfig(NodeConfig):
    """Settings of a node in a region."""

    registry: RegistrySection = RegistrySection()
    homing: HomingSection = HomingSection()

    @property
    def has_rules(self) -> bool:
        """See `NodeConfig`."""
        return self.registry.file is not None or self.registry.etcd is not None

    def problems(self) -> Iterator[ConfigError]:
        """Yield what is wrong between sections; each alone is already valid."""
        yield from super().problems()
        yield from registry_problems(self.registry)
        if self.node.name == AUTO_NAME and self.registry.etcd is None:
            yield ConfigError(
                "node.name",
                AUTO_NAME,
                reason="only etcd gives names",
                hint="set registry.etcd, or a name: region id and a letter",
            )
        if self.mesh.key_file is not None:
            return
        etcd = self.registry.etcd
        for setting, wanted in (
            ("registry.file", self.registry.file),
            ("registry.etcd.endpoints", etcd and list(map(_shown, etcd.endpoints))),
            ("mesh.peers", self.mesh.peers),
        ):
            if wanted:
                yield ConfigError(
                    setting,
                    str(wanted),
                    reason="nodes mesh only with a key they share",
                    hint="set mesh.key_file; `derpctl key mesh generate` makes one",
                )


def registry_problems(registry: RegistrySection) -> Iterator[ConfigError]:
    """Yield what is wrong with where the members are recorded."""
    etcd = registry.etcd
    if etcd is None:
        return
    if registry.file is not None:
        yield ConfigError(
            "registry.file",
            str(registry.file),
            reason="the members are recorded in etcd as well, and one place must count",
            hint="keep registry.file or registry.etcd, and remove the other",
        )
    if not _PREFIX.fullmatch(etcd.prefix):
        yield ConfigError(
            "registry.etcd.prefix",
            etcd.prefix,
            reason="not a path: / and printable ASCII, with no / at its end",
            hint="write /derpmesh/v1, say",
        )
    yield from _check_endpoints(etcd)
    yield from _check_proofs(etcd)


def _check_endpoints(etcd: EtcdSection) -> Iterator[ConfigError]:
    """Yield the endpoints that cannot be asked, or must not be."""
    for index, url in enumerate(etcd.endpoints):
        reason, hint = _no_endpoint(url), "write http://HOST:2379 or https://HOST:2379"
        if not reason and etcd.user is not None and _is_open(url):
            reason = "the password would cross the network in the clear"
            hint = "write https://, or an address of this machine"
        if reason:
            name = f"registry.etcd.endpoints.{index}"
            yield ConfigError(name, _shown(url), reason, hint)


def _no_endpoint(text: str) -> str:
    """Say why a text is not `http(s)://HOST:PORT`; nothing if it is."""
    try:
        url = urlsplit(text)
        port = url.port
    except ValueError as exc:
        return f"not a URL: {exc}"
    if url.scheme not in ("http", "https") or not url.hostname:
        return "not an http:// or https:// URL with a host"
    if "@" in url.netloc:
        return "it holds a user; those belong to registry.etcd.user and password_file"
    if url.path not in ("", "/") or url.query or url.fragment:
        return "there is something after its port"
    return "" if port else "no port in it"


def _is_open(url: str) -> bool:
    """Tell whether others may read what is said to a URL."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    local = is_ip(host) and ipaddress.ip_address(host).is_loopback
    return parts.scheme != "https" and not local and host != "localhost"


def _shown(url: str) -> str:
    """Give a URL as it may be printed: without a user and a password."""
    return re.sub(r"[^/]*@", "…@", url)


def _check_proofs(etcd: EtcdSection) -> Iterator[ConfigError]:
    """Yield what is missing of a pair, or of no use over plain HTTP."""
    values = {name: getattr(etcd, name) for name in EtcdSection.model_fields}
    for one, other in (("user", "password_file"), ("certificate", "key")):
        for given, missing in ((one, other), (other, one)):
            if values[given] is not None and values[missing] is None:
                yield ConfigError(
                    f"registry.etcd.{given}",
                    str(values[given]),
                    reason=f"it goes together with {missing}",
                    hint=f"set registry.etcd.{missing} as well, or neither",
                )
    if any(url.startswith("https://") for url in etcd.endpoints):
        return
    for name in ("ca_file", "certificate"):
        if values[name] is not None:
            yield ConfigError(
                f"registry.etcd.{name}",
                str(values[name]),
                reason="no endpoint is https://, so it would not be used",
                hint="write https:// in registry.etcd.endpoints, or remove it",
            )


def load_daemon_config(
    path: Path | None,
    environ: Mapping[str, str],
    overrides: Sequence[str] = (),
    base: Mapping[str, object] | None = None,
) -> DaemonConfig:
    """Read the configuration of `derpd`; see `derpnode.config.read_config`.

    Raises:
        InvalidConfig: Something cannot be used; every problem is listed.
    """
    return read_config(DaemonConfig, path, environ, overrides, base)
