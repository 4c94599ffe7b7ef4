"""What is known of a cluster, so that an older answer is known for one. No I/O."""

from dataclasses import dataclass, replace
from typing import Literal

from derpmesh.etcd.answers import Header
from derpmesh.etcd.errors import StaleAnswer


@dataclass(frozen=True)
class Seen:
    """The newest of all answers; 0 before the first.

    An answer is held against what was known *when its request left*: answers to
    requests that run side by side may come in any order.
    """

    cluster_id: int = 0
    raft_term: int = 0
    revision: int = 0

    def check_cluster(self, endpoint: str, header: Header) -> None:
        """Judge an answer that need not be the newest: of a watch, or a keepalive.

        Raises:
            StaleAnswer: It comes from another cluster.
        """
        if self.cluster_id not in (0, header.cluster_id):
            raise StaleAnswer(
                endpoint, "cluster_id", self.cluster_id, header.cluster_id
            )

    def check(self, endpoint: str, header: Header) -> None:
        """Judge an answer that all members agreed on.

        Raises:
            StaleAnswer: It is older than what was known.
        """
        self.check_cluster(endpoint, header)
        known: tuple[tuple[Literal["raft_term", "revision"], int, int], ...] = (
            ("raft_term", self.raft_term, header.raft_term),
            ("revision", self.revision, header.revision),
        )
        for what, before, found in known:
            if found < before:
                raise StaleAnswer(endpoint, what, before, found)

    def after(self, header: Header) -> "Seen":
        """Add an answer that all members agreed on."""
        return Seen(
            header.cluster_id,
            max(self.raft_term, header.raft_term),
            max(self.revision, header.revision),
        )

    def after_revision(self, header: Header) -> "Seen":
        """Add a message of a watch: what it tells has happened, its term may not."""
        revision = max(self.revision, header.revision)
        return replace(self, cluster_id=header.cluster_id, revision=revision)
