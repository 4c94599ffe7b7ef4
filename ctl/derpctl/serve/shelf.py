"""The last map that was good: what is served while there is any doubt of the next."""

from dataclasses import dataclass

from derpctl.map.canonical import canonical_json, revision
from derpctl.map.model import DerpMap
from derpnode.document import Document


@dataclass
class Shelf:
    """Holds one map, for as long as no better one is known. No I/O, no clock."""

    derp_map: DerpMap | None = None
    """None: none was ever good."""

    document: Document | None = None
    """That map as it is served."""

    _is_first_hand: bool = False  # it was the last word when it was put

    def remember(self, derp_map: DerpMap) -> None:
        """Put a map that was served before; whatever is found out replaces it."""
        self._put(derp_map)

    def offer(self, derp_map: DerpMap, *, is_stale: bool) -> bool:
        """Put a map that was found out; tell whether it is another one than before.

        Args:
            derp_map: A map without errors.
            is_stale: It may not be the last word. It does not replace one that was.
        """
        if is_stale and self._is_first_hand:
            return False
        self._is_first_hand = not is_stale
        return self._put(derp_map)

    @property
    def revision(self) -> str:
        """What the map is called; empty if there is none."""
        return revision(self.derp_map) if self.derp_map is not None else ""

    def _put(self, derp_map: DerpMap) -> bool:
        document = Document.of(canonical_json(derp_map).encode())
        is_other = document != self.document
        self.derp_map, self.document = derp_map, document
        return is_other
