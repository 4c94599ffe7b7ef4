"""What a source of admission says of a key, and what a source is."""

import abc
import asyncio
import enum
from dataclasses import dataclass

from derpnode.wire.keys import NodeKey


class Outcome(enum.Enum):
    """The three answers; the values are metric labels."""

    ALLOW = "allow"
    """The key may relay."""

    DENY = "deny"
    """The source knows that it may not."""

    UNKNOWN = "unknown"
    """The source could not say: it is down, slow, or makes no sense."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """An answer, why, and from whom."""

    outcome: Outcome
    source: str
    """Name of the source, or of the rule, that decided."""
    reason: str
    """For the log; holds no secret and no unescaped text of others."""

    @property
    def allowed(self) -> bool:
        """Whether the client may relay. Not knowing is not enough."""
        return self.outcome is Outcome.ALLOW


class Source(abc.ABC):
    """A place that knows which keys may relay.

    Args:
        name: For logs and metrics.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.reload = asyncio.Event()
        """Set it to have files read at once: SIGHUP."""

    def look(self, key: NodeKey) -> Verdict | None:
        """Say what is known without asking anybody; None if that takes `ask`."""
        return None

    @abc.abstractmethod
    async def ask(self, key: NodeKey, ip: str) -> Verdict:
        """Find out, in whatever time it takes. Failures are UNKNOWN.

        Args:
            key: The client's.
            ip: The client's address; empty if it has none.
        """

    async def watch(self) -> None:  # noqa: B027 - most have nothing to follow
        """Follow changes until cancelled. Returns at once if there are none."""

    async def close(self) -> None:  # noqa: B027 - most have nothing to free
        """Free connections. It can be asked again all the same."""

    def allow(self, reason: str) -> Verdict:
        """Say yes."""
        return Verdict(Outcome.ALLOW, self.name, reason)

    def deny(self, reason: str) -> Verdict:
        """Say no."""
        return Verdict(Outcome.DENY, self.name, reason)

    def unknown(self, reason: str) -> Verdict:
        """Say that there is no saying."""
        return Verdict(Outcome.UNKNOWN, self.name, reason)
