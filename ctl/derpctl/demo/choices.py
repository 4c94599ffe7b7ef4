"""The choices of a demo's options; they cost nothing to import."""

from enum import StrEnum


class Tls(StrEnum):
    """How clients check the nodes' certificates."""

    PINNED = "pinned"
    """Self-signed, known by its hash."""
    CA = "ca"
    """Of an authority made for the occasion, for tools that know no pins."""


class Registry(StrEnum):
    """Where the nodes find each other."""

    FILE = "file"
    """A file that all of them watch."""
    ETCD = "etcd"
    """An etcd, where they record themselves."""
