"""`derpctl probe …`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from derpctl.settings import OutputOption, Settings, TimeoutOption, settings_of


if TYPE_CHECKING:
    from derpctl.probe.target import Target
    from derpnode.client import ClientTls

app = typer.Typer(name="probe", no_args_is_help=True, rich_markup_mode=None)


@app.callback()
def group() -> None:
    """Check nodes from outside, as clients come to them."""


@app.command()
def node(  # noqa: PLR0913 - options of a command line
    context: typer.Context,
    target: Annotated[
        str,
        typer.Argument(metavar="NODE", help="A node's name, HOST:PORT, or a URL."),
    ],
    *,
    from_map: Annotated[
        Path | None,
        typer.Option(help="DERPMap JSON to find the name in, instead of asking nodes."),
    ] = None,
    pin: Annotated[
        str | None,
        typer.Option(metavar="CERTNAME", help="sha256-raw:… of the certificate."),
    ] = None,
    ca_file: Annotated[
        Path | None, typer.Option(help="PEM file of the authorities to trust.")
    ] = None,
    mesh_key_file: Annotated[
        Path | None, typer.Option(help="Come with the mesh right, not as a stranger.")
    ] = None,
    count: Annotated[
        int, typer.Option(min=1, max=10_000, help="Pings, and packets.")
    ] = 10,
    output: OutputOption = None,
    timeout: TimeoutOption = None,
) -> None:
    """Check one node, layer by layer; works against any derper.

    Exits 0 when all is well, 9 when it relays but something is missing, 10 when
    it does not relay. The line on stderr names the layer that fails.
    """
    import asyncio  # noqa: PLC0415 - see commands/__init__.py

    from derpctl import documents  # noqa: PLC0415
    from derpctl.probe.inputs import mesh_key_from  # noqa: PLC0415
    from derpctl.probe.node import NodeProbe  # noqa: PLC0415
    from derpctl.probe.target import tls_of  # noqa: PLC0415

    settings = settings_of(context, output, timeout)
    tls = tls_of(pin, ca_file)
    mesh_key = mesh_key_from(mesh_key_file)
    found = _find(settings, target, from_map, tls)
    probe = NodeProbe(found, count, settings.timeout, mesh_key)
    result = asyncio.run(probe.run())
    if settings.as_json:
        typer.echo(documents.pretty(result.document()))
    else:
        from derpctl.render import Screen  # noqa: PLC0415

        Screen(settings.color).probe(result)
    if result.failed is not None:
        failed = result.failed
        typer.echo(f"derpctl: {result.name}: {failed.layer}: {failed.detail}", err=True)
    raise typer.Exit(result.exit)


@app.command()
def mesh(  # noqa: PLR0913 - options of a command line
    context: typer.Context,
    *,
    count: Annotated[
        int, typer.Option(min=1, max=10_000, help="Packets for each pair.")
    ] = 20,
    size: Annotated[
        int, typer.Option(min=8, max=65_536, help="Bytes of each packet.")
    ] = 64,
    threshold_rtt: Annotated[
        float,
        typer.Option(min=0.0001, max=60, help="Seconds that a round trip may take."),
    ] = 0.5,
    mesh_key_file: Annotated[
        Path | None, typer.Option(help="Come with the mesh right, not as a stranger.")
    ] = None,
    output: OutputOption = None,
    timeout: TimeoutOption = None,
) -> None:
    """Send packets from every node to every other, and itself; say what fails where.

    Exits 0 when all arrive in time, 9 when some do not, 10 when nothing arrives
    anywhere, 4 when no node answers.
    """
    import asyncio  # noqa: PLC0415

    from derpctl import documents  # noqa: PLC0415
    from derpctl.config import load_ctl_config  # noqa: PLC0415
    from derpctl.probe import matrix  # noqa: PLC0415
    from derpctl.probe.inputs import mesh_key_from  # noqa: PLC0415
    from derpctl.probe.mesh import Plan  # noqa: PLC0415
    from derpctl.probe.region import probe_region  # noqa: PLC0415

    settings = settings_of(context, output, timeout)
    mesh_key = mesh_key_from(mesh_key_file)
    config = load_ctl_config(settings.config)
    plan = Plan(count, size, threshold_rtt, settings.timeout, mesh_key)
    cells = asyncio.run(probe_region(config, plan))
    if settings.as_json:
        how = {"count": count, "size": size, "threshold_rtt": threshold_rtt}
        found = matrix.mesh_document(config.region, cells, **how)
        typer.echo(documents.pretty(found))
    else:
        from derpctl.render import Screen  # noqa: PLC0415

        Screen(settings.color).matrix(cells)
    raise typer.Exit(matrix.exit_of(cells))


def _find(
    settings: Settings, text: str, from_map: Path | None, tls: "ClientTls"
) -> "Target":
    """Look where the operator says: in a map, at an address, among our nodes."""
    import asyncio  # noqa: PLC0415

    from derpctl.config import load_ctl_config  # noqa: PLC0415
    from derpctl.probe import inputs, target  # noqa: PLC0415

    if from_map is not None:
        derp_map = inputs.read_map(from_map)
        return target.from_map(derp_map, text, tls, source=from_map)
    found = target.parse_target(text, tls)
    if found is not None:
        return found
    config = load_ctl_config(settings.config)
    return asyncio.run(inputs.ask(config, text, tls, timeout=settings.timeout))
