"""`derpctl client …`."""

from typing import TYPE_CHECKING, Annotated

import typer

from derpctl.settings import OutputOption, settings_of


if TYPE_CHECKING:
    from derpmesh.membership.model import Rule

app = typer.Typer(name="client", no_args_is_help=True, rich_markup_mode=None)

Keys = Annotated[
    list[str],
    typer.Argument(metavar="KEY...", help="nodekey:…, as tailscale status --json."),
]


@app.callback()
def group() -> None:
    """Let clients in and keep them out by name, on every node of the region.

    What is said here is written to the registry, and comes before whatever the
    nodes' own admission says. It needs registry.etcd in derpctl's configuration.
    """


@app.command(epilog="Example: derpctl client allow nodekey:1f…")
def allow(context: typer.Context, keys: Keys, *, output: OutputOption = None) -> None:
    """Let clients in, whatever admission says of them.

    In force on every node within 2 seconds.
    """
    _rule(context, keys, "allow", output)


@app.command(epilog="Example: derpctl client deny nodekey:1f…")
def deny(context: typer.Context, keys: Keys, *, output: OutputOption = None) -> None:
    """Keep clients out, and disconnect them wherever they are.

    In force on every node within 2 seconds; cut within 5.
    """
    _rule(context, keys, "deny", output)


@app.command()
def forget(context: typer.Context, keys: Keys, *, output: OutputOption = None) -> None:
    """Say no more of clients: the nodes' own admission counts again."""
    _rule(context, keys, "none", output)


@app.command("list")
def list_rules(context: typer.Context, *, output: OutputOption = None) -> None:
    """List the clients that are let in or kept out by name, and who said so."""
    import asyncio  # noqa: PLC0415 - see commands/__init__.py

    from derpctl import documents  # noqa: PLC0415
    from derpctl.config import load_ctl_config  # noqa: PLC0415
    from derpctl.wanted import intents  # noqa: PLC0415

    settings = settings_of(context, output)
    config = load_ctl_config(settings.config)
    rules = asyncio.run(intents.client_rules(config))
    if settings.as_json:
        items = [rule.members() for rule in rules]
        found = documents.document("ClientRules", region=config.region, items=items)
        typer.echo(documents.pretty(found))
    else:
        from derpctl.render import Screen  # noqa: PLC0415

        rows = [[str(one[key]) for key in one] for one in (r.members() for r in rules)]
        Screen(settings.color).table(("KEY", "RULE", "AUTHOR"), rows)


def _rule(
    context: typer.Context, texts: list[str], rule: "Rule", output: OutputOption
) -> None:
    import asyncio  # noqa: PLC0415

    from derpctl import documents  # noqa: PLC0415
    from derpctl.config import load_ctl_config  # noqa: PLC0415
    from derpctl.wanted import intents  # noqa: PLC0415
    from derpnode.wire.keys import node_key_text  # noqa: PLC0415

    settings = settings_of(context, output)
    config = load_ctl_config(settings.config)
    keys = [intents.client_key(text) for text in texts]
    done = asyncio.run(intents.rule_clients(config, keys, rule))
    if settings.as_json:
        items = [
            {"key": node_key_text(key), "rule": rule, "revision": revision}
            for key, revision in done
        ]
        found = documents.document("ClientRule", region=config.region, items=items)
        typer.echo(documents.pretty(found))
    else:
        for key, revision in done:
            typer.echo(f"{node_key_text(key)}: {rule}, revision {revision}")
