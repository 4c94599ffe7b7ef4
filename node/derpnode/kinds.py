"""Kinds of events: what a node tells of itself, and what operators look for."""

from enum import StrEnum


class Kind(StrEnum):
    """What happened. The words are those of `/v1/events`, and never change."""

    STARTED = "started"
    """The process runs; numbers of events began anew."""

    STOPPING = "stopping"
    """It was told to stop."""

    SERVING = "serving"
    """It takes clients."""

    UNREADY = "unready"
    """It does not take clients: it cannot reach itself."""

    DRAINING = "draining"
    """An operator sends its clients elsewhere."""

    DRAINED = "drained"
    """Its clients were sent elsewhere."""

    UNDRAINED = "undrained"
    """It takes clients again."""

    MEMBER_JOINED = "member_joined"
    """A node is in the region."""

    MEMBER_LOST = "member_lost"
    """It left the region, or was taken out."""

    MEMBER_CHANGED = "member_changed"
    """Its record is another one."""

    HELD = "held"
    """It vanished from the registry with others, and stays in force."""

    CONFIRMED = "confirmed"
    """An operator said that it was meant."""

    LINK_UP = "link_up"
    """A link carries packets."""

    LINK_LOST = "link_lost"
    """It broke, cannot be had, or is not wanted any more."""

    REGISTRY_LOST = "registry_lost"
    """The registry does not answer; what it said last stays in force."""

    REGISTRY_BACK = "registry_back"
    """It answers again."""

    RECORDED = "recorded"
    """The registry has the node's own record."""

    NOT_RECORDED = "not_recorded"
    """Or it is not known whether it has."""

    LEASE_LOST = "lease_lost"
    """The lease of that record has ended."""

    SNAPSHOT_USED = "snapshot_used"
    """The registry was long in coming; the region is as it was last known."""

    CLIENTS_CHANGED = "clients_changed"
    """The list of clients that are admitted is another one."""

    HOMING = "homing"
    """Clients are asked to make another node their home."""

    KEY_PHASE = "key_phase"
    """A change of the mesh key went on a step."""
