"""Mends files for `map lint --fix`, and says what it did."""

import sys
from pathlib import Path

import typer

from derpctl.files import read_whole, replace_whole
from derpctl.map.lint import printable
from derpctl.map.mend import mend
from derpctl.texts import STANDARD_INPUT, at_most, is_yaml, whole_text


_BOM = "\ufeff"


def mend_file(file: str) -> str:
    """Mend a file in its place, or standard input onto standard output.

    A file in which nothing is to mend is not written. What was done is on stderr.

    Args:
        file: Its path, or `-`.

    Returns:
        The text as it is now, without a byte order mark.

    Raises:
        CtlError: It cannot be read or written.
    """
    if file == STANDARD_INPUT:
        text = whole_text(file, at_most(file, sys.stdin.buffer))
        mended = mend(text, is_yaml=False)
        typer.echo(mended.text.encode(), nl=False)
    else:
        mended = mend(read_whole(Path(file)), is_yaml=is_yaml(file))
        if mended.repairs:
            replace_whole(Path(file), mended.text)
    for one in mended.repairs:
        line = f", line {one.line}" if one.line else ""
        typer.echo(f"derpctl: {file}{line}: mended {printable(str(one))}", err=True)
    return mended.text.removeprefix(_BOM)
