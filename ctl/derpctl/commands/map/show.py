"""`derpctl map show`."""

import typer

from derpctl.commands.map.export import published_map
from derpctl.settings import OutputOption, TimeoutOption, settings_of


def show(
    context: typer.Context,
    *,
    output: OutputOption = None,
    timeout: TimeoutOption = None,
) -> None:
    """Show the map of the region, a line for each node, in its order.

    It is what `map export` would print. With -o json the map itself is there as well.
    """
    from derpctl import documents  # noqa: PLC0415 - see commands/__init__.py
    from derpctl.map.canonical import revision, tree_of  # noqa: PLC0415
    from derpctl.map.table import COLUMNS, items, rows  # noqa: PLC0415

    settings = settings_of(context, output, timeout)
    found = published_map(settings)
    if settings.as_json:
        report = documents.document(
            "Map", revision=revision(found), items=items(found), map=tree_of(found)
        )
        typer.echo(documents.pretty(report))
    else:
        from derpctl.render import Screen  # noqa: PLC0415

        Screen(settings.color).table(COLUMNS, rows(found))
