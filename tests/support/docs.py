"""Fills in what pages of ``docs`` take from the code: ``make docs``.

A page marks the place, and a test fails while what stands there is stale::

    <!-- generated: configuration -->
    <!-- end -->

The words are those of the code: docstrings of settings, help of commands, docstrings of
exit codes. Everything outside the marks is written by hand.
"""

import ast
import inspect
import ipaddress
import re
import sys
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal, TypeGuard, Union, get_args, get_origin

import typer.main
from annotated_types import Ge, Gt, Le, MinLen
from pydantic import BaseModel
from pydantic.fields import FieldInfo

import derpctl.exits
import derpctl.main
import derpmesh.address.entry
import derpmesh.daemon
from derpctl.config import CtlConfig
from derpmesh.config import DaemonConfig
from derpnode.config import ENVIRONMENT_PREFIX, Address
from derpnode.kinds import Kind
from tests.support.chart import table_rows


ROOT = Path(__file__).resolve().parents[2]

_BLOCK = re.compile(r"(<!-- generated: (\S+) -->\n).*?(<!-- end -->\n)", re.DOTALL)

_WORDS: Mapping[object, str] = {
    bool: "true or false",
    int: "integer",
    float: "number",
    str: "text",
    Path: "path",
    Address: "`HOST:PORT`",
    ipaddress.IPv4Address: "IPv4 address",
    ipaddress.IPv6Address: "IPv6 address",
}

Rows = Sequence[Sequence[str]]


def pages() -> list[Path]:
    """List the Markdown that people read, in a stable order."""
    names = ("README.md", "CONTRIBUTING.md", "helm/derp-cluster/README.md")
    top = (ROOT / name for name in names)
    return [*top, *sorted((ROOT / "docs").rglob("*.md"))]


def filled(text: str) -> str:
    """Give a page with every marked place filled in anew.

    Raises:
        KeyError: A mark names nothing that is generated.
    """
    return _BLOCK.sub(lambda found: f"{found[1]}{BLOCKS[found[2]]()}{found[3]}", text)


def table(columns: Sequence[str], rows: Rows) -> str:
    """Write a table of Markdown."""
    ruler = ["---"] * len(columns)
    lines = [
        " | ".join(cell.replace("|", r"\|") for cell in row)
        for row in (columns, ruler, *rows)
    ]
    return "".join(f"| {line} |\n" for line in lines)


# Configuration


def configuration() -> str:
    """Describe every key of ``derpd``'s file, section by section."""
    sections = {"": DaemonConfig, **dict(_sections(DaemonConfig))}
    return "\n".join(_section(name, model) for name, model in sections.items())


def _sections(model: type[BaseModel]) -> Iterator[tuple[str, type[BaseModel]]]:
    for name, field in model.model_fields.items():
        if _is_model(field.annotation):
            yield name, field.annotation


def _section(name: str, model: type[BaseModel]) -> str:
    """Describe one section of the file: what it is for, and its keys."""
    rows: list[Sequence[str]] = []
    for key, *cells in _keys(f"{name}." if name else "", model):
        variable = ENVIRONMENT_PREFIX + key.replace(".", "__").upper()
        in_list = "[]" in key
        rows.append((f"`{key}`", *cells, "" if in_list else f"`{variable}`"))
    title, about = (f"`{name}`", model.__doc__) if name else ("Top level", _TOP)
    columns = ("Key", "Type", "Default", "Meaning", "Environment")
    return f"## {title}\n\n{about}\n\n{table(columns, rows)}"


_TOP = "Keys that are in no section."


def derpctl_configuration() -> str:
    """Describe every key of ``derpctl``'s own file."""
    rows = [(f"`{key}`", *cells) for key, *cells in _keys("", CtlConfig)]
    return table(("Key", "Type", "Default", "Meaning"), rows)


def _keys(prefix: str, model: type[BaseModel]) -> Iterator[Sequence[str]]:
    """Yield key, type, default and meaning; sections are left out, lists are not."""
    for name, field in model.model_fields.items():
        if _is_model(field.annotation):
            continue
        section = _optional_model(field.annotation)
        if section is not None:
            yield from _keys(f"{prefix}{name}.", section)
            continue
        yield (
            f"{prefix}{name}",
            _words(field.annotation, field.metadata),
            "required" if field.is_required() else _default(field.default),
            _sentence(field.description),
        )
        for inner in get_args(field.annotation):
            if _is_model(inner):
                yield from _keys(f"{prefix}{name}[].", inner)


def _is_model(kind: object) -> TypeGuard[type[BaseModel]]:
    return inspect.isclass(kind) and issubclass(kind, BaseModel)


def _optional_model(kind: object) -> type[BaseModel] | None:
    """Give the section that may be there or not, if a type says so."""
    if get_origin(kind) not in (Union, types.UnionType):
        return None
    return next((one for one in get_args(kind) if _is_model(one)), None)


def _sentence(text: str | None) -> str:
    return " ".join((text or "").split())


def _words(kind: object, limits: Sequence[object] = ()) -> str:
    """Say what a type is, in words of operators."""
    origin, inner = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return _words(inner[0], [*_flat(inner[1:]), *limits])
    if origin in (Union, types.UnionType):
        return " or ".join(_words(one) for one in inner if one is not type(None))
    if origin is Literal:
        return " or ".join(f"`{one}`" for one in inner)
    if origin is list:
        some = ", at least one" if any(isinstance(x, MinLen) for x in limits) else ""
        return f"list of {_words(inner[0])}{some}"
    if _is_model(kind):
        return "mappings"
    return _WORDS[kind] + _limits(limits)


def _flat(limits: Sequence[object]) -> Iterator[object]:
    for one in limits:
        yield from one.metadata if isinstance(one, FieldInfo) else [one]


def _limits(limits: Sequence[object]) -> str:
    least = [f"{one.ge:,}" for one in limits if isinstance(one, Ge)]
    above = [f"above {one.gt:,}" for one in limits if isinstance(one, Gt)]
    most = [f"{one.le:,}" for one in limits if isinstance(one, Le)]
    if least and most:
        return f", {least[0]} to {most[0]}"
    parts = [*above, *(f"at least {one}" for one in least)]
    parts += [f"at most {one}" for one in most]
    return f", {', '.join(parts)}" if parts else ""


def _default(value: object) -> str:
    """Write a default as YAML has it."""
    match value:
        case None:
            return "none"
        case bool():
            return f"`{str(value).lower()}`"
        case float():
            return f"`{value:g}`"
        case list():
            items = ", ".join(f'"{one}"' for one in value)
            return f"`[{items}]`"
        case _:
            return f"`{value}`"


# Command lines


def derpd_commands() -> str:
    """Describe the options of ``derpd``."""
    return _program(derpmesh.daemon.app, "derpd")


def address_commands() -> str:
    """Describe ``derpd-address``."""
    return _program(derpmesh.address.entry.app, "derpd-address")


def derpctl_commands() -> str:
    """Describe every command of ``derpctl`` and its options."""
    return _program(derpctl.main.app, "derpctl")


def _program(app: typer.Typer, name: str) -> str:
    return "\n".join(_commands(typer.main.get_command(app), name))


def _commands(command, name: str, parent=None) -> Iterator[str]:
    """Describe a command, then those below it, in the order of the help."""
    context = command.context_class(command, info_name=name, parent=parent)
    usage = command.get_usage(context).removeprefix("Usage: ")
    texts = [command.help or "", command.epilog or ""]
    about = "\n\n".join(_paragraphs(text) for text in texts if text)
    records = [one.get_help_record(context) for one in command.params]
    rows: Rows = [(f"`{names}`", _sentence(text)) for names, text in records]
    listed = f"\n{table(('Option', 'Meaning'), rows)}" if rows else ""
    heading = "##" if parent is None else "###"
    yield f"{heading} {context.command_path}\n\n`{usage}`\n\n{about}\n{listed}"
    for below, found in getattr(command, "commands", {}).items():
        yield from _commands(found, below, context)


def _paragraphs(text: str) -> str:
    return "\n\n".join(_sentence(part) for part in text.split("\n\n"))


# Exit codes


def exit_codes() -> str:
    """List the exit codes of ``derpctl``."""
    said = attribute_docstrings(derpctl.exits.Exit)
    rows: Rows = [(f"{one.value}", said[one.name]) for one in derpctl.exits.Exit]
    return table(("Code", "Meaning"), rows)


# Events


def event_kinds() -> str:
    """List the kinds of events."""
    said = attribute_docstrings(Kind)
    rows: Rows = [(f"`{one.value}`", said[one.name]) for one in Kind]
    return table(("Kind", "Meaning"), rows)


def attribute_docstrings(kind: type) -> dict[str, str]:
    """Read the text that stands under each assignment in the body of a class."""
    body = ast.parse(inspect.getsource(kind)).body[0]
    found: dict[str, str] = {}
    name = ""
    for statement in getattr(body, "body", ()):
        match statement:
            case ast.Assign(targets=[ast.Name(id=name)]):
                pass
            case ast.Expr(value=ast.Constant(value=str(text))) if name:
                found[name] = _sentence(text)
    return found


def chart_values() -> str:
    """Describe every value of the Helm chart."""
    return table(("Value", "Default", "Meaning"), table_rows())


BLOCKS: Mapping[str, Callable[[], str]] = {
    "configuration": configuration,
    "derpctl-configuration": derpctl_configuration,
    "derpd-commands": derpd_commands,
    "derpd-address-commands": address_commands,
    "derpctl-commands": derpctl_commands,
    "exit-codes": exit_codes,
    "event-kinds": event_kinds,
    "chart-values": chart_values,
}
"""What can be generated, by the name that a mark gives it."""


def main() -> int:
    """Fill in every page, and name those that changed."""
    for path in pages():
        text = path.read_text("utf-8")
        fresh = filled(text)
        if fresh != text:
            path.write_text(fresh, "utf-8")
            sys.stdout.write(f"{path.relative_to(ROOT)}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
