"""`derpctl node add|set|remove`: which nodes the registry lists, and as what."""

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
    from derpmesh.membership.edits import Wanted

ADD_EXAMPLE = "Example: derpctl node add 900d --host 203.0.113.14 --pin sha256-raw:…"
SET_EXAMPLE = "Example: derpctl node set 900b --ipv4 203.0.113.12"

Name = Annotated[
    str,
    typer.Argument(metavar="NAME", help="A node's name, as in the configuration."),
]


def add(  # noqa: PLR0913 - options of a command line
    context: typer.Context,
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="Region id and a letter: 900d.")
    ],
    *,
    host: Annotated[
        str | None, typer.Option(help="What clients dial: a name or an address.")
    ] = None,
    ipv4: Annotated[str | None, typer.Option(help="Address, or none.")] = None,
    ipv6: Annotated[str | None, typer.Option(help="Address, or none.")] = None,
    derp_port: Annotated[int, typer.Option(min=1, max=65_535)] = 443,
    stun_port: Annotated[int, typer.Option(min=-1, max=65_535)] = 3478,
    pin: Annotated[
        str | None, typer.Option(help="sha256-raw:… of its certificate.")
    ] = None,
    admin: Annotated[
        str | None, typer.Option(help="URL of its admin listener.")
    ] = None,
    can_port80: Annotated[
        bool, typer.Option("--can-port80", help="It answers captive-portal checks.")
    ] = False,
    stun_only: Annotated[
        bool, typer.Option("--stun-only", help="It relays nothing.")
    ] = False,
    yes: YesOption = False,
    max_impact: MaxImpactOption = None,
    output: OutputOption = None,
    timeout: TimeoutOption = None,
) -> None:
    """List a node in the registry, so that it may join, also one that was removed.

    Needed where the region takes listed nodes only; see derpctl region set --join.
    `derpd --print-node` on the node says what to give. Clients of the region reconnect
    when they get a map with it, so that this says how many there are, and asks if any
    is there.
    """
    import asyncio  # noqa: PLC0415

    from derpctl import documents  # noqa: PLC0415
    from derpctl.config import load_ctl_config  # noqa: PLC0415
    from derpctl.wanted import listing  # noqa: PLC0415
    from derpctl.wanted.members import member_of  # noqa: PLC0415

    settings = settings_of(context, output, timeout)
    config = load_ctl_config(settings.config)
    said = {
        "host": host,
        "ipv4": ipv4,
        "ipv6": ipv6,
        "derp_port": derp_port,
        "stun_port": stun_port,
        "pin": pin,
        "admin": admin,
        "can_port80": can_port80,
        "stun_only": stun_only,
    }
    member = member_of(name, said)
    consent = Consent(yes, max_impact)
    name, revision = asyncio.run(
        listing.add_node(config, member, consent, timeout=settings.timeout)
    )
    if settings.as_json:
        found = documents.document("NodeAdd", name=name, revision=revision)
        typer.echo(documents.pretty(found))
    else:
        typer.echo(f"{name}: listed, revision {revision}")


def set_(  # noqa: PLR0913 - options of a command line
    context: typer.Context,
    name: Name,
    *,
    host: Annotated[
        str | None, typer.Option(help="What clients dial: a name or an address.")
    ] = None,
    ipv4: Annotated[
        str | None, typer.Option(help="Address, none, or '' to look it up.")
    ] = None,
    ipv6: Annotated[
        str | None, typer.Option(help="Address, none, or '' to look it up.")
    ] = None,
    derp_port: Annotated[int | None, typer.Option(min=1, max=65_535)] = None,
    stun_port: Annotated[
        int | None, typer.Option(min=-1, max=65_535, help="-1: no STUN.")
    ] = None,
    pin: Annotated[
        str | None, typer.Option(help="sha256-raw:… of its certificate; '': none.")
    ] = None,
    admin: Annotated[
        str | None, typer.Option(help="URL of its admin listener; '': none.")
    ] = None,
    can_port80: Annotated[
        bool | None, typer.Option("--can-port80/--no-can-port80")
    ] = None,
    stun_only: Annotated[bool | None, typer.Option("--stun-only/--relays")] = None,
    yes: YesOption = False,
    max_impact: MaxImpactOption = None,
    output: OutputOption = None,
    timeout: TimeoutOption = None,
) -> None:
    """Change what is recorded of a node; what is not named stays.

    What clients need is in the map: all clients of the region reconnect when they get
    it, so that this says how many there are, and asks if any
    is there. It does not change the node
    itself: `derpctl status` says where it is otherwise than recorded.
    """
    import asyncio  # noqa: PLC0415

    from derpctl import documents  # noqa: PLC0415
    from derpctl.config import load_ctl_config  # noqa: PLC0415
    from derpctl.errors import CtlError  # noqa: PLC0415
    from derpctl.exits import Exit  # noqa: PLC0415
    from derpctl.wanted.apply import change  # noqa: PLC0415
    from derpctl.wanted.changes import set_node  # noqa: PLC0415
    from derpctl.wanted.registry import no_region  # noqa: PLC0415

    settings = settings_of(context, output, timeout)
    config = load_ctl_config(settings.config)
    named = {
        "host": host,
        "ipv4": ipv4,
        "ipv6": ipv6,
        "derp_port": derp_port,
        "stun_port": stun_port,
        "pin": pin,
        "admin": admin,
        "can_port80": can_port80,
        "stun_only": stun_only,
    }
    said = {
        key: value if value != "" else None
        for key, value in named.items()
        if value is not None
    }
    what = f"node set {name}"
    if not said:
        reason, hint = "nothing to change is named", "give --ipv4 ADDRESS, say"
        raise CtlError(what, reason, hint, Exit.USAGE)

    def plan(seen: "Wanted | None") -> "Wanted":
        if seen is None:
            raise no_region(config)
        return set_node(seen, name, said)

    consent = Consent(yes, max_impact)
    done = asyncio.run(change(config, what, plan, consent, timeout=settings.timeout))
    if settings.as_json:
        found = documents.document("NodeSet", name=name, **done.members())
        typer.echo(documents.pretty(found))
    else:
        typer.echo(f"{name}: {done}")


def remove(  # noqa: PLR0913 - options of a command line
    context: typer.Context,
    name: Name,
    *,
    force: Annotated[
        bool, typer.Option("--force", help="Also while it serves clients.")
    ] = False,
    yes: YesOption = False,
    max_impact: MaxImpactOption = None,
    output: OutputOption = None,
    timeout: TimeoutOption = None,
) -> None:
    """Take a node out of the region, so that it does not come back by itself.

    Its siblings close their links to it. Drain it first: exits 6 while it serves.
    `derpctl node add` lists it again. Clients of the region reconnect when they get a
    map without it, so that this says how many there are, and asks if any
    is there.
    """
    import asyncio  # noqa: PLC0415

    from derpctl import documents, steer  # noqa: PLC0415
    from derpctl.config import load_ctl_config  # noqa: PLC0415
    from derpctl.wanted import listing  # noqa: PLC0415

    settings = settings_of(context, output, timeout)
    config = load_ctl_config(settings.config)
    if not force:
        asyncio.run(steer.check_idle(config, name, settings.timeout))
    consent = Consent(yes, max_impact)
    revision = asyncio.run(
        listing.remove_node(config, name, consent, timeout=settings.timeout)
    )
    if settings.as_json:
        found = documents.document("NodeRemove", name=name, revision=revision)
        typer.echo(documents.pretty(found))
    else:
        typer.echo(f"{name}: taken out, revision {revision}")
