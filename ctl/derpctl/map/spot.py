"""Where values stand in their text, so that one can be changed and no other byte."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass


@dataclass(slots=True)
class Spot:
    """A value, its place in the text, and the places of what is in it.

    Places are offsets: of the first character, and after the last one.
    """

    value: object
    start: int
    """Of a list or object that is its opening bracket."""
    end: int
    key: tuple[int, int] | None = None
    """Place of the key, with its quotes; None for what is no member of an object."""
    members: Sequence[tuple[str, "Spot"]] = ()
    """Those of an object, in the order of the text; a key may be there twice."""
    items: Sequence["Spot"] = ()
    """Those of a list."""

    @property
    def inside(self) -> tuple[int, int]:
        """Place of what is between the brackets of a list or an object."""
        return self.start + 1, self.end - 1

    def named(self, name: str) -> "list[Spot]":
        """Find members by name, in any case: Go knows none."""
        wanted = name.lower()
        return [spot for key, spot in self.members if key.lower() == wanted]

    def only(self, name: str) -> "Spot | None":
        """Find the member of a name; None, too, if it is not clear which one it is."""
        found = self.named(name)
        return found[0] if len(found) == 1 else None

    def at(self, *path: str | int) -> "Spot":
        """Go down by names, exactly as they are written, and by numbers of items.

        Of two members of one name it is the last, as in the value.

        Raises:
            KeyError: There is nothing.
        """
        spot = self
        for step in path:
            found = list(_step(spot, step))
            if not found:
                raise KeyError(step)
            spot = found[-1]
        return spot


def _step(spot: Spot, step: str | int) -> Iterator[Spot]:
    if isinstance(step, int):
        yield from spot.items[step : step + 1]
    else:
        yield from (part for name, part in spot.members if name == step)
