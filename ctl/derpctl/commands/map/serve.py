"""`derpctl map serve`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from derpctl.settings import TimeoutOption, settings_of


if TYPE_CHECKING:
    from derpctl.config import CtlConfig
    from derpctl.serve.tls import ServerTls
    from derpnode.config import Address


PATHS = ("/derpmap/default", "/derpmap.json")


def serve(  # noqa: PLR0913 - options of a command line
    context: typer.Context,
    *,
    listen: Annotated[
        str,
        typer.Option(
            "--listen", metavar="HOST:PORT", help="An IP address and a port; 0 is any."
        ),
    ] = "127.0.0.1:8053",
    path: Annotated[
        list[str] | None,
        typer.Option(
            "--path",
            help="Where the map is; repeatable. Default: /derpmap/default and"
            " /derpmap.json.",
        ),
    ] = None,
    certificate: Annotated[
        Path | None,
        typer.Option("--certificate", help="PEM file; serves HTTPS. Followed."),
    ] = None,
    key: Annotated[
        Path | None, typer.Option("--key", help="PEM file: its private key.")
    ] = None,
    cache: Annotated[
        Path | None,
        typer.Option("--cache", help="Keep the last good map in this file."),
    ] = None,
    interval: Annotated[
        float,
        typer.Option("--interval", min=0.1, max=3600, help="Seconds between looks."),
    ] = 2.0,
    timeout: TimeoutOption = None,
) -> None:
    """Serve the map of the region over HTTP, for headscale and whoever else reads it.

    GET gives what `map export -f derpmap` prints, with a strong ETag. While the region
    cannot be read, is empty, or breaks a rule of `map lint`, the last good map is
    served; 503, as text, if there never was one. Each change is told on stderr.
    Runs until SIGTERM or Ctrl-C, and exits 0 then. Nobody is asked who they are.
    """
    import asyncio  # noqa: PLC0415 - see commands/__init__.py

    from derpctl.config import load_ctl_config  # noqa: PLC0415

    settings = settings_of(context, timeout=timeout)
    where = _address(listen)
    paths = _paths(path)
    tls = _tls(certificate, key)
    if tls is None and not where.is_loopback:
        _say(
            f"--listen = {listen}: http:// lets whoever is on the way change the map;"
            " give --certificate and --key"
        )
    config = load_ctl_config(settings.config)
    asyncio.run(_run(config, settings.timeout, where, paths, tls, cache, interval))


async def _run(  # noqa: PLR0913, PLR0917 - what the options say
    config: "CtlConfig",
    timeout: float,  # noqa: ASYNC109 - of each question
    listen: "Address",
    paths: "list[str]",
    tls: "ServerTls | None",
    cache: Path | None,
    interval: float,
) -> None:
    from derpctl.cluster import Published, published  # noqa: PLC0415
    from derpctl.serve.cache import Cache  # noqa: PLC0415
    from derpctl.serve.feed import Feed  # noqa: PLC0415
    from derpctl.serve.server import listening, run_until, told_to_stop  # noqa: PLC0415
    from derpctl.serve.shelf import Shelf  # noqa: PLC0415

    async def look() -> Published:
        return await published(config, timeout=timeout)

    shelf = Shelf()
    kept = Cache(cache, config.region) if cache is not None else None
    feed = Feed(shelf, look, kept, _say)
    feed.remember()
    context = tls.context if tls is not None else None
    with told_to_stop() as stop:
        async with listening(listen, paths, lambda: shelf.document, context) as url:
            _say(f"listening at {url}")
            follow = [tls.follow()] if tls is not None else []
            await run_until(stop, [feed.run(interval), *follow])


def _say(text: str) -> None:
    typer.echo(f"derpctl: {text}", err=True)


def _address(text: str) -> "Address":
    """Read where to listen; every address only if that is said.

    Raises:
        BadParameter: It is no address.
    """
    from derpnode.config import parse_address  # noqa: PLC0415

    try:
        found = parse_address(text)
    except ValueError as exc:
        message = f"{text}: {exc}"
        raise typer.BadParameter(message, param_hint="--listen") from exc
    if not found.host:
        message = f"{text}: no address in it; 0.0.0.0 and [::] are every one"
        raise typer.BadParameter(message, param_hint="--listen")
    return found


def _paths(given: list[str] | None) -> list[str]:
    """Say where the map is.

    Raises:
        BadParameter: One is no path.
    """
    from derpctl.serve.answers import ALIVE  # noqa: PLC0415

    for path in given or ():
        if not path.startswith("/") or path == ALIVE or set(path) & set("?#% "):
            message = f"{path}: not a plain path that begins with /, and not {ALIVE}"
            raise typer.BadParameter(message, param_hint="--path")
    return given or list(PATHS)


def _tls(certificate: Path | None, key: Path | None) -> "ServerTls | None":
    """Read what handshakes prove.

    Raises:
        BadParameter: There is but one of the two.
        CtlError: They cannot be used.
    """
    from derpctl.serve.tls import Pair, ServerTls  # noqa: PLC0415

    if certificate is not None and key is not None:
        return ServerTls(Pair(certificate, key), _say)
    if certificate is None and key is None:
        return None
    message = "certificate and key go together; give both or neither"
    raise typer.BadParameter(message, param_hint="--certificate")
