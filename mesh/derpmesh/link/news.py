"""What becomes of links, as events: each outage once, with how it began."""

from derpnode.kinds import Kind
from derpnode.server.journal import Journal


class LinkNews:
    """Tells of links by their peer.

    A peer that is away is dialled for as long as it is; what fails from attempt to
    attempt is in the log, and must not push everything else out of the journal.

    Args:
        journal: Where to.
    """

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._down: set[str] = set()  # of which it was told that they are down

    def up(self, peer: str) -> None:
        """Note that a link carries packets."""
        self._down.discard(peer)
        self._journal.add(Kind.LINK_UP, peer, "it carries packets")

    def lost(self, peer: str, reason: str, lasted: float) -> None:
        """Note that a link that was up is not any more.

        Args:
            peer: Its peer.
            reason: Why.
            lasted: Seconds that it was up.
        """
        self._down.add(peer)
        seconds = round(lasted, 3)
        self._journal.add(Kind.LINK_LOST, peer, reason, was_up=True, lasted=seconds)

    def failed(self, peer: str, reason: str) -> None:
        """Note that a link cannot be had; once, until it is up or unwanted."""
        if peer not in self._down:
            self._down.add(peer)
            text = f"cannot be had: {reason}"
            self._journal.add(Kind.LINK_LOST, peer, text, was_up=False)

    def closed(self, peer: str, *, was_up: bool) -> None:
        """Note that a link is not wanted any more."""
        self._down.discard(peer)
        if was_up:
            text = "it is not wanted any more"
            self._journal.add(Kind.LINK_LOST, peer, text, was_up=True)
