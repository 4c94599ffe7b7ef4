"""The files that tell systemd to tell the kernel. Pure."""

import textwrap
from collections.abc import Iterator
from enum import StrEnum

from derpctl.tune.recommended import MODULES, SETTINGS


_WIDTH = 80  # columns of a comment


class File(StrEnum):
    """Which file."""

    SYSCTL = "sysctl"
    """`/etc/sysctl.d/60-derpmesh.conf`."""

    MODULES = "modules"
    """`/etc/modules-load.d/derpmesh.conf`."""


def text_of(file: File) -> str:
    """Write a file whole."""
    lines = _sysctl() if file is File.SYSCTL else _modules()
    return "".join(f"{line}\n" for line in lines)


def _sysctl() -> Iterator[str]:
    yield "# For machines that relay. `derpctl tune --print sysctl` prints this file,"
    yield "# `derpctl tune --check` tells what of it is in force. See sysctl.d(5)."
    for setting in SETTINGS:
        if not setting.is_written:
            continue
        yield ""
        yield from _comment(setting.reason)
        # The dash: a kernel that has no such thing is no error.
        dash = "-" if setting.needs else ""
        yield f"{dash}{setting.name} = {setting.value}"


def _modules() -> Iterator[str]:
    yield "# For machines that relay, before 60-derpmesh.conf of sysctl.d is applied."
    yield "# `derpctl tune --print modules` prints this file. See modules-load.d(5)."
    for module in MODULES:
        yield ""
        yield from _comment(module.reason)
        yield module.name


def _comment(text: str) -> Iterator[str]:
    yield from textwrap.wrap(text, _WIDTH, initial_indent="# ", subsequent_indent="# ")
