"""The last good map on disk, so that a restart while nobody answers loses nothing."""

import os
from dataclasses import dataclass
from pathlib import Path

from derpctl.errors import CtlError
from derpctl.exits import Exit
from derpctl.map.canonical import canonical_json
from derpctl.map.errors import BadMap
from derpctl.map.model import DerpMap
from derpctl.map.read import parse_derp_map
from derpctl.serve.usable import check_usable


_LARGEST = 1 << 20  # bytes; clients read no more
_MODE = 0o644  # it is what everybody is served


@dataclass(frozen=True, slots=True)
class Cache:
    """A file with one map, of one region."""

    path: Path
    region: int

    def read(self) -> DerpMap | None:
        """Give the map; None where there is no file.

        Raises:
            CtlError: It cannot be read, or is no map that may be served.
        """
        try:
            with self.path.open("rb") as file:
                data = file.read(_LARGEST + 1)
        except FileNotFoundError:
            if not self.path.parent.is_dir():
                reason = f"there is no directory {self.path.parent}"
                hint = "make it, or give another --cache; nothing is kept"
                raise CtlError(str(self.path), reason, hint, Exit.CONFIG) from None
            return None
        except OSError as exc:
            reason = (exc.strerror or "unreadable").lower()
            raise self._unusable(reason, Exit.CONFIG) from exc
        if len(data) > _LARGEST:
            reason = f"more than {_LARGEST} bytes"
            raise self._unusable(reason)
        try:
            derp_map = parse_derp_map(data.decode())
            check_usable(derp_map)
        except (UnicodeDecodeError, RecursionError, BadMap, CtlError) as exc:
            reason = str(exc)
            raise self._unusable(reason) from exc
        if list(derp_map.regions) != [self.region]:
            reason = f"it is not of region {self.region}"
            raise self._unusable(reason)
        return derp_map

    def _unusable(self, reason: str, ends: Exit = Exit.INVALID) -> CtlError:
        hint = "it is written anew with the next map"
        return CtlError(str(self.path), reason, hint, ends)

    def write(self, derp_map: DerpMap) -> None:
        """Replace the file at once and whole: who reads it has one map or the other.

        Raises:
            CtlError: It cannot be written; the former one is still there.
        """
        fresh = self.path.with_name(f".{self.path.name}.new")
        try:
            descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, _MODE)
            with os.fdopen(descriptor, "wb") as file:
                file.write(canonical_json(derp_map).encode())
                file.flush()
                os.fsync(file.fileno())
            fresh.replace(self.path)
        except OSError as exc:
            reason = f"cannot be written: {(exc.strerror or 'no reason given').lower()}"
            hint = "the map is served all the same, but not after a restart"
            raise CtlError(str(self.path), reason, hint, Exit.CONFIG) from exc
