"""`derpd`: runs one node until it is told to stop."""

import asyncio
import logging
import os
import signal
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated

import typer

from derpmesh.config import DaemonConfig, load_daemon_config
from derpmesh.container import Adopted, Unanswered, adopt, take_over
from derpmesh.descriptors import raise_limit
from derpmesh.membership.regionfile import dump_member
from derpmesh.membership.source import member_of, named, source_of
from derpmesh.region import MeshRegion
from derpnode import __version__
from derpnode.config import AUTO_NAME, InvalidConfig
from derpnode.errors import ConfigError
from derpnode.node import Node
from derpnode.plane.python.selector import new_event_loop
from derpnode.server.log import set_up
from derpnode.server.servicemanager import ServiceManager


logger = logging.getLogger(__name__)

EXIT_CONFIG = 3
"""The configuration is missing or cannot be used. As in `derpctl`."""

CLOSING = 10.0
"""Seconds that the end may take beyond the time in which clients are sent away."""

_EPILOG = (
    "Signals: TERM or INT stops in good order, a second one at once; "
    "HUP reads certificates and key files again."
)

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"derpd {__version__}")
        raise typer.Exit


@app.command(epilog=_EPILOG)
def derpd(
    config: Annotated[
        Path | None,
        typer.Option(
            help="Configuration file. Keys may also be set as DERPD_SECTION__KEY.",
            envvar="DERPD_CONFIG",
            show_default="/etc/derpmesh/derpd.yaml, if it exists",
        ),
    ] = None,
    check_config: Annotated[
        bool,
        typer.Option("--check-config", help="Only validate, and say so."),
    ] = False,
    print_node: Annotated[
        bool,
        typer.Option(
            "--print-node", help="Print this node's entry for the region's file."
        ),
    ] = False,
    container: Annotated[
        bool,
        typer.Option(
            "--container",
            help="Take the place of another relay's image: where there is no"
            " configuration file, its variables and volumes say what to do.",
        ),
    ] = False,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Override a key; repeatable."),
    ] = None,
    _show_version: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Print it."),
    ] = False,
) -> None:
    """Run one derpmesh node: a DERP relay and STUN server."""
    try:
        file = _file(config)
        adopted = adopt(os.environ) if container and file is None else Adopted({}, [])
        found = load_daemon_config(
            file, _settings(os.environ), settings or (), adopted.tree
        )
        if check_config:
            _say(adopted.remarks)
            typer.echo("configuration is valid")
        elif print_node:
            take_over(adopted.moves)
            typer.echo(_entry(found), nl=False)
        else:
            set_up(found.log.level, found.log.format, node=found.node.name)
            for remark in [*adopted.remarks, *take_over(adopted.moves)]:
                logger.warning("container: %s", remark)
            raise_limit()
            with asyncio.Runner(loop_factory=new_event_loop) as runner:
                runner.run(_run(found))
    except (InvalidConfig, ConfigError, Unanswered) as exc:
        _say(str(exc).splitlines())
        raise typer.Exit(EXIT_CONFIG) from exc


def _say(lines: Iterable[str]) -> None:
    for line in lines:
        typer.echo(f"derpd: {line}", err=True)


def _file(named: Path | None) -> Path | None:
    """Take the named file, else the usual one if there is one."""
    usual = Path("/etc/derpmesh/derpd.yaml")
    if named is not None:
        return named
    return usual if usual.exists() else None


def _settings(environ: Mapping[str, str]) -> dict[str, str]:
    """Take the environment but for what is no key of the configuration."""
    return {name: value for name, value in environ.items() if name != "DERPD_CONFIG"}


def _entry(config: DaemonConfig) -> str:
    """Describe this node for the region's file; makes its certificate if need be."""
    if config.node.name == AUTO_NAME:
        reason, hint = "etcd has given it no name yet", "start it, or give it a name"
        raise ConfigError("node.name", AUTO_NAME, reason, hint)
    return dump_member(member_of(config))


async def _run(config: DaemonConfig) -> None:
    if config.node.name == AUTO_NAME:
        config = await named(config)
        set_up(config.log.level, config.log.format, node=config.node.name)
    patience = config.drain_grace + CLOSING
    node = Node(config, ServiceManager(os.environ, patience=patience))
    if node.mesh_keys is not None:
        MeshRegion(node, config, node.mesh_keys, source_of(config, node))
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, node.stop)
    loop.add_signal_handler(signal.SIGHUP, node.reload)
    logger.info("derpd %s: starting node %s", __version__, config.node.name)
    await node.run()


def main() -> None:
    """Run `derpd`."""
    app()


if __name__ == "__main__":
    main()
