"""`derpctl map export`."""

import re
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from derpctl.settings import Settings, TimeoutOption, settings_of


if TYPE_CHECKING:
    from derpctl.export import Order
    from derpctl.map.model import DerpMap


class Format(StrEnum):
    """Who shall read the map."""

    ACL = "acl"
    DERPMAP = "derpmap"
    HEADSCALE = "headscale"
    HEADSCALE_CONFIG = "headscale-config"
    DERPPROBE = "derpprobe"
    TERRAFORM = "terraform"
    ENV = "env"
    TABLE = "table"


class Style(StrEnum):
    """How a policy is written."""

    HUJSON = "hujson"
    JSON = "json"


_MERGED = (Format.DERPMAP, Format.DERPPROBE)
_LATENCY = re.compile(r"(\d{1,5})=(\d{1,6}(?:\.\d{1,6})?)", re.ASCII)

EPILOG = (
    "Examples: derpctl map export --fragment;"
    " derpctl map export -f derpmap --prefer --latency 900=80 --latency 1=40;"
    " derpctl map export -f headscale-config --map-file /etc/headscale/derp.yaml"
)


def export(  # noqa: PLR0913 - options of a command line
    context: typer.Context,
    *,
    form: Annotated[
        Format,
        typer.Option(
            "-f",
            "--format",
            help="acl: a Tailscale policy; derpmap: plain JSON; headscale: its YAML;"
            " headscale-config: the derp block of its configuration; derpprobe: JSON"
            " without what that stumbles over; terraform: a local value; env: variables"
            " of stock derper images; table: for eyes.",
        ),
    ] = Format.ACL,
    fragment: Annotated[
        bool, typer.Option("--fragment", help="With acl: the member alone.")
    ] = False,
    style: Annotated[
        Style, typer.Option(help="With acl. json: no comments, no trailing commas.")
    ] = Style.HUJSON,
    map_url: Annotated[
        str,
        typer.Option(
            metavar="URL", help="With headscale-config: where headscale gets the map."
        ),
    ] = "",
    map_file: Annotated[
        Path | None,
        typer.Option(
            metavar="PATH",
            help="The same, where it is a file of -f headscale on headscale's machine.",
        ),
    ] = None,
    omit_default_regions: Annotated[
        bool,
        typer.Option(
            "--omit-default-regions", help="Say that Tailscale's regions are left out."
        ),
    ] = False,
    only_ours: Annotated[
        bool,
        typer.Option(
            "--only-ours", help="The same, for headscale as well: urls is [] there."
        ),
    ] = False,
    remove_default: Annotated[
        str,
        typer.Option(
            metavar="IDS", help="Regions of Tailscale's to take away: 1,2 say."
        ),
    ] = "",
    with_defaults: Annotated[
        str,
        typer.Option(
            metavar="URL|FILE",
            help="With derpmap and derpprobe: a map to lay ours over, as"
            " https://controlplane.tailscale.com/derpmap/default.",
        ),
    ] = "",
    prefer: Annotated[
        bool,
        typer.Option("--prefer", help="Have clients count a quarter of its latency."),
    ] = False,
    fallback_only: Annotated[
        bool,
        typer.Option(
            "--fallback-only", help="Have clients count four times its latency."
        ),
    ] = False,
    observe_only: Annotated[
        bool,
        typer.Option(
            "--observe-only", help="Let nobody measure it or be at home there."
        ),
    ] = False,
    latency: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ID=MS",
            help="Say on stderr who wins with these latencies; repeatable.",
        ),
    ] = None,
    show_preview: Annotated[
        bool,
        typer.Option("--preview", help="Say on stderr who wins, as a preset does."),
    ] = False,
    output_file: Annotated[
        Path | None,
        typer.Option("-O", "--output-file", help="Replace this file, as a whole."),
    ] = None,
    timeout: TimeoutOption = None,
) -> None:
    """Print the map of the region, to paste.

    It is what is wanted of the region, as the registry has it: nodes that are down are
    in it, those that were taken out are not. While the registry is away, the nodes say
    what they last read, and stderr says so. The same region prints the same bytes. What
    `map lint` warns of is on stderr; what it says for information, as of a trial on
    loopback, is not. Exits 7 when the map would not work, 6 when the format cannot say
    what is asked for; nothing is printed then.
    """
    from derpctl.export import Manner, Order, render  # noqa: PLC0415 - see commands/__init__.py
    from derpctl.map.shape import Preset  # noqa: PLC0415

    _check_acl(form, fragment=fragment, style=style)
    _check_places(form, map_url, map_file)
    _check_merge(form, with_defaults, leaves_out=only_ours or omit_default_regions)
    preset = _only_one(
        {
            Preset.PREFER: prefer,
            Preset.FALLBACK_ONLY: fallback_only,
            Preset.OBSERVE_ONLY: observe_only,
        }
    )
    manner = Manner(
        fragment=fragment,
        plain=style is Style.JSON,
        removed=_ids(remove_default),
        only_ours=only_ours,
        url=map_url,
        file=str(map_file or ""),
    )
    latencies = _latencies(latency or [])
    order = Order(
        form=form.value,
        manner=manner,
        preset=Preset(preset) if preset else None,
        omit_defaults=omit_default_regions,
        is_merged=bool(with_defaults),
    )
    settings = settings_of(context, timeout=timeout)
    ours, whole = _make(settings, order, with_defaults)
    if form is not Format.TABLE:
        text = render(whole, order.form, manner=manner)
    else:
        text = _table(whole)
    if preset or latencies or show_preview:
        _say_who_wins(ours, whole, latencies)
    if output_file is None:
        typer.echo(text, nl=False)
    else:
        from derpctl.files import replace_whole  # noqa: PLC0415

        replace_whole(output_file, text)


def published_map(settings: Settings) -> "DerpMap":
    """Get the map of the region; say on stderr if it may not be the last word."""
    import asyncio  # noqa: PLC0415

    from derpctl.cluster import published  # noqa: PLC0415
    from derpctl.config import load_ctl_config  # noqa: PLC0415

    config = load_ctl_config(settings.config)
    found = asyncio.run(published(config, timeout=settings.timeout))
    if found.stale:
        typer.echo(
            f"derpctl: {found.stale}; this is as {found.source} has it", err=True
        )
    return found.derp_map


def _make(settings: Settings, order: "Order", base: str) -> "tuple[DerpMap, DerpMap]":
    """Get the region as it is asked for, and all that is to be written."""
    import asyncio  # noqa: PLC0415

    from derpctl.export import check, merge, shape  # noqa: PLC0415
    from derpctl.sources import Source  # noqa: PLC0415

    ours = shape(published_map(settings), order)
    for finding in check(ours, order.form):
        typer.echo(f"derpctl: {finding}", err=True)
    if not base:
        return ours, ours
    source = Source(base).get(settings.config, timeout=settings.timeout)
    return ours, merge(ours, asyncio.run(source), order)


def _table(whole: "DerpMap") -> str:
    from derpctl.map.table import COLUMNS, rows  # noqa: PLC0415
    from derpctl.render import Screen  # noqa: PLC0415

    return Screen(color=False).text(COLUMNS, rows(whole))


def _say_who_wins(
    ours: "DerpMap", whole: "DerpMap", latencies: Mapping[int, float]
) -> None:
    from derpctl.map.preview import preview  # noqa: PLC0415

    for number in sorted(ours.regions):
        for line in preview(whole, number, latencies):
            typer.echo(f"derpctl: {line}", err=True)


# What no format can mean is a usage error, before anybody is asked.


def _check_acl(form: Format, *, fragment: bool, style: Style) -> None:
    if form is Format.ACL:
        return
    if fragment:
        message = f"only -f acl has a fragment, not -f {form.value}"
        raise typer.BadParameter(message, param_hint="--fragment")
    if style is Style.JSON:
        message = f"only -f acl has styles, not -f {form.value}"
        raise typer.BadParameter(message, param_hint="--style")


def _check_places(form: Format, url: str, file: Path | None) -> None:
    wanted = 1 if form is Format.HEADSCALE_CONFIG else 0
    if bool(url) + (file is not None) != wanted:
        message = (
            "give -f headscale-config one of the two"
            if wanted
            else f"only -f headscale-config names a place, not -f {form.value}"
        )
        raise typer.BadParameter(message, param_hint="--map-url or --map-file")
    if url and not url.startswith(("http://", "https://")):
        message = "not http:// or https://"
        raise typer.BadParameter(message, param_hint="--map-url")
    if file is not None and not file.is_absolute():
        message = "headscale runs elsewhere, so the path must begin with /"
        raise typer.BadParameter(message, param_hint="--map-file")


def _check_merge(form: Format, base: str, *, leaves_out: bool) -> None:
    if not base:
        return
    if form not in _MERGED:
        message = f"only -f derpmap and -f derpprobe merge maps, not -f {form.value}"
        raise typer.BadParameter(message, param_hint="--with-defaults")
    if leaves_out:
        message = "another option leaves them out"
        raise typer.BadParameter(message, param_hint="--with-defaults")


def _only_one(wishes: Mapping[str, bool]) -> str:
    """Give the preset that is wanted; empty if none is."""
    wanted = [name for name, is_wanted in wishes.items() if is_wanted]
    if len(wanted) > 1:
        message = "a region has one purpose; give one of them"
        hint = " and ".join(f"--{name}" for name in wanted)
        raise typer.BadParameter(message, param_hint=hint)
    return wanted[0] if wanted else ""


def _ids(text: str) -> tuple[int, ...]:
    parts = [part.strip() for part in text.split(",") if part.strip()]
    for part in parts:
        if not part.isascii() or not part.isdecimal():
            message = f"{part!r:.40} is no region's number"
            raise typer.BadParameter(message, param_hint="--remove-default")
    return tuple(sorted({int(part) for part in parts}))


def _latencies(texts: list[str]) -> Mapping[int, float]:
    """Read latencies; in seconds."""
    found = {}
    for text in texts:
        match = _LATENCY.fullmatch(text)
        if match is None:
            message = f"{text!r:.40} is not REGION=MILLISECONDS"
            raise typer.BadParameter(message, param_hint="--latency")
        found[int(match[1])] = float(match[2]) / 1000
    return found
