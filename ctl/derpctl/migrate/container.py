"""Finds the variables of a container: in a file, or by asking Docker."""

import json
import re
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import yaml

from derpctl.errors import CtlError
from derpctl.exits import Exit


_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_INTERPOLATION = re.compile(
    r"\$(?:\$|\{(?P<name>\w+)(?::?-(?P<default>[^}]*))?(?:[:?+][^}]*)?\}|\w+)"
)
_PATIENCE = 30.0  # seconds; Docker may be starting
_HINT = "give an env file, a compose file, or what docker inspect prints"

_NO_YAML = (yaml.YAMLError, ValueError, LookupError, AttributeError, RecursionError)


@dataclass(frozen=True, slots=True)
class Container:
    """What is known of one container."""

    name: str
    """Of the container, or of the service; empty if it has none."""
    environ: Mapping[str, str]
    image: str = ""
    open_names: tuple[str, ...] = field(default=())
    """Variables whose values only whoever starts it knows."""


def containers_in(name: str, text: str) -> list[Container]:
    """Read a file of any of the kinds.

    Args:
        name: Of the file, for errors.
        text: All of it.

    Raises:
        CtlError: It is of no kind that we know.
    """
    if text.lstrip().startswith(("[", "{")):
        return _inspected(name, text)
    compose = _compose(text)
    return [_of_env_file(name, text)] if compose is None else list(compose)


def inspect(name: str) -> Container:
    """Ask Docker for a container, by `docker inspect`.

    Raises:
        CtlError: There is none, or no Docker that answers.
    """
    command = ["docker", "inspect", "--type", "container", "--", name]
    value = f"--container {name}"
    try:
        said = subprocess.run(  # noqa: S603 - a name is an argument, never a command
            command, capture_output=True, text=True, timeout=_PATIENCE, check=False
        )
    except FileNotFoundError:
        hint = "install it, or give a file with what docker inspect prints elsewhere"
        raise CtlError(value, "docker is not on PATH", hint, Exit.CONFIG) from None
    except subprocess.TimeoutExpired:
        reason, hint = f"docker does not answer in {_PATIENCE:g} s", "is it running?"
        raise CtlError(value, reason, hint, Exit.UNREACHABLE) from None
    if said.returncode:
        lines = said.stderr.strip().splitlines() or ["docker says nothing"]
        missing = "no such" in lines[-1].lower()
        hint = "docker ps lists those that there are" if missing else "is it running?"
        end = Exit.NOT_FOUND if missing else Exit.UNREACHABLE
        raise CtlError(value, lines[-1], hint, end)
    return _inspected(value, said.stdout)[0]


def _inspected(name: str, text: str) -> list[Container]:
    try:
        tree: object = json.loads(text)
    except (ValueError, RecursionError) as exc:
        raise CtlError(name, f"not JSON: {exc}", _HINT, Exit.INVALID) from exc
    items = tree if isinstance(tree, list) else [tree]
    found = []
    for item in items:
        config = item.get("Config") if isinstance(item, dict) else None
        if not isinstance(item, dict) or not isinstance(config, dict):
            raise CtlError(name, "no container is in it", _HINT, Exit.INVALID)
        listed = config.get("Env") or []
        environ = dict(_pairs(listed if isinstance(listed, list) else []))
        if environ.get("HOSTNAME") == config.get("Hostname"):
            environ.pop("HOSTNAME", None)  # Docker's own
        shown = str(item.get("Name") or "").lstrip("/")
        found.append(Container(shown, environ, str(config.get("Image") or "")))
    if not found:
        raise CtlError(name, "no container is in it", _HINT, Exit.INVALID)
    return found


def _pairs(items: list[object]) -> Iterator[tuple[str, str]]:
    for item in items:
        name, equals, value = str(item).partition("=")
        if equals:
            yield name, value


def _compose(text: str) -> Iterator[Container] | None:
    """Read a compose file; None if it is none."""
    try:
        tree: object = yaml.safe_load(text)
    except _NO_YAML:
        return None
    services = tree.get("services") if isinstance(tree, dict) else None
    if not isinstance(services, dict):
        return None
    return (
        _service(str(name), service)
        for name, service in services.items()
        if isinstance(service, dict)
    )


def _service(name: str, service: Mapping[object, object]) -> Container:
    said = service.get("environment") or {}
    if isinstance(said, dict):
        pairs = {str(key): _scalar(value) for key, value in said.items()}
    else:
        pairs = dict(_pairs(said if isinstance(said, list) else []))
    environ, unknown = {}, []
    for key, value in pairs.items():
        text = _interpolated(value)
        if text is None:
            unknown.append(key)
        else:
            environ[key] = text
    image = _interpolated(_scalar(service.get("image"))) or ""
    return Container(name, environ, image, tuple(unknown))


def _scalar(value: object) -> str:
    """Write a value as compose hands it to the container."""
    if isinstance(value, bool):
        return str(value).lower()
    return "" if value is None else str(value)


def _interpolated(text: str) -> str | None:
    """Fill in defaults; None if something is known only where it is started."""
    known = True

    def fill(match: re.Match[str]) -> str:
        nonlocal known
        if match[0] == "$$":
            return "$"
        if match["default"] is None:
            known = False
            return ""
        return match["default"]

    found = _INTERPOLATION.sub(fill, text)
    return found if known else None


def _of_env_file(name: str, text: str) -> Container:
    """Read `NAME=VALUE` lines, as Docker's --env-file and shells have them.

    Raises:
        CtlError: A line is none; it is not shown, as it may be a secret.
    """
    environ = {}
    for number, line in enumerate(text.splitlines(), 1):
        words = line.strip().removeprefix("export ").strip()
        if not words or words.startswith("#"):
            continue
        key, equals, value = words.partition("=")
        if not _NAME.fullmatch(key):
            where = f"{name}: line {number}"
            raise CtlError(where, "not NAME=VALUE", _HINT, Exit.INVALID)
        if equals:
            environ[key] = _unquoted(value.strip())
    return Container("", environ)


def _unquoted(value: str) -> str:
    if len(value) > 1 and value[0] == value[-1] and value[0] in "'\"":
        return value[1:-1]
    return value
