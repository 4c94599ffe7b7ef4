"""What can go wrong in a node, sorted by whose fault it is.

NodeError
├── ProtocolError   the peer's fault; ends one connection, see `wire.errors`
└── ConfigError     the operator's fault; the node does not start

Whatever is not a `NodeError` is a bug of ours and must be heard.
"""

from dataclasses import dataclass


# Errors are dataclasses so that handlers read fields, never messages.
# eq=False keeps identity and hashing; frozen would break __traceback__.


class NodeError(Exception):
    """Something a node expects to happen, and knows how to answer."""


class ProtocolError(NodeError):
    """The peer broke the protocol. Close its connection; nobody else suffers."""


@dataclass(eq=False)
class ConfigError(NodeError):
    """A setting cannot be used. Says which, why, and what to do about it."""

    setting: str
    """Dotted path, as in the configuration file: ``node.stun_port``."""
    value: object
    """What was found there. Never a secret: it is printed."""
    reason: str
    """Why it cannot be used."""
    hint: str
    """What to write instead."""

    def __str__(self) -> str:
        return f"{self.setting} = {self.value!r}: {self.reason}; {self.hint}"


@dataclass(eq=False)
class LastServingNode(NodeError):
    """A node that no other can stand in for is not drained."""

    node: str

    def __str__(self) -> str:
        return (
            f"{self.node} is the last serving node of its region; start another one, "
            "or force it"
        )
