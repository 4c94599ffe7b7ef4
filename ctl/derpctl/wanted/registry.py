"""The registry of a region, as an operator at this machine uses it."""

import getpass
import socket
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

from derpctl.config import CtlConfig
from derpctl.errors import CtlError
from derpctl.exits import Exit
from derpmesh.membership.errors import RegistryError, RegistryUnavailable
from derpmesh.membership.operator import (
    AlreadyListed,
    Operator,
    OthersDrain,
    UnknownNode,
    operating,
)
from derpmesh.membership.records import BadRecord
from derpnode.errors import ConfigError


_Value = TypeVar("_Value")


def author() -> str:
    """Say who writes: others read it in the registry."""
    try:
        user = getpass.getuser()
    except (OSError, KeyError):  # a container's user may have no name
        user = "derpctl"
    return f"{user}@{socket.gethostname()}"


@asynccontextmanager
async def opened(
    config: CtlConfig, region: int | None = None
) -> AsyncGenerator[Operator]:
    """Use the registry until the block ends.

    Args:
        config: derpctl's own.
        region: Which one's; None: that of the configuration.

    Raises:
        CtlError: There is none, or it refuses; says what to do.
        RegistryUnavailable: It does not answer.
    """
    etcd = config.registry.etcd
    if etcd is None:
        value = "registry"
        reason = "derpctl's configuration names none to write to"
        hint = (
            "add registry: {etcd: {endpoints: [URL]}}; a region in a file is steered "
            "by editing that file"
        )
        raise CtlError(value, reason, hint, Exit.CONFIG)
    try:
        async with operating(etcd, region or config.region, author()) as operator:
            yield operator
    except ConfigError as exc:
        value = f"{exc.setting} = {str(exc.value)!r}"
        raise CtlError(value, exc.reason, exc.hint, Exit.CONFIG) from exc
    except RegistryUnavailable:
        raise
    except UnknownNode as exc:
        hint = f"there is {', '.join(exc.known) or 'none'}"
        reason = f"not in region {config.region}, as the registry has it"
        raise CtlError(exc.name, reason, hint, Exit.NOT_FOUND) from exc
    except RegistryError as exc:
        value, hint = f"region {config.region}", _remedy(exc)
        raise CtlError(value, str(exc), hint, Exit.REFUSED) from exc
    except BadRecord as exc:
        hint = "mend it with etcdctl; no other record is spoiled by it"
        raise CtlError(exc.key, exc.reason, hint, Exit.INVALID) from exc


async def ask(
    config: CtlConfig, question: Callable[[Operator], Awaitable[_Value]]
) -> _Value:
    """Use the registry for one thing.

    Raises:
        CtlError: It cannot be had, or refuses.
    """
    try:
        async with opened(config) as operator:
            return await question(operator)
    except RegistryUnavailable as exc:
        raise unreachable(exc) from exc


def _remedy(exc: RegistryError) -> str:
    """Say what to do where the registry refuses."""
    if isinstance(exc, OthersDrain):
        return f"derpctl node undrain {exc.others[0]} first, or use --force"
    if isinstance(exc, AlreadyListed):
        return f"derpctl node remove {exc.name} first, to list it as another"
    return "look who else steers it, and try again"


def no_region(config: CtlConfig) -> CtlError:
    """Say that nobody has said yet what the region is."""
    value, reason = f"region {config.region}", "the registry has no such region"
    hint = "start a node of it, or: derpctl region set --code CODE --name NAME"
    return CtlError(value, reason, hint, Exit.NOT_FOUND)


def no_node(config: CtlConfig) -> CtlError:
    """Say that there is nothing to show, nor to hand to clients."""
    value, reason = f"region {config.region}", "the registry has no node of it"
    hint = "start one, or correct region in derpctl's configuration"
    return CtlError(value, reason, hint, Exit.NOT_FOUND)


def unreachable(exc: RegistryUnavailable) -> CtlError:
    """Say that a command ends here as the registry is away."""
    hint = "check registry.etcd in derpctl's configuration, and that etcd runs"
    return CtlError("registry", exc.reason, hint, Exit.UNREACHABLE)
