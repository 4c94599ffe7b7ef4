"""derpctl's own file: which nodes there are, and how to talk to them."""

from pathlib import Path
from typing import Annotated

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
)
from pydantic_core import ErrorDetails

from derpctl.errors import CtlError
from derpctl.exits import Exit
from derpmesh.config import RegistrySection, registry_problems


# The 31st of February and lists without end are no YAML error of the library's.
_NO_YAML = (
    yaml.YAMLError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    RecursionError,
)

_SCHEMES = ("http://", "https://", "unix:/")


def admin_url(text: str) -> str:
    """Read where an admin listener is.

    Raises:
        ValueError: It is none.
    """
    if not text.startswith(_SCHEMES):
        message = "not http://HOST:PORT, https://HOST:PORT or unix:/PATH"
        raise ValueError(message)
    return text.rstrip("/")


def _path(value: object) -> object:
    return Path(value).expanduser() if isinstance(value, str) else value


FilePath = Annotated[Path, BeforeValidator(_path)]


class _Section(BaseModel):
    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, use_attribute_docstrings=True
    )


class NodeAddress(_Section):
    """Where one node's admin listener is."""

    name: Annotated[str, Field(min_length=1)]
    """Name of the node, as in the map."""

    admin: Annotated[str, AfterValidator(admin_url)]
    """`http://HOST:PORT`, `https://HOST:PORT` or `unix:/PATH`."""


class CtlConfig(_Section):
    """What derpctl knows of a region."""

    region: Annotated[int, Field(ge=1, le=65_535)]
    """Region id."""

    nodes: list[NodeAddress] = []
    """The nodes, in the order that the map has them in. Those that they know of are
    found as well. May be left out where there is a registry."""

    registry: RegistrySection = RegistrySection()
    """The etcd that the region is recorded in, as in the nodes' own configuration."""

    token_file: FilePath | None = None
    """File with the token that admin listeners off loopback ask for."""

    ca_file: FilePath | None = None
    """PEM file of authorities: of admin listeners, and of nodes without a pin.

    Default: the system's.
    """

    admin_ca_file: FilePath | None = None
    """PEM file of the authorities of admin listeners alone. Default: `ca_file`."""

    @property
    def admin_authorities(self) -> Path | None:
        """Who vouches for admin listeners; None: whom the system trusts."""
        return self.admin_ca_file or self.ca_file


def load_ctl_config(path: Path) -> CtlConfig:
    """Read the file.

    Raises:
        CtlError: There is none, or it cannot be used.
    """
    try:
        tree: object = yaml.safe_load(path.read_text("utf-8"))
    except FileNotFoundError:
        hint = "name one by --config, or bring a region up: derpctl demo --hold"
        raise CtlError(str(path), "no such file", hint, Exit.CONFIG) from None
    except OSError as exc:
        reason = f"cannot be read: {(exc.strerror or 'no reason given').lower()}"
        raise CtlError(str(path), reason, "check its mode", Exit.CONFIG) from exc
    except _NO_YAML as exc:
        reason = f"not YAML: {' '.join(str(exc).split())}"
        raise CtlError(str(path), reason, _EXAMPLE, Exit.CONFIG) from exc
    if not isinstance(tree, dict):
        reason = "empty" if tree is None else "not a mapping"
        raise CtlError(str(path), reason, _EXAMPLE, Exit.CONFIG)
    try:
        found = CtlConfig.model_validate(tree)
    except ValidationError as exc:
        raise _problem(path, exc.errors()[0]) from None
    _check_registry(path, found)
    names = [node.name for node in found.nodes]
    for name in names:
        if names.count(name) > 1:
            reason, hint = f"two nodes are called {name}", "give each its own name"
            value = f"{path}: nodes"
            raise CtlError(value, reason, hint, Exit.CONFIG)
    return found


def _check_registry(path: Path, config: CtlConfig) -> None:
    """Refuse a registry that cannot be asked, and nothing to ask at all.

    Raises:
        CtlError: Says which.
    """
    if config.registry.file is not None:
        value = f"{path}: registry.file"
        reason = "nodes read a region's file, and derpctl asks the nodes"
        raise CtlError(value, reason, "list them under nodes instead", Exit.CONFIG)
    for problem in registry_problems(config.registry):
        value = f"{path}: {problem.setting} = {problem.value!r}"
        raise CtlError(value, problem.reason, problem.hint, Exit.CONFIG)
    if not config.nodes and config.registry.etcd is None:
        value = f"{path}: nodes"
        raise CtlError(value, "missing", _EXAMPLE, Exit.CONFIG)


def read_token(path: Path | None) -> str | None:
    """Read the token for admin listeners; None if there is none to read.

    Raises:
        CtlError: The file cannot be read, or is empty.
    """
    if path is None:
        return None
    try:
        token = path.read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as exc:
        reason = "the token cannot be read"
        hint = "check token_file in derpctl's configuration, and its mode"
        raise CtlError(str(path), reason, hint, Exit.CONFIG) from exc
    if not token:
        hint = "put the node's token there"
        raise CtlError(str(path), "the token is empty", hint, Exit.CONFIG)
    return token


_EXAMPLE = 'write e.g. {region: 900, nodes: [{name: 900a, admin: "unix:/PATH"}]}'


def _problem(path: Path, error: ErrorDetails) -> CtlError:
    where = ".".join(str(part) for part in error["loc"]) or "the file"
    reason = error["msg"].removeprefix("Value error, ")
    reason = reason[0].lower() + reason[1:]
    if error["type"] == "extra_forbidden":
        reason = "unknown key"
    if error["type"] == "missing":
        return CtlError(f"{path}: {where}", "missing", _EXAMPLE, Exit.CONFIG)
    value = f"{path}: {where} = {error['input']!r:.80}"
    return CtlError(value, reason, _EXAMPLE, Exit.CONFIG)
