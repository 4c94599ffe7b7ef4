"""The records of a region in etcd, as values. No I/O, no clock.

Fields that this version does not know are kept, so that one which knows them finds
them again after we wrote. A record that cannot be read spoils no other.
"""

import json
from dataclasses import dataclass
from typing import Annotated, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    PrivateAttr,
    ValidationError,
    model_validator,
)

from derpmesh.membership.model import Drain, Latitude, Longitude, Member, Region, Rule
from derpnode.errors import NodeError


HOMING = "homing"
"""What the order to bring clients home is stored under."""

MAX_SIZE = 64 << 10
"""Bytes of a record that is still read."""


@dataclass(eq=False)
class BadRecord(NodeError):
    """What is stored under a key is no record."""

    key: str
    reason: str

    def __str__(self) -> str:
        return f"{self.key}: {self.reason}"


class Stored(BaseModel):
    """Something that is stored as JSON under a key."""

    model_config = ConfigDict(
        frozen=True, strict=True, extra="allow", use_attribute_docstrings=True
    )

    @classmethod
    def read(cls, key: bytes, value: bytes) -> Self:
        """Read a value.

        Raises:
            BadRecord: It is no such record; says where and why.
        """
        where = key.decode("utf-8", "replace")
        if len(value) > MAX_SIZE:
            raise BadRecord(where, f"{len(value)} bytes, limit is {MAX_SIZE}")
        try:
            found = cls.model_validate(json.loads(value))
            found.write()  # what is nested too deep can be read, and not be shown
        except ValidationError as exc:
            error = exc.errors(include_url=False)[0]
            place = ".".join(map(str, error["loc"])) or "the record"
            reason = f"{place} = {error['input']!r:.80}: {error['msg']}"
            raise BadRecord(where, reason) from exc
        except (ValueError, RecursionError) as exc:
            raise BadRecord(where, f"not JSON: {exc!s:.80}") from exc
        return found

    @property
    def owner(self) -> str:
        """The name that it must be stored under; empty for the region's."""
        return ""

    def write(self) -> bytes:
        """Give the value."""
        return json.dumps(self.plain(), separators=(",", ":")).encode()

    def plain(self) -> dict[str, object]:
        """Give what is stored, as JSON has it."""
        return self.model_dump(mode="json")


class RegionIntent(Stored):
    """What operators want of the region."""

    id: Annotated[int, Field(ge=1, le=65_535)]
    code: str
    name: str
    latitude: Latitude = 0.0
    longitude: Longitude = 0.0
    measure: bool = True
    """See `Region`, for these."""

    join: Literal["open", "listed"] = "open"
    """Whether a node that nobody has listed may record itself."""

    order: list[str] = []
    """Names in the order of the map; those that are not in it follow, sorted."""

    bring_home: bool = True
    """Whether clients are moved back to the node that their map prefers."""

    author: str = ""
    """Who wrote this."""

    def plain(self) -> dict[str, object]:
        """Give what is stored, as JSON has it; older versions know no more."""
        found = super().plain()
        for name in ("latitude", "longitude", "measure"):
            if found[name] == type(self).model_fields[name].default:
                del found[name]
        return found

    @property
    def region(self) -> Region:
        """The region as clients see it."""
        return Region(**{name: getattr(self, name) for name in Region.model_fields})


class NodeIntent(Stored):
    """What operators want of one node, who may have been the first to say so."""

    node: Member
    author: str = ""
    """Who wrote this: an operator, or the node."""

    removed: bool = False
    """Whether the node was taken out, so that it must not come back by itself."""

    drain: Drain | None = None
    """The wish that it sends its clients to the others."""

    server_key: str = ""
    """`nodekey:…` of the node that took the name itself; empty if an operator did."""

    _unknown: dict[str, object] = PrivateAttr(default_factory=dict)

    @model_validator(mode="wrap")
    @classmethod
    def _keep(cls, said: object, read: ModelWrapValidatorHandler[Self]) -> Self:
        """Keep what is said of the node and no `Member` has a field for."""
        found = read(said)
        node = said.get("node") if isinstance(said, dict) else None
        if isinstance(node, dict):
            known = Member.model_fields
            unknown = found._unknown  # noqa: SLF001 - our own
            unknown.update((n, node[n]) for n in node if n not in known)
        return found

    @property
    def owner(self) -> str:
        """See `Stored`."""
        return self.node.name

    def plain(self) -> dict[str, object]:
        """Give what is stored, as JSON has it."""
        extra = self.model_extra or {}
        node = {**self._unknown, **self.node.plain()}
        said: dict[str, object] = {
            "node": node,
            "author": self.author,
            "removed": self.removed,
        }
        if self.server_key:
            said["server_key"] = self.server_key
        if self.drain is not None:
            said["drain"] = self.drain.model_dump(exclude_defaults=True)
        return {**extra, **said}


class ClientIntent(Stored):
    """What operators want of one client."""

    key: str
    """`nodekey:…`."""

    rule: Rule
    author: str = ""
    """Who wrote this."""

    @property
    def owner(self) -> str:
        """See `Stored`."""
        return self.key


class LiveMember(Stored):
    """What a node says of itself, for as long as its lease lives."""

    name: str
    server_key: str
    """`nodekey:…`: whose name it is."""

    instance: str
    """Of the process: another one of the same node has another."""

    epoch: int
    """Goes up with each lease that the process had to take."""

    version: str
    state: str
    """`starting`, `serving`, `unready`, `draining` or `drained`."""

    pin: str | None = None
    admin: str | None = None
    """URL of its admin listener, if other machines can reach it."""

    mesh_keys: dict[str, str | None] | None = None
    """Fingerprints of its mesh keys: `current`, `next` and `previous`."""

    @property
    def owner(self) -> str:
        """See `Stored`."""
        return self.name


class Leader(Stored):
    """Which node leads the region, for as long as its lease lives."""

    name: str
    instance: str
    """Of its process."""


class HomingOrder(Stored):
    """Which nodes are to move how many clients home; written by the leader."""

    number: str
    """Unlike that of any other order: each is followed once."""

    leader: str
    moves: dict[str, dict[str, int]]
    """Counts by the node that the clients are on, then by the one they prefer."""

    @property
    def owner(self) -> str:
        """See `Stored`."""
        return HOMING


class LiveStatus(Stored):
    """How a node fares."""

    name: str
    count: int
    """Of reports so far: no two are alike, so that each is a change to watch."""

    clients: int
    """Connections of clients, not of other nodes."""

    links: dict[str, str]
    """State of its link to each other node."""

    strays: dict[str, int] = {}
    """Clients that may be moved to the node that they prefer, by its name."""

    @property
    def owner(self) -> str:
        """See `Stored`."""
        return self.name


class Edit(Stored):
    """One change of what the map is made of, kept to look back and to go back."""

    number: str
    """Unlike that of any other edit."""

    at: str
    """When, by the clock of whoever wrote it: RFC 3339, UTC."""

    author: str
    what: str
    """Name of the node, or `region`."""

    before: dict[str, object] | None = None
    """What was recorded; None: nothing, or a node that was taken out."""

    after: dict[str, object] | None = None
    """What is recorded from then on."""

    @property
    def owner(self) -> str:
        """See `Stored`."""
        return self.number
