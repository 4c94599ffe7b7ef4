"""Asks the questions, on a terminal."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import typer

from derpctl.init.answers import EVERYBODY, FILE, KEYS, TAILSCALED, is_loopback
from derpnode.config import NodeSection


_Value = TypeVar("_Value")

_PARTS = 3
_ADMIT = frozenset({KEYS, TAILSCALED, EVERYBODY})
_REGIONS = range(1, 65_536)


def region() -> tuple[int, str, str]:
    """Ask for number, code and name of the region."""
    return _ask("Region: number, code and name", "900 home Home", _region)


def host() -> str:
    """Ask for what clients dial."""
    return _ask("What clients dial: a domain, or an IP address", "", _host)


def admit(host: str) -> tuple[str, ...]:
    """Ask who may connect to a host."""

    def read(text: str) -> tuple[str, ...]:
        found = _list(text)
        if EVERYBODY in found and not is_loopback(host):
            message = "on a public address that carries strangers' traffic: write keys"
            raise ValueError(message)
        for word in found:
            if word not in _ADMIT and not word.startswith(("http", f"{TAILSCALED}:")):
                message = f"{word!r:.40} is neither keys, tailscaled nor a URL"
                raise ValueError(message)
        return found

    question = "Who may connect: keys (a list), tailscaled, a URL; several with commas"
    return _ask(question, KEYS, read)


def registry() -> tuple[str, ...]:
    """Ask where the nodes of the region are recorded."""
    question = "Where nodes find each other: file, or the URLs of etcd, with commas"
    return _ask(question, FILE, _registry)


def directory(usual: Path) -> Path:
    """Ask where to write."""
    return _ask("Where to write", str(usual), lambda text: Path(text).expanduser())


def _ask(question: str, default: str, read: Callable[[str], _Value]) -> _Value:
    """Ask until there is an answer that can be read.

    On stderr, as all talk is; click's own prompt leaves a blank on stdout.

    Raises:
        typer.Abort: There is no answer to come.
    """
    shown = f"{question} [{default}]: " if default else f"{question}: "
    while True:
        typer.echo(shown, nl=False, err=True)
        line = sys.stdin.readline()
        if not line:
            raise typer.Abort
        try:
            return read(line.strip() or default)
        except ValueError as exc:
            typer.echo(f"{exc}", err=True)


def _region(text: str) -> tuple[int, str, str]:
    parts = text.split(maxsplit=_PARTS - 1)
    if len(parts) < _PARTS or not parts[0].isdecimal() or int(parts[0]) not in _REGIONS:
        message = "write a number to 65535, a code and a name: 900 home Home"
        raise ValueError(message)
    return int(parts[0]), parts[1], parts[2]


def _host(text: str) -> str:
    try:
        return NodeSection(host=text).host
    except ValueError:
        message = "write derp.example.net or 203.0.113.10, without scheme and port"
        raise ValueError(message) from None


def _registry(text: str) -> tuple[str, ...]:
    found = _list(text)
    for word in found:
        if word != FILE and not word.startswith(("http://", "https://")):
            message = f"{word!r:.40} is neither file nor the URL of an etcd"
            raise ValueError(message)
    return found


def _list(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())
