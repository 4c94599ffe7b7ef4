"""Registries of every kind, and what their operators do to them.

`REGISTRIES` names one fake operator for each backend; whatever holds of the port is
tested once, over all of them, in `test_registry.py`.
"""

import asyncio
import itertools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol

import yaml

from derpmesh.membership.errors import RegistryUnavailable
from derpmesh.membership.file import FileRegistry
from derpmesh.membership.memory import MemoryRegistry
from derpmesh.membership.model import Member, Region
from derpmesh.membership.ports import Registry
from tests.mesh.membership.scene import REGION, A, membership


LOOK = 0.002
"""Seconds between two looks at a file, in place of the usual half."""


async def look(_delay: float) -> None:
    """Sleep for less than one is told to."""
    await asyncio.sleep(LOOK)


class Operator(Protocol):
    """Keeps one registry, that holds `A` at first."""

    registry: Registry

    async def put(self, *members: Member, region: Region = REGION) -> None:
        """Record these members and no others, in this order."""

    async def fail(self) -> None:
        """Make the registry impossible to read."""

    async def heal(self) -> None:
        """Make it readable again; it holds what was put last."""


class MemoryOperator:
    """Keeps a registry in memory."""

    def __init__(self, _folder: Path) -> None:
        self._revisions = itertools.count(1)
        self.registry = MemoryRegistry(membership(next(self._revisions), A))

    async def put(self, *members: Member, region: Region = REGION) -> None:
        revision = next(self._revisions)
        await self.registry.put(membership(revision, *members, region=region))

    async def fail(self) -> None:
        await self.registry.fail(RegistryUnavailable("memory", "switched off"))

    async def heal(self) -> None:
        await self.registry.fail(None)


class FileOperator:
    """Keeps a registry in a file, and replaces that by renaming another one over it."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "region.yaml"
        self._away = folder / "away.yaml"
        self._failed = False
        self.write(region_text(REGION, A))
        self.registry = FileRegistry(self.path, sleep=look)

    def write(self, text: str) -> None:
        """Replace the file as careful editors do."""
        fresh = self.path.with_suffix(".new")
        fresh.write_text(text)
        fresh.replace(self._away if self._failed else self.path)

    async def put(self, *members: Member, region: Region = REGION) -> None:
        self.write(region_text(region, *members))

    async def fail(self) -> None:
        self.path.replace(self._away)
        self._failed = True

    async def heal(self) -> None:
        self._failed = False
        self._away.replace(self.path)


REGISTRIES: Mapping[str, Callable[[Path], Operator]] = {
    "memory": MemoryOperator,
    "file": FileOperator,
}


def region_text(region: Region, *members: Member) -> str:
    """Write a region file."""
    nodes = [_entry(found) for found in members]
    return yaml.safe_dump(
        {"region": region.model_dump(), "nodes": nodes}, sort_keys=False
    )


def _entry(found: Member) -> dict[str, object]:
    said = [name for name in Member.model_fields if name in found.model_fields_set]
    fields = {name: getattr(found, name) for name in said}
    return {
        name: value if isinstance(value, bool | int) else str(value)
        for name, value in fields.items()
    }
