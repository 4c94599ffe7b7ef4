"""`derpctl map push tailscale`."""

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer

from derpctl.settings import TimeoutOption, settings_of


def tailscale(  # noqa: PLR0913 - options of a command line
    context: typer.Context,
    *,
    tailnet: Annotated[
        str, typer.Option("--tailnet", help="Which one; - is that of the key.")
    ] = "-",
    api: Annotated[
        str, typer.Option("--api", metavar="URL", help="Where the API is.")
    ] = "https://api.tailscale.com",
    key_file: Annotated[
        Path | None,
        typer.Option(
            "--key-file", metavar="FILE", help="API key. Default: $TS_API_KEY."
        ),
    ] = None,
    oauth_client: Annotated[
        str | None,
        typer.Option("--oauth-client", metavar="ID", help="OAuth client, not a key."),
    ] = None,
    oauth_secret_file: Annotated[
        Path | None,
        typer.Option(
            "--oauth-secret-file",
            metavar="FILE",
            help="Its secret. Default: $TS_OAUTH_CLIENT_SECRET.",
        ),
    ] = None,
    policy: Annotated[
        Path | None,
        typer.Option(
            "--policy", metavar="FILE", help="Write this policy file instead."
        ),
    ] = None,
    omit_default_regions: Annotated[
        bool | None,
        typer.Option(
            "--omit-default-regions/--keep-default-regions",
            help="Leave Tailscale's regions out, or not. Default: as the policy says.",
        ),
    ] = None,
    validate_only: Annotated[
        bool,
        typer.Option("--validate-only", help="Have it tried, and write nothing."),
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show the new text, and write nothing.")
    ] = False,
    yes: Annotated[bool, typer.Option("-y", "--yes", help="Do not ask.")] = False,
    timeout: TimeoutOption = None,
) -> None:
    """Put the map into the policy of a tailnet, and leave all else in it as it is.

    Comments, regions of others and every byte outside of what changes stay. What would
    change for clients is on stdout, and is asked for: with no terminal to ask at, it
    takes --yes, or exits 6. The new policy must keep the rules of `map lint` and pass
    its own tests, or exits 7; if somebody else wrote one meanwhile, nothing is written,
    and it exits 6. With --policy a file is written, as is the way with a policy in git;
    Tailscale is then asked by --validate-only alone.
    """
    import asyncio  # noqa: PLC0415 - see commands/__init__.py
    import os  # noqa: PLC0415

    from derpctl.consent import agree  # noqa: PLC0415
    from derpctl.push import policy as push  # noqa: PLC0415
    from derpctl.push.credentials import find_credentials  # noqa: PLC0415
    from derpctl.push.tailnet import Tailnet, api_url  # noqa: PLC0415

    settings = settings_of(context, timeout=timeout)
    remote = None
    if policy is None or validate_only:
        credentials = find_credentials(
            key_file=key_file,
            oauth_client=oauth_client,
            oauth_secret_file=oauth_secret_file,
            environ=os.environ,
        )
        remote = Tailnet(api_url(api), tailnet, credentials, settings.timeout)
    wanted = asyncio.run(push.wanted_map(settings.config, timeout=settings.timeout))
    _say(wanted.stale and f"{wanted.stale}; the map is as {wanted.source} has it")
    place = push.Place(policy, remote)
    new = asyncio.run(place.prepare(wanted.derp_map, omit=omit_default_regions))
    _say(*map(str, new.warnings))
    _echo(new.words())
    if dry_run:
        _echo(new.text_diff())
    elif validate_only:
        _say(*asyncio.run(place.validate(new)), f"{place.name} would be valid")
    elif new.is_same:
        _say(f"{place.name} has the map already; nothing to write")
    else:
        agree(f"write {place.name}", yes=yes)
        _say(*asyncio.run(place.write(new)), f"{place.name} is written")


def _say(*lines: str) -> None:
    for line in lines:
        if line:
            typer.echo(f"derpctl: {line}", err=True)


def _echo(lines: Iterable[str]) -> None:
    for line in lines:
        typer.echo(line)
