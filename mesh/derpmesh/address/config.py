"""The settings of `derpd-address`."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import yaml
from pydantic import BeforeValidator, Field, ValidationError

from derpnode.config import FilePath, InvalidConfig, Section
from derpnode.errors import ConfigError


class SourceName(StrEnum):
    """Where an address may be from."""

    HOSTS = "hosts"
    ANNOTATION = "annotation"
    LOAD_BALANCER = "loadBalancer"
    CLUSTER_IP = "clusterIP"
    NODE_EXTERNAL_IP = "nodeExternalIP"
    HOST_IP = "hostIP"
    STUN = "stun"


Name = Annotated[SourceName, BeforeValidator(SourceName)]


class AnnotationsSection(Section):
    """The pod's annotations, as the kubelet writes them into a file."""

    file: FilePath = Path("/etc/podinfo/annotations")
    key: str = "derpmesh.io/host"


class AddressConfig(Section):
    """Where to look, and what to write."""

    template: FilePath
    """derpd's configuration but for what only a pod knows."""

    output: FilePath
    """Where the whole of it is written."""

    sources: Annotated[list[Name], Field(min_length=1)]
    """Asked in order; the first that has an address counts."""

    hosts: Annotated[dict[str, str], Field(default_factory=dict)]
    """Addresses by name of the pod, its ordinal, or name of its machine."""

    annotations: AnnotationsSection = AnnotationsSection()
    stun_servers: Annotated[list[str], Field(default_factory=list)]
    """`HOST:PORT`, asked in order."""

    admin_host: str | None = None
    """Name of the admin listener; `{pod}` is the pod's name, `{ip}` its address as
    CoreDNS has it in a name."""

    node_ports: bool = False
    """Whether clients dial the ports that the pod's Service has on the machines."""

    follow: bool = False
    """Whether the registry is told of an address that changed, and the map follows."""

    timeout: Annotated[float, Field(gt=0, le=3_600, strict=False)] = 300.0
    """Seconds to wait for a balancer, and for an API that does not answer."""


def load_address_config(path: Path) -> AddressConfig:
    """Read the file.

    Raises:
        InvalidConfig: It cannot be used; every problem is listed.
    """
    try:
        return AddressConfig.model_validate(read_tree(path))
    except ValidationError as exc:
        problems = [
            ConfigError(
                ".".join(map(str, error["loc"])) or str(path),
                error["input"],
                error["msg"],
                "correct the file",
            )
            for error in exc.errors()
        ]
        raise InvalidConfig(problems) from None


def read_tree(path: Path) -> dict[str, object]:
    """Read a mapping of YAML.

    Raises:
        InvalidConfig: There is none.
    """
    try:
        tree: object = yaml.safe_load(path.read_text("utf-8"))
    except OSError as exc:
        reason = f"cannot be read: {exc.strerror}"
        raise _unusable(path, reason) from exc
    except (yaml.YAMLError, ValueError) as exc:
        reason = f"not YAML: {' '.join(str(exc).split())}"
        raise _unusable(path, reason) from exc
    if not isinstance(tree, dict):
        raise _unusable(path, "not a mapping of keys")
    return tree


def _unusable(path: Path, reason: str) -> InvalidConfig:
    hint = "name a file of YAML that can be read"
    return InvalidConfig([ConfigError("file", str(path), reason, hint)])
