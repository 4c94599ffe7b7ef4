"""`derpctl key …`."""

from pathlib import Path
from typing import Annotated

import typer

from derpctl.phases import Until
from derpctl.settings import OutputOption, TimeoutOption, settings_of


app = typer.Typer(name="key", no_args_is_help=True, rich_markup_mode=None)
mesh = typer.Typer(name="mesh", no_args_is_help=True, rich_markup_mode=None)
admin = typer.Typer(name="admin", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(mesh)
app.add_typer(admin)


@app.callback()
def group() -> None:
    """Make keys, and replace them."""


@mesh.callback()
def mesh_group() -> None:
    """The secret that the nodes of a region share."""


@admin.callback()
def admin_group() -> None:
    """What nodes that are asked over the network show, and ask for."""


@admin.command("generate")
def generate_admin(
    context: typer.Context,
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="Where to put them; none is there.")
    ],
    *,
    host: Annotated[
        list[str],
        typer.Option(
            help="Name or address that nodes are asked at, *.NAME too; repeatable."
        ),
    ],
    output: OutputOption = None,
) -> None:
    """Make a token and a certificate for the admin listeners of a region.

    Prints what every node's configuration says of them, and derpctl's. The authority's
    key is thrown away, so name all hosts at once. What is there stays: exits 6.

    Examples: derpctl key admin generate /etc/derpmesh/keys --host 10.0.0.1 --host
    10.0.0.2; derpctl key admin generate keys --host '*.relay.internal'
    """
    from derpctl import adminkeys, documents  # noqa: PLC0415

    settings = settings_of(context, output)
    made = adminkeys.make_admin_keys(folder.absolute(), host)
    if settings.as_json:
        files = {name: str(path) for name, path in made.items()}
        found = documents.document("AdminKeys", files=files, hosts=host)
        typer.echo(documents.pretty(found))
        return
    told = "made; the same on every node, as below; derpctl's own file names"
    names = f"token_file: {made[adminkeys.TOKEN]} and ca_file: {made[adminkeys.CA]}"
    typer.echo(f"derpctl: {folder}: {told} {names}", err=True)
    typer.echo(
        "admin:\n"
        '  listen: [":9090"]\n'
        f"  token_file: {made[adminkeys.TOKEN]}\n"
        f"  certificate: {made[adminkeys.CERTIFICATE]}\n"
        f"  key: {made[adminkeys.KEY]}"
    )


@mesh.command()
def show(
    context: typer.Context,
    *,
    output: OutputOption = None,
    timeout: TimeoutOption = None,
) -> None:
    """Show the mesh keys of every node by their fingerprints, and how far each is.

    Exits 0 when all have the same, or are in the same rotation; 9 when one has
    others, or does not answer; 4 when none does.
    """
    import asyncio  # noqa: PLC0415 - see commands/__init__.py

    from derpctl import documents, keyring, rotate  # noqa: PLC0415
    from derpctl.config import load_ctl_config  # noqa: PLC0415

    settings = settings_of(context, output, timeout)
    config = load_ctl_config(settings.config)
    admins = rotate.admins_of(config, timeout=settings.timeout)
    nodes = asyncio.run(rotate.ask_keys(admins))
    if settings.as_json:
        found = keyring.keys_document(config.region, nodes)
        typer.echo(documents.pretty(found))
    else:
        from derpctl.render import Screen  # noqa: PLC0415

        Screen(settings.color).mesh_keys(nodes)
    raise typer.Exit(keyring.keys_exit(nodes))


@mesh.command("rotate")
def rotate_key(  # noqa: PLR0913 - options of a command line
    context: typer.Context,
    *,
    key_file: Annotated[
        Path | None,
        typer.Option(
            help="Where you keep the new key; made if it is not there. Without it only"
            " the nodes have it."
        ),
    ] = None,
    until: Annotated[
        Until | None,
        typer.Option(
            help="Stop after that phase; run it again to go on. In between, restart a"
            " derper of the region with the new key."
        ),
    ] = None,
    abort: Annotated[
        bool,
        typer.Option("--abort", help="Go back to the old key; until it is retired."),
    ] = False,
    wait: Annotated[
        float,
        typer.Option(
            min=0.001,
            max=3600,
            help="Seconds that the links of one node may take to be up again.",
        ),
    ] = 60.0,
    output: OutputOption = None,
    timeout: TimeoutOption = None,
) -> None:
    """Replace the mesh key of the region while everybody goes on.

    Stages the new key on every node, has one node after the other send it, and
    retires the old one. What was interrupted goes on where it was when it is run
    again. Exits 6, before anything is done, when a node does not answer or has other
    keys than the others, and when a relay would be cut off; 11 when links are not up
    again in time.
    """
    import asyncio  # noqa: PLC0415

    from derpctl import documents, rotate  # noqa: PLC0415
    from derpctl.config import load_ctl_config  # noqa: PLC0415
    from derpctl.errors import CtlError  # noqa: PLC0415
    from derpctl.exits import Exit  # noqa: PLC0415

    def say(text: str) -> None:
        typer.echo(f"derpctl: {text}", err=True)

    if abort and (key_file is not None or until is Until.SWITCH):
        value, reason = "--abort", "it takes no --key-file, and stops after stage only"
        raise CtlError(value, reason, "leave the other option out", Exit.USAGE)
    settings = settings_of(context, output, timeout)
    config = load_ctl_config(settings.config)
    admins = rotate.admins_of(config, timeout=settings.timeout)
    rotator = rotate.Rotator(admins, say, patience=wait)
    job = rotator.abort(until) if abort else rotator.rotate(key_file, until)
    done = asyncio.run(job)
    if settings.as_json:
        found = rotate.rotated_document(config.region, done)
        typer.echo(documents.pretty(found))
    else:
        from derpctl.render import Screen  # noqa: PLC0415

        Screen(settings.color).mesh_keys(done.nodes)


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
