"""`derpctl demo`."""

import contextlib
import ipaddress
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from derpctl.demo.choices import Registry, Tls
from derpctl.errors import CtlError
from derpctl.exits import Exit
from derpctl.settings import OutputOption, settings_of


_MOST_NODES = 8  # a full mesh grows with the square
_HAS_LOGS = (Exit.CRITICAL, Exit.DEADLINE)  # ends after which they are worth reading


def demo(  # noqa: PLR0913 - options of a command line
    context: typer.Context,
    *,
    nodes: Annotated[int, typer.Option(help="How many nodes.")] = 3,
    region: Annotated[
        int, typer.Option(min=1, max=65_535, help="Region id of the map.")
    ] = 900,
    directory: Annotated[
        Path | None,
        typer.Option(
            "--dir", help="Where its files are; made or reused, never deleted."
        ),
    ] = None,
    bind: Annotated[str, typer.Option(help="IP address of the relays.")] = "127.0.0.1",
    tls: Annotated[
        Tls, typer.Option(help="pinned: self-signed; ca: of a CA made for it.")
    ] = Tls.PINNED,
    registry: Annotated[
        Registry, typer.Option(help="Where the nodes find each other.")
    ] = Registry.FILE,
    etcd: Annotated[
        list[str] | None,
        typer.Option(
            "--etcd", metavar="URL", help="An etcd to use; else one is started."
        ),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="KEY=VALUE", help="Override a key of every node's file."
        ),
    ] = None,
    hold: Annotated[
        bool, typer.Option("--hold", help="Keep it up until SIGINT or SIGTERM.")
    ] = False,
    output: OutputOption = None,
) -> None:
    """Bring up a region on this machine and send packets through it.

    Everything is on loopback unless --bind says otherwise, and everything that
    was started is stopped at the end. With -o json, one line tells where all
    of it is once it is ready.
    """
    import asyncio  # noqa: PLC0415 - see commands/__init__.py

    from derpctl import documents  # noqa: PLC0415
    from derpctl.demo import plan, report  # noqa: PLC0415
    from derpctl.demo.region import Demo, Up, with_etcd  # noqa: PLC0415
    from derpctl.render import Screen  # noqa: PLC0415

    found = settings_of(context, output)
    _check(nodes, bind, settings or [])
    if etcd and registry is not Registry.ETCD:
        value, reason = f"--etcd = {etcd[0]}", "the nodes find each other by a file"
        raise CtlError(value, reason, "add --registry etcd", Exit.USAGE)

    def say(text: str) -> None:
        typer.echo(f"derpctl: {text}", err=True)

    def show(up: Up) -> None:
        if found.as_json:
            line = documents.one_line(report.demo_document(up))
            Screen(found.color).line(line)
        else:
            report.print_pages(up, Screen(found.color))
            typer.echo(report.next_steps(up, hold=hold), err=True)

    with _directory(directory) as where, plan.lock(where):
        options = plan.Options(
            nodes=nodes,
            region=region,
            directory=where,
            bind=bind,
            tls=tls,
            settings=settings or [],
            etcd=etcd or [],
        )
        is_without = registry is Registry.ETCD and not etcd
        job = Demo(options, hold, say, show)
        ended = asyncio.run(with_etcd(job) if is_without else job.run())
    raise typer.Exit(ended)


def _check(nodes: int, bind: str, settings: list[str]) -> None:
    """Refuse what cannot be meant before anything is written.

    Raises:
        CtlError: Says which option, and what to write instead.
    """
    if not 1 <= nodes <= _MOST_NODES:
        value, reason = f"--nodes = {nodes}", f"not from 1 to {_MOST_NODES}"
        raise CtlError(value, reason, "a region needs no more than 3", Exit.USAGE)
    value, hint = f"--bind = {bind}", "give an IP address that clients can dial"
    try:
        if ipaddress.ip_address(bind).is_unspecified:
            raise CtlError(value, "nobody can dial it", hint, Exit.USAGE)
    except ValueError as exc:
        raise CtlError(value, "not an IP address", hint, Exit.USAGE) from exc
    for setting in settings:
        if "=" not in setting:
            value, hint = f"--set = {setting}", "write KEY=VALUE"
            raise CtlError(value, "there is no = in it", hint, Exit.USAGE)


@contextlib.contextmanager
def _directory(given: Path | None) -> Iterator[Path]:
    """Give the directory of a demo; a temporary one goes, unless a node failed."""
    import shutil  # noqa: PLC0415
    import tempfile  # noqa: PLC0415

    if given is not None:
        yield given.expanduser().absolute()
        return
    made = Path(tempfile.mkdtemp(prefix="derpctl-demo-"))
    try:
        yield made
    except CtlError as exc:
        if exc.exit in _HAS_LOGS:
            typer.echo(f"derpctl: its files are kept in {made}", err=True)
            raise
        shutil.rmtree(made, ignore_errors=True)
        raise
    shutil.rmtree(made, ignore_errors=True)
