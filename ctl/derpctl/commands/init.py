"""`derpctl init`."""

import os
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from derpctl.settings import OutputOption, default_config, settings_of


if TYPE_CHECKING:
    from derpctl.init.answers import Answers


EPILOG = (
    "Examples: derpctl init;"
    " derpctl init --yes --host 203.0.113.10;"
    " derpctl init --yes --region 901 --code fra --name Frankfurt"
    " --host derp.example.net --admit tailscaled --registry https://etcd-1:2379"
)


def init(  # noqa: PLR0913 - options of a command line
    context: typer.Context,
    *,
    region: Annotated[
        int | None, typer.Option(min=1, max=65_535, help="Region id. Usual: 900.")
    ] = None,
    code: Annotated[
        str | None, typer.Option(help="Short tag of the region. Usual: home.")
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="Name of the region for people. Usual: Home.")
    ] = None,
    host: Annotated[
        str | None,
        typer.Option(
            help="What clients dial: a domain, or an IP address, then pinned."
        ),
    ] = None,
    admit: Annotated[
        list[str] | None,
        typer.Option(
            metavar="WHO",
            help="Who may connect: keys, tailscaled[:SOCKET], a URL; repeatable. On"
            " loopback also everybody. Usual: keys.",
        ),
    ] = None,
    registry: Annotated[
        list[str] | None,
        typer.Option(
            metavar="file|URL",
            help="Where nodes find each other: a file, or etcd; repeatable. Usual:"
            " file.",
        ),
    ] = None,
    directory: Annotated[
        Path | None,
        typer.Option(
            "--dir",
            help="Where to write. Usual: /etc/derpmesh for root, else"
            " ~/.config/derpmesh.",
        ),
    ] = None,
    node: Annotated[
        str | None, typer.Option(help="Name of the node. Usual: region id and a.")
    ] = None,
    certificate: Annotated[
        Path | None,
        typer.Option(help="Certificate of a domain. Usual: DIR/HOST.crt."),
    ] = None,
    key: Annotated[
        Path | None, typer.Option(help="Its key. Usual: DIR/HOST.key.")
    ] = None,
    mesh_key_file: Annotated[
        Path | None,
        typer.Option(help="Mesh key of a region that has one; else one is made."),
    ] = None,
    yes: Annotated[
        bool, typer.Option("-y", "--yes", help="Ask nothing; take what is usual.")
    ] = False,
    force: Annotated[
        bool,
        typer.Option("--force", help="Replace configurations; keys are kept."),
    ] = False,
    output: OutputOption = None,
) -> None:
    """Write the files of a new node, and derpctl's own: five questions.

    What is given by an option is not asked; without a terminal nothing is. The relay
    admits whom you list, and on a public address never everybody. derpctl's own file
    goes where --config says. Nothing is overwritten: exits 6 and names the file.
    """
    from derpctl import documents  # noqa: PLC0415 - see commands/__init__.py
    from derpctl.init.layout import lay  # noqa: PLC0415

    settings = settings_of(context, output)
    given = _Given(region, code, name, host, tuple(admit or ()), tuple(registry or ()))
    answers = _answers(
        given,
        directory,
        yes=yes,
        node=node,
        files=(certificate, key, mesh_key_file),
    )
    laid = lay(answers, settings.config.absolute(), force=force)
    for note in laid.notes:
        typer.echo(f"derpctl: {note}", err=True)
    commands = _next(answers, settings.config)
    if settings.as_json:
        report = documents.document(
            "Init",
            files=[str(path) for path in laid.files],
            kept=[str(path) for path in laid.kept],
            next=commands,
        )
        typer.echo(documents.pretty(report))
        return
    for path in laid.files:
        typer.echo(f"written: {path}")
    for path in laid.kept:
        typer.echo(f"kept: {path}")
    typer.echo("next:")
    for command in commands:
        typer.echo(f"  {command}")


class _Given(NamedTuple):
    """What was answered by options; the rest is asked, or usual."""

    region: int | None
    code: str | None
    name: str | None
    host: str | None
    admit: tuple[str, ...]
    registry: tuple[str, ...]


def _answers(
    given: _Given,
    directory: Path | None,
    *,
    yes: bool,
    node: str | None,
    files: tuple[Path | None, Path | None, Path | None],
) -> "Answers":
    """Put together what was given, what is usual and what is asked."""
    from derpctl.init import ask  # noqa: PLC0415
    from derpctl.init.answers import FILE, KEYS, Answers  # noqa: PLC0415

    _check_askable({**given._asdict(), "dir": directory}, yes=yes)
    number, code, name = _region(given, yes=yes)
    host = given.host or ask.host()
    admit = given.admit or ((KEYS,) if yes else ask.admit(host))
    registry = given.registry or ((FILE,) if yes else ask.registry())
    usual = _usual_directory()
    folder = directory or (usual if yes else ask.directory(usual))
    certificate, key, mesh_key = (one and one.absolute() for one in files)
    return Answers(
        region=number,
        code=code,
        name=name,
        host=host,
        admit=admit,
        etcd=() if registry == (FILE,) else registry,
        directory=folder.absolute(),
        node=node or f"{number}a",
        certificate=certificate,
        key=key,
        mesh_key=mesh_key,
    )


def _region(given: _Given, *, yes: bool) -> tuple[int, str, str]:
    from derpctl.init import ask  # noqa: PLC0415

    number, code, name = given[:3]
    if number is None or code is None or name is None:
        usual = (900, "home", "Home") if yes else ask.region()
        number, code, name = number or usual[0], code or usual[1], name or usual[2]
    return number, code, name


def _check_askable(given: Mapping[str, object], *, yes: bool) -> None:
    """Refuse to go on if something is neither given nor usual, and nobody is there.

    Raises:
        typer.BadParameter: It names the options that are missing.
    """
    if sys.stdin.isatty() and not yes:
        return
    needed = ("host",) if yes else tuple(given)
    missing = [f"--{name}" for name in needed if not given[name]]
    if missing:
        message = "missing, and there is nobody to ask"
        raise typer.BadParameter(message, param_hint=", ".join(missing))


def _usual_directory() -> Path:
    if os.geteuid() == 0:
        return Path("/etc/derpmesh")
    return Path("~/.config/derpmesh").expanduser()


def _next(answers: "Answers", config: Path) -> list[str]:
    """Give the commands that come next, ready to be pasted."""
    own = [] if config == default_config() else ["--config", str(config)]
    return [
        shlex.join(["derpd", "--config", str(answers.config_file)]),
        shlex.join(["derpctl", *own, "status"]),
        shlex.join(["derpctl", *own, "map", "export"]),
    ]
