"""`derpctl key …`."""

from pathlib import Path
from typing import Annotated

import typer

from derpctl.settings import OutputOption, settings_of


app = typer.Typer(name="key", no_args_is_help=True, rich_markup_mode=None)
mesh = typer.Typer(name="mesh", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(mesh)


@app.callback()
def group() -> None:
    """Make keys."""


@mesh.callback()
def mesh_group() -> None:
    """The secret that the nodes of a region share."""


@mesh.command()
def generate(
    context: typer.Context,
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="Where to put it; must not exist.")
    ],
    *,
    output: OutputOption = None,
) -> None:
    """Make a mesh key: 64 hex digits in a file that only its owner can read.

    A file that is there is never overwritten: its key may be in use.
    """
    from derpctl import documents, keys  # noqa: PLC0415 - see commands/__init__.py

    settings = settings_of(context, output)
    keys.make_mesh_key(file)
    if settings.as_json:
        found = documents.document("MeshKey", path=str(file.absolute()))
        typer.echo(documents.pretty(found))
    else:
        typer.echo(f"derpctl: {file}: made; the same on every node, as", err=True)
        typer.echo(f"mesh:\n  key_file: {file.absolute()}")
