"""`derpctl migrate …`."""

from typing import TYPE_CHECKING, Annotated

import typer

from derpctl.settings import OutputOption, settings_of


if TYPE_CHECKING:
    from derpctl.migrate.container import Container
    from derpmesh.images import Translation


app = typer.Typer(name="migrate", no_args_is_help=True, rich_markup_mode=None)


@app.callback()
def group() -> None:
    """Take over from another relay."""


@app.command(
    epilog="Examples: derpctl migrate env compose.yaml > derpd.yaml;"
    " derpctl migrate env --container derper"
)
def env(
    context: typer.Context,
    file: Annotated[
        str,
        typer.Argument(
            metavar="[FILE]",
            help="An env file, a compose file, what docker inspect prints, or -.",
            show_default=False,
        ),
    ] = "",
    *,
    container: Annotated[
        str,
        typer.Option(metavar="NAME", help="A container, asked of docker inspect."),
    ] = "",
    service: Annotated[
        str, typer.Option(help="Which service of a compose file with several relays.")
    ] = "",
    output: OutputOption = None,
) -> None:
    """Make a configuration of derpd of the variables of another relay's image.

    Knows camllia/derper, fredliang/derper, yangchuansheng/ip_derper and their forks.
    The configuration is on stdout, and the node's place in the map if it can be known.
    What became of each variable is on stderr. Exits 9 when something is for you to do,
    and 5 when no variable is known. Secrets are never printed.
    """
    from derpctl import documents  # noqa: PLC0415 - see commands/__init__.py
    from derpctl.exits import Exit  # noqa: PLC0415
    from derpctl.migrate.page import page  # noqa: PLC0415
    from derpmesh.images import map_entry, translate  # noqa: PLC0415

    if bool(file) == bool(container):
        message = "give one of the two"
        raise typer.BadParameter(message, param_hint="FILE or --container")
    found = _find(file, container, service)
    made = translate(found.environ, found.image)
    _say(found, made)
    entry = map_entry(made.tree)
    if settings_of(context, output).as_json:
        report = documents.document(
            "Migration",
            configuration=made.tree,
            mapEntry=entry,
            remarks=[remark._asdict() for remark in made.remarks],
            refusals=[remark._asdict() for remark in made.refusals],
        )
        typer.echo(documents.pretty(report))
    else:
        typer.echo(page(made.tree, entry), nl=False)
    if made.refusals or found.open_names:
        raise typer.Exit(Exit.DEGRADED)


def _find(file: str, container: str, service: str) -> "Container":
    from derpctl.migrate.choice import pick  # noqa: PLC0415
    from derpctl.migrate.container import containers_in, inspect  # noqa: PLC0415
    from derpctl.texts import read_text  # noqa: PLC0415

    if container:
        return pick(f"--container {container}", [inspect(container)], service)
    return pick(file, containers_in(file, read_text(file)), service)


def _say(found: "Container", made: "Translation") -> None:
    from derpctl.map.lint import printable  # noqa: PLC0415

    for remark in (*made.remarks, *made.refusals):
        typer.echo(f"derpctl: {printable(str(remark))}", err=True)
    for name in found.open_names:
        text = "its value is given where it is started; set it by hand"
        typer.echo(f"derpctl: {printable(name)}: {text}", err=True)
