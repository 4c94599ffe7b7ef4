"""docs/reference/conformance.md names every number, and only tests that there are."""

import ast
import re
from pathlib import Path

import pytest


ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "reference" / "conformance.md"

_ROW = re.compile(r"^\| ([CB]\d+) \| .* \| (.*) \|$", re.MULTILINE)
_NAME = re.compile(r"(interop )?`([^`]+)`")
_NUMBERED = re.compile(r"test_([cb])(\d\d)_")


def rows() -> dict[str, str]:
    """Read what the last column says, by number."""
    return dict(_ROW.findall(PAGE.read_text()))


def functions(path: Path) -> set[str]:
    """List the tests of a file."""
    tree = ast.walk(ast.parse(path.read_text()))
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    return {node.name for node in tree if isinstance(node, kinds)}


def numbered() -> dict[str, set[str]]:
    """List the tests of this suite by number."""
    found: dict[str, set[str]] = {}
    for path in Path(__file__).parent.glob("test_*.py"):
        for name in functions(path):
            if match := _NUMBERED.match(name):
                number = f"{match[1].upper()}{int(match[2])}"
                found.setdefault(number, set()).add(name)
    return found


def test_every_number_is_there():
    """C1 to C54 and B1 to B13, once and in order."""
    numbers = [f"C{n}" for n in range(1, 55)] + [f"B{n}" for n in range(1, 14)]
    assert [number for number, _ in _ROW.findall(PAGE.read_text())] == numbers


@pytest.mark.parametrize("number", rows())
def test_a_row(number):
    """It names all tests of its number, and no test that there is not."""
    ours: set[str] = set()
    checks = "".join(
        path.read_text() for path in (ROOT / "tests" / "interop").glob("test_*.py")
    )
    for interop, name in _NAME.findall(rows()[number]):
        path, separator, test = name.partition("::")
        if interop:
            assert f'"{name}"' in checks
        elif separator:
            assert test in functions(ROOT / path)
        elif name.startswith("test_"):
            ours.add(name)
    assert ours == numbered().get(number, set())
    assert rows()[number].strip()
