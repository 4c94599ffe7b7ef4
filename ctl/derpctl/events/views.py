"""What a node says of what happened to it: `/v1/events`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC

from pydantic import AwareDatetime, BaseModel, ConfigDict


class _View(BaseModel):
    """Newer nodes say more, older ones less."""

    model_config = ConfigDict(
        extra="ignore", frozen=True, use_attribute_docstrings=True
    )


class EventView(_View):
    """One event."""

    number: int
    time: AwareDatetime
    kind: str
    """One of those of `derpnode.kinds`, or one that a newer node knows."""

    subject: str = ""
    text: str = ""
    fields: Mapping[str, str | int | float | bool] = {}

    @property
    def moment(self) -> str:
        """When it was: RFC 3339, in UTC, to the millisecond."""
        moment = self.time.astimezone(UTC).isoformat(timespec="milliseconds")
        return moment.replace("+00:00", "Z")


class EventsView(_View):
    """The events of a node after a number."""

    instance: str
    """Another one when the node is another process, and its numbers began anew."""

    last: int
    """Number of its newest event."""

    missed: int = 0
    """Events that came after the number that was asked for, and are forgotten."""

    items: Sequence[EventView] = ()


@dataclass(frozen=True, slots=True)
class Told:
    """An event, and who says so."""

    node: str
    instance: str
    event: EventView
