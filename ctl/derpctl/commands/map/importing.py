"""`derpctl map import`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from derpctl.consent import Consent
from derpctl.settings import (
    MaxImpactOption,
    OutputOption,
    TimeoutOption,
    YesOption,
    settings_of,
)


if TYPE_CHECKING:
    from derpctl.wanted.importing import Imported
    from derpmesh.membership.edits import Wanted

EXAMPLE = "Example: derpctl map import policy.hujson -O region.yaml"


def import_(  # noqa: PLR0913 - options of a command line
    context: typer.Context,
    source: Annotated[
        str,
        typer.Argument(
            metavar="FILE",
            help="DERPMap JSON, a policy, headscale's YAML; a URL, or -.",
        ),
    ],
    *,
    region: Annotated[
        int | None,
        typer.Option(
            "--region", min=1, max=65_535, help="Which one. Default: that of derpctl."
        ),
    ] = None,
    file: Annotated[
        Path | None,
        typer.Option(
            "-O", "--file", help="Write a region's file, for nodes without etcd."
        ),
    ] = None,
    replace: Annotated[
        bool,
        typer.Option(
            "--replace/--merge", help="Take out nodes that are not in it; or keep them."
        ),
    ] = False,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Show what would change, and change nothing."),
    ] = False,
    yes: YesOption = False,
    max_impact: MaxImpactOption = None,
    output: OutputOption = None,
    timeout: TimeoutOption = None,
) -> None:
    """List the nodes of a map that there is, as of a region of Go derpers.

    They go into the registry, all at once, or with -O into a region's file. The map
    that comes out of it is the one that went in, or stderr says where it differs. A map
    that would not work exits 7; so does one that says what no record has a place for.
    """
    import asyncio  # noqa: PLC0415 - see commands/__init__.py

    from derpctl import documents  # noqa: PLC0415
    from derpctl.config import load_ctl_config  # noqa: PLC0415
    from derpctl.sources import Source  # noqa: PLC0415
    from derpctl.wanted import importing  # noqa: PLC0415
    from derpctl.wanted.apply import change, preview  # noqa: PLC0415
    from derpctl.wanted.registry import ask  # noqa: PLC0415

    settings = settings_of(context, output, timeout)
    place = Source(source)
    derp_map = asyncio.run(place.get(settings.config, timeout=settings.timeout))
    if file is not None:
        found = importing.import_map(derp_map, place.shown, region)
        _remark(found)
        _write(file, found, dry_run=dry_run)
        return
    config = load_ctl_config(settings.config)
    found = importing.import_map(derp_map, place.shown, _own(config.region, region))
    _remark(found)

    def plan(seen: "Wanted | None") -> "Wanted":
        return importing.merge(seen, found, replace=replace)

    if dry_run:
        seen = asyncio.run(ask(config, lambda operator: operator.wanted()))
        impact = asyncio.run(
            preview(config, seen, plan(seen), timeout=settings.timeout)
        )
        for line in impact.lines():
            typer.echo(line)
        return
    what, consent = f"map import {place.shown}", Consent(yes, max_impact)
    done = asyncio.run(change(config, what, plan, consent, timeout=settings.timeout))
    if settings.as_json:
        report = documents.document("MapImport", **done.members())
        typer.echo(documents.pretty(report))
    else:
        typer.echo(str(done))


def _own(region: int, named: int | None) -> int:
    """See that the region which is named is derpctl's own: it is written there."""
    from derpctl.errors import CtlError  # noqa: PLC0415
    from derpctl.exits import Exit  # noqa: PLC0415

    if named not in (None, region):
        value, reason = f"--region = {named}", f"derpctl's is {region}"
        hint = "give --config of that region, or -O for a region's file"
        raise CtlError(value, reason, hint, Exit.USAGE)
    return region


def _remark(found: "Imported") -> None:
    """Say what is not taken over as it is."""
    from derpctl.map.lint import printable  # noqa: PLC0415

    if found.left_out:
        ids = ", ".join(map(str, found.left_out))
        text = f"derpctl: left out: region {ids}; this is of {found.intent.id} alone"
        typer.echo(text, err=True)
    if found.difference.changes:
        typer.echo("derpctl: clients get it with these differences:", err=True)
        for one in found.difference.changes:
            typer.echo(f"derpctl: {printable(str(one))}", err=True)


def _write(file: Path, found: "Imported", *, dry_run: bool) -> None:
    """Write a region's file; one that is there is left alone."""
    from derpctl.errors import CtlError  # noqa: PLC0415
    from derpctl.exits import Exit  # noqa: PLC0415
    from derpmesh.membership.regionfile import dump_region  # noqa: PLC0415

    text = dump_region(found.intent.region, found.members, {})
    if dry_run:
        typer.echo(text, nl=False)
        return
    try:
        with file.open("x", encoding="utf-8") as opened:
            opened.write(text)
    except FileExistsError:
        reason, hint = "there is such a file", "give another name, or move it away"
        raise CtlError(str(file), reason, hint, Exit.REFUSED) from None
    except OSError as exc:
        reason = (exc.strerror or "cannot be written").lower()
        raise CtlError(str(file), reason, "check path and mode", Exit.CONFIG) from exc
    typer.echo(f"written: {file}")
