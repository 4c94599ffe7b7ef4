"""`derpctl version`."""

import typer

from derpctl.settings import OutputOption, settings_of


def version(context: typer.Context, *, output: OutputOption = None) -> None:
    """Print the version of derpctl."""
    import json  # noqa: PLC0415 - see commands/__init__.py
    import platform  # noqa: PLC0415

    from derpnode import __version__  # noqa: PLC0415

    if settings_of(context, output).as_json:
        document = {
            "apiVersion": "derpctl/v1",
            "kind": "Version",
            "version": __version__,
            "python": platform.python_version(),
        }
        typer.echo(json.dumps(document, indent=2))
    else:
        typer.echo(f"derpctl {__version__} (Python {platform.python_version()})")
