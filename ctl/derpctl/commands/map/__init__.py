"""`derpctl map …`: one file a command."""

import typer

from derpctl.commands.map import history, importing, verify, watch
from derpctl.commands.map.diff import diff
from derpctl.commands.map.export import EPILOG, export
from derpctl.commands.map.lint import lint
from derpctl.commands.map.push import app as push
from derpctl.commands.map.serve import serve
from derpctl.commands.map.show import show


app = typer.Typer(
    name="map",
    help="The DERP map that clients get.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@app.callback()
def group() -> None:
    """Render the DERP map that clients get."""


app.command(epilog="Example: derpctl map show -o json")(show)
app.command(epilog=EPILOG)(export)
app.command(epilog="Example: derpctl map lint policy.hujson --fix")(lint)
app.command(epilog="Example: derpctl map diff client cluster")(diff)
app.command(epilog=history.HISTORY_EXAMPLE)(history.history)
app.command(epilog=history.ROLLBACK_EXAMPLE)(history.rollback)
app.command("import", epilog=importing.EXAMPLE)(importing.import_)
app.command(epilog=verify.EXAMPLE)(verify.verify)
app.command(epilog=watch.EXAMPLE)(watch.watch)
app.command(epilog="Example: derpctl map serve --listen 127.0.0.1:8480")(serve)
app.add_typer(push)
