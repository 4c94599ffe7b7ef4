"""The last membership on disk, so that a node meshes when its registry is away.

Three files are kept, each whole and with a checksum: one that was cut short, or that
bits fell out of, is skipped.
"""

import hashlib
import json
import logging
import os
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from derpmesh.membership.model import Drain, Member, Membership, Region, Rule
from derpnode.wire.errors import BadKeyText
from derpnode.wire.keys import node_key_text, parse_node_key


logger = logging.getLogger(__name__)

KEPT = 3
"""Snapshots on disk; the newest is number 0."""

_MAX_SIZE = 16 << 20  # bytes that are still read

_RULE: TypeAdapter[Rule] = TypeAdapter(Rule)
_BROKEN = (
    OSError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    RecursionError,
    BadKeyText,
)


class Snapshots:
    """Keeps memberships of one region in a folder.

    Args:
        folder: The state directory of the node.
        region_id: Of the region; what was kept of another one is not given.
    """

    def __init__(self, folder: Path, region_id: int) -> None:
        self._region_id = region_id
        self._paths = [folder / f"membership.{number}.json" for number in range(KEPT)]

    def save(self, membership: Membership) -> None:
        """Keep a membership, and the ones before it. Never raises.

        A node whose disk is full goes on; it would boot from an older one.
        """
        body = _body(membership)
        text = f"{hashlib.sha256(body).hexdigest()}\n".encode() + body
        newest = self._paths[0]
        fresh = newest.with_suffix(".new")
        try:
            descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            for older, old in zip(self._paths[:0:-1], self._paths[-2::-1], strict=True):
                if old.exists():
                    old.replace(older)
            fresh.replace(newest)
        except OSError as exc:
            logger.warning("snapshot: %s: %s", newest, exc.strerror)

    def load(self) -> Membership | None:
        """Give the newest that is whole; None if there is none."""
        for path in self._paths:
            try:
                found = _read(path)
            except FileNotFoundError:
                continue
            except _BROKEN as exc:
                logger.warning("snapshot: %s cannot be used: %s", path, _short(exc))
                continue
            if found.region.id == self._region_id:
                return found
        return None


def _body(membership: Membership) -> bytes:
    document = {
        "revision": membership.revision,
        "generation": membership.generation,
        "region": membership.region.plain(),
        "members": [member.plain() for member in membership.members.values()],
        "struck": sorted(membership.struck),
        "drains": {
            name: wish.model_dump(exclude_defaults=True)
            for name, wish in membership.drains.items()
        },
        "clients": {
            node_key_text(client): rule for client, rule in membership.clients.items()
        },
    }
    return json.dumps(document, separators=(",", ":")).encode()


def _read(path: Path) -> Membership:
    """Read a snapshot.

    Raises:
        OSError: It cannot be read.
        ValueError: It is not whole, or none; the others of `_BROKEN` say the same.
    """
    with path.open("rb") as file:
        text = file.read(_MAX_SIZE)
    checksum, _, body = text.partition(b"\n")
    if hashlib.sha256(body).hexdigest().encode() != checksum:
        message = "its checksum is another"
        raise ValueError(message)
    document = json.loads(body)
    members = [Member.model_validate(fields) for fields in document["members"]]
    return Membership(
        int(document["revision"]),
        Region.model_validate(document["region"]),
        {member.name: member for member in members},
        struck=frozenset(document["struck"]),
        generation=int(document["generation"]),
        drains={
            str(name): Drain.model_validate(wish)
            for name, wish in document.get("drains", {}).items()
        },
        clients={
            parse_node_key(text): _RULE.validate_python(rule)
            for text, rule in document.get("clients", {}).items()
        },
    )


def _short(exc: Exception) -> str:
    if isinstance(exc, ValidationError):
        return f"{exc.error_count()} fields are wrong"
    return str(exc)
