"""`derpctl map lint`."""

from collections.abc import Callable, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from derpctl.settings import Settings, TimeoutOption, settings_of


if TYPE_CHECKING:
    from derpctl.map.judged import Judged
    from derpctl.map.lint import Finding, Terms


class Consumer(StrEnum):
    """Who hands the map to clients."""

    TAILSCALE = "tailscale"
    HEADSCALE = "headscale"


class Report(StrEnum):
    """How to print findings; other commands have the first two alone."""

    TABLE = "table"
    JSON = "json"
    SARIF = "sarif"
    GITHUB = "github"


def lint(  # noqa: PLR0913 - options of a command line
    context: typer.Context,
    file: Annotated[
        str | None,
        typer.Argument(
            metavar="FILE",
            help="DERPMap JSON, a policy, headscale's YAML; a URL of one, -, cluster.",
        ),
    ] = None,
    *,
    rules: Annotated[
        bool, typer.Option("--rules", help="List the rules, and judge nothing.")
    ] = False,
    strict: Annotated[
        bool, typer.Option("--strict", help="Exit 9 when there are warnings.")
    ] = False,
    ignore: Annotated[
        list[str] | None,
        typer.Option(
            "--ignore",
            metavar="RULES",
            help="Rules not to mind: DM009,DM014. May be repeated.",
        ),
    ] = None,
    allow_system_ids: Annotated[
        bool,
        typer.Option(
            "--allow-system-ids", help="Do not mind regions outside 900 to 999."
        ),
    ] = False,
    allow_insecure: Annotated[
        bool,
        typer.Option(
            "--allow-insecure", help="Only warn of what tests alone may have in it."
        ),
    ] = False,
    target: Annotated[
        Consumer | None,
        typer.Option(
            "--target",
            help="Who hands it out. Default: headscale for YAML, else tailscale.",
        ),
    ] = None,
    online: Annotated[
        bool,
        typer.Option(
            "--online", help="Ask the nodes, too, and compare with what is registered."
        ),
    ] = False,
    ca_file: Annotated[
        Path | None,
        typer.Option(
            help="PEM file of the authorities to trust, with --online. Default: those"
            " of derpctl's configuration, else the system's."
        ),
    ] = None,
    fix: Annotated[
        bool,
        typer.Option("--fix", help="Mend in the file what has only one meaning."),
    ] = False,
    output: Annotated[
        Report | None, typer.Option("-o", "--output", help="How to print the result.")
    ] = None,
    timeout: TimeoutOption = None,
) -> None:
    """Say what is wrong with a map, though clients would read it.

    FILE is a file, a URL, - for standard input, or the word cluster for what
    `map export` would print; a file of that name is ./cluster. With --fix what has but
    one meaning is mended first, and no byte beside it changes; standard input is mended
    onto standard output, and findings are then on stderr.
    Exits 7 when something is an error; warnings exit 0, or 9 with --strict, and
    infos 0. -o sarif is SARIF 2.1.0, -o github the commands of GitHub's runner.
    """
    from derpctl.map import lint as judging  # noqa: PLC0415 - see commands/__init__.py
    from derpctl.map.lint.catalog import without  # noqa: PLC0415

    settings = settings_of(context, timeout=timeout)
    form = output or Report(settings.output.value)
    if rules:
        _list_rules(settings, form)
        return
    if file is None:
        message = "missing; give a file, a URL, - or cluster"
        raise typer.BadParameter(message, param_hint="FILE")
    ignored = _rules_of(ignore or [])
    terms = judging.Terms(
        allow_system_ids=allow_system_ids,
        allow_insecure=allow_insecure,
        target=None if target is None else judging.Target(target),
    )
    is_piped = fix and _check_fixable(file, form)
    shown, found = _judged(settings, file, terms, fix=fix)
    if online:
        found = _asked(settings, found, ca_file)
    findings = without(found.findings, ignored)
    if is_piped:
        for finding in findings:
            typer.echo(f"derpctl: {finding}", err=True)
    else:
        _print(settings, form, shown, found.form, findings)
    typer.echo(f"derpctl: {shown}: {judging.summary(findings)}", err=True)
    _end(findings, strict=strict)


def _rules_of(texts: Sequence[str]) -> list[str]:
    """Read names of rules, with commas between them.

    Raises:
        typer.BadParameter: There is no such rule, or it must be heard.
    """
    from derpctl.map.lint.catalog import NUMBERS, UNREADABLE  # noqa: PLC0415

    words = [name.strip() for text in texts for name in text.split(",")]
    for name in words:
        if name.upper() not in NUMBERS:
            message = f"{name!r:.40} is no rule; there are {', '.join(NUMBERS)}"
            raise typer.BadParameter(message, param_hint="--ignore")
        if name.upper() == UNREADABLE:
            message = f"what is not read is not judged, so that {name} must be heard"
            raise typer.BadParameter(message, param_hint="--ignore")
    return [name.upper() for name in words]


def _check_fixable(file: str, form: Report) -> bool:
    """See that there is a file to mend; say whether it is standard input.

    Raises:
        typer.BadParameter: There is none, or no place for what was mended.
    """
    from derpctl.texts import STANDARD_INPUT, is_at_hand  # noqa: PLC0415

    if not is_at_hand(file):
        message = f"{file} is no file; give one, or -"
        raise typer.BadParameter(message, param_hint="--fix")
    is_piped = file == STANDARD_INPUT
    if is_piped and form is not Report.TABLE:
        message = f"standard output has the mended map; give a file, or no -o {form}"
        raise typer.BadParameter(message, param_hint="--fix")
    return is_piped


def _judged(
    settings: Settings, name: str, terms: "Terms", *, fix: bool
) -> "tuple[str, Judged]":
    """Judge a map; also give the name that others may see."""
    from derpctl.errors import CtlError  # noqa: PLC0415
    from derpctl.exits import Exit  # noqa: PLC0415
    from derpctl.texts import is_at_hand, is_yaml, read_text  # noqa: PLC0415

    if is_at_hand(name):
        from derpctl.map.quick import judge_quickly  # noqa: PLC0415

        if fix:
            from derpctl.lint.mending import mend_file as read_text  # noqa: PLC0415
        named = is_yaml(name)
        try:
            text = read_text(name)
        except CtlError as exc:
            if exc.exit != Exit.INVALID:
                raise
            from derpctl.map.source import unread  # noqa: PLC0415

            return name, unread(exc.reason, is_yaml=named)
        well = None if named else judge_quickly(text, terms)
        if well is not None:
            return name, well
        from derpctl.map.mend import marked  # noqa: PLC0415
        from derpctl.map.source import judge  # noqa: PLC0415

        judged = judge(text, is_yaml=named, terms=terms)
        return name, marked(judged, text, is_yaml=named, terms=terms)
    import asyncio  # noqa: PLC0415

    from derpctl.lint.judging import judge_source  # noqa: PLC0415
    from derpctl.sources import Source  # noqa: PLC0415

    source = Source(name)
    shown, seconds = source.shown, settings.timeout
    judging = judge_source(source, terms, settings.config, timeout=seconds)
    found, stale = asyncio.run(judging)
    if stale:
        typer.echo(f"derpctl: {stale}", err=True)
    return shown, found


def _asked(settings: Settings, found: "Judged", ca_file: Path | None) -> "Judged":
    """Add what the nodes say to the map; there may be none to ask about."""
    import asyncio  # noqa: PLC0415
    import contextlib  # noqa: PLC0415
    import sys  # noqa: PLC0415

    from derpctl.config import load_ctl_config  # noqa: PLC0415
    from derpctl.map.source import and_also  # noqa: PLC0415
    from derpctl.online.look import look  # noqa: PLC0415
    from derpctl.probe.target import tls_of  # noqa: PLC0415
    from derpctl.render import Counting  # noqa: PLC0415

    tls_of(None, ca_file)  # refuses a file that is not there
    if found.derp_map is None:
        return found
    path = settings.config
    config = load_ctl_config(path) if path.exists() else None
    with contextlib.ExitStack() as stack:
        left: Callable[[int], None] = _say_nothing
        if sys.stderr.isatty():
            left = stack.enter_context(Counting("asking", "nodes")).left
        seconds = settings.timeout
        looking = look(found.derp_map, config, ca_file, timeout=seconds, left=left)
        looked = asyncio.run(looking)
    if looked.remark:
        typer.echo(f"derpctl: {looked.remark}", err=True)
    return and_also(found, looked.findings)


def _say_nothing(_: int) -> None:
    """Nobody watches."""


def _list_rules(settings: Settings, form: Report) -> None:
    from derpctl.map.lint.catalog import RULES  # noqa: PLC0415

    if form is Report.JSON:
        from derpctl import documents  # noqa: PLC0415

        items = [rule.members() for rule in RULES]
        typer.echo(documents.pretty(documents.document("MapRules", items=items)))
        return
    if form is not Report.TABLE:
        message = f"rules are a table or JSON, not {form.value}"
        raise typer.BadParameter(message, param_hint="--output")
    from derpctl.render import Screen  # noqa: PLC0415

    Screen(settings.color).rules(RULES)


def _print(
    settings: Settings,
    form: Report,
    shown: str,
    kind: str,
    findings: "Sequence[Finding]",
) -> None:
    from derpctl import documents  # noqa: PLC0415
    from derpctl.texts import is_at_hand, is_url  # noqa: PLC0415

    is_file = is_at_hand(shown) and shown != "-"
    match form:
        case Report.TABLE if findings:
            from derpctl.render import Screen  # noqa: PLC0415

            Screen(settings.color).findings(findings)
        case Report.TABLE:
            pass  # nothing is wrong, so nothing is printed
        case Report.JSON:
            items = [finding.members() for finding in findings]
            report = documents.document("MapLint", file=shown, format=kind, items=items)
            typer.echo(documents.pretty(report))
        case Report.SARIF:
            from derpctl.map.lint.sarif import sarif  # noqa: PLC0415
            from derpnode import __version__  # noqa: PLC0415

            place = shown if is_file or is_url(shown) else None
            log = sarif(findings, file=place, version=__version__)
            typer.echo(documents.pretty(log))
        case Report.GITHUB:
            from derpctl.map.lint.github import command  # noqa: PLC0415

            for finding in findings:
                typer.echo(command(finding, shown if is_file else None))


def _end(findings: "Sequence[Finding]", *, strict: bool) -> None:
    from derpctl.exits import Exit  # noqa: PLC0415
    from derpctl.map.lint import Severity, has_errors  # noqa: PLC0415

    if has_errors(findings):
        raise typer.Exit(Exit.INVALID)
    if strict and any(one.severity is Severity.WARNING for one in findings):
        raise typer.Exit(Exit.DEGRADED)
