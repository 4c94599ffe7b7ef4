"""F15: nothing about membership is decided by a clock that can be wrong."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import derpmesh


HERE = Path(str(derpmesh.__file__)).parent
MODULES = sorted([*HERE.glob("membership/*.py"), *HERE.glob("etcd/*.py")])

SAFE = {"monotonic"}
"""What is used of `time`: what no change of the date moves."""

SHOWN = {"edits"}
"""What notes the date for people, and for nothing else."""


def wall_clocks(source: str) -> Iterator[str]:
    """Find what in a module could tell the date."""
    for found in ast.walk(ast.parse(source)):
        match found:
            case ast.Import(names=names):
                yield from (one.name for one in names if one.name == "datetime")
            case ast.ImportFrom(module="datetime"):
                yield "datetime"
            case ast.ImportFrom(module="time", names=names):
                yield from (one.name for one in names if one.name not in SAFE)
            case ast.Attribute(value=ast.Name(id="time"), attr=name):
                yield from [name] if name not in SAFE else []


@pytest.mark.parametrize(
    "module",
    [one for one in MODULES if one.stem not in SHOWN],
    ids=lambda path: f"{path.parent.name}/{path.stem}",
)
def test_f15_no_module_asks_for_the_date(module):
    """F15: leases are etcd's to count, and all else is counted from a moment here."""
    assert list(wall_clocks(module.read_text("utf-8"))) == []


@pytest.mark.parametrize(
    "source",
    [
        "import datetime",
        "from datetime import datetime",
        "from time import time",
        "import time\ntime.time()",
        "import time\ntime.time_ns",
    ],
)
def test_date_would_be_found(source):
    """Whichever way it is asked for."""
    assert list(wall_clocks(source))
    assert not list(wall_clocks("import time\ntime.monotonic()"))
