"""`derpd-address`: writes the configuration of the `derpd` that starts after it."""

import asyncio
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer
import yaml

from derpmesh.address.config import AddressConfig, load_address_config, read_tree
from derpmesh.address.errors import NoAddress
from derpmesh.address.fill import fill_admin, fill_place, fill_ports, has_host
from derpmesh.address.kubernetes import api_of
from derpmesh.address.place import Pod
from derpmesh.address.record import follow
from derpmesh.address.sources import Finder
from derpmesh.config import load_daemon_config
from derpnode.config import InvalidConfig
from derpnode.errors import ConfigError
from derpnode.server.identity import write_atomically


EXIT_CONFIG = 3
"""The settings are missing or cannot be used. As in `derpd`."""

EXIT_NO_ADDRESS = 4
"""No source has an address, or one cannot be asked. As "no answer" of `derpctl`."""

_READABLE = 0o644  # no secret is in a configuration

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def derpd_address(
    file: Annotated[Path, typer.Argument(help="Its settings, YAML.")],
) -> None:
    """Find the address that clients dial, and write derpd's configuration with it.

    For a pod of Kubernetes, before derpd starts. If etcd has the node with another
    address, it is told of the new one where the settings say so. Exits 3 when the
    settings cannot be used, 4 when no source has an address or one cannot be asked.
    """
    try:
        config = load_address_config(file)
        asyncio.run(_prepare(config, os.environ))
    except (InvalidConfig, ConfigError) as exc:
        for line in str(exc).splitlines():
            _say(line)
        raise typer.Exit(EXIT_CONFIG) from exc
    except NoAddress as exc:
        _say(str(exc))
        raise typer.Exit(EXIT_NO_ADDRESS) from exc


async def _prepare(config: AddressConfig, environ: Mapping[str, str]) -> None:
    """Write the configuration, and see that the registry knows of it.

    Raises:
        InvalidConfig: The template cannot be used, or what is made of it.
        ConfigError: A file cannot be used.
        NoAddress: There is no address.
    """
    await _write(config, environ)
    if config.follow:
        settings = {n: v for n, v in environ.items() if n != "DERPD_CONFIG"}
        await follow(load_daemon_config(config.output, settings), _say)


async def _write(config: AddressConfig, environ: Mapping[str, str]) -> None:
    """Fill in the template, and write it.

    Raises:
        InvalidConfig: The template cannot be used.
        ConfigError: The output cannot be written.
        NoAddress: There is no address.
    """
    pod = _pod(environ)
    tree = read_tree(config.template)
    finder = Finder(config, pod, api_of(environ), _say)
    if has_host(tree):
        _say("node.host: as configured")
    else:
        fill_place(tree, await finder.place())
    if config.node_ports:
        fill_ports(tree, await finder.ports())
    if config.admin_host is not None:
        fill_admin(tree, config.admin_host, pod)
    try:
        write_atomically(config.output, yaml.safe_dump(tree).encode(), mode=_READABLE)
    except OSError as exc:
        reason, hint = f"cannot be written: {exc.strerror}", "mount a folder there"
        raise ConfigError("output", str(config.output), reason, hint) from exc


def _pod(environ: Mapping[str, str]) -> Pod:
    """Read what the downward API says of this pod.

    Raises:
        ConfigError: It does not say who it is.
    """
    if not environ.get("POD_NAME"):
        hint = "set it by the downward API: metadata.name"
        raise ConfigError("POD_NAME", None, "not set", hint)
    return Pod(
        name=environ["POD_NAME"],
        namespace=environ.get("POD_NAMESPACE", "default"),
        ip=environ.get("POD_IP", ""),
        machine=environ.get("NODE_NAME", ""),
        machine_ip=environ.get("HOST_IP", ""),
    )


def _say(text: str) -> None:
    typer.echo(f"derpd-address: {text}", err=True)


def main() -> None:
    """Run `derpd-address`."""
    app()


if __name__ == "__main__":
    main()
