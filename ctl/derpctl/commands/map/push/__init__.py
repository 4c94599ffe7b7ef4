"""`derpctl map push …`: to whoever hands the map to clients."""

import typer

from derpctl.commands.map.push.headscale import EXAMPLE, headscale
from derpctl.commands.map.push.tailscale import tailscale


app = typer.Typer(
    name="push",
    help="Put the map where clients get theirs from.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@app.callback()
def group() -> None:
    """Put the map where clients get theirs from."""


app.command(
    epilog="Example: derpctl map push tailscale --key-file /etc/derpmesh/api.key"
)(tailscale)
app.command(epilog=EXAMPLE)(headscale)
