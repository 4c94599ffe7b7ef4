"""How events are written: a line each, as soon as they are told."""

from collections.abc import Iterable

from derpctl.documents import document, one_line
from derpctl.events.views import Told
from derpctl.map.lint import printable
from derpnode.kinds import Kind


_MOMENT = len("2026-11-24T12:00:00.000Z")
_KIND = max(map(len, Kind))


def json_line(told: Told) -> str:
    """Write an event for programs."""
    event = told.event
    seen = event.model_dump(mode="json") | {"time": event.moment}
    return one_line(
        document("Event", node=told.node, instance=told.instance, event=seen)
    )


class Columns:
    """Writes events as a table that grows.

    Args:
        nodes: Names of nodes, which are subjects as well.
    """

    def __init__(self, nodes: Iterable[str]) -> None:
        name = max(len("SUBJECT"), *map(len, nodes))
        self._widths = (_MOMENT, name, _KIND, name)

    @property
    def head(self) -> str:
        """What stands above."""
        return self._line("TIME", "NODE", "KIND", "SUBJECT", "TEXT")

    def line(self, told: Told) -> str:
        """Write an event for people."""
        event = told.event
        cells = (event.moment, told.node, event.kind, event.subject, event.text)
        return self._line(*(printable(cell) or "-" for cell in cells))

    def _line(self, *cells: str) -> str:
        widths = (*self._widths, 0)
        padded = (f"{cell:<{width}}" for cell, width in zip(cells, widths, strict=True))
        return "  ".join(padded)
