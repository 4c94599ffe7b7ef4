"""What the leader of a region tells its nodes to do, through etcd."""

import logging
from collections.abc import Mapping

from derpmesh.etcd.errors import EtcdError
from derpmesh.membership.etcd import EtcdRegistry
from derpmesh.membership.keys import Keys
from derpmesh.membership.leader import Leadership
from derpmesh.membership.records import HOMING, HomingOrder


logger = logging.getLogger(__name__)


class Command:
    """One node's way to give orders, if it leads, and to get them.

    Args:
        name: Of the node.
        keys: Of the region.
        registry: Follows what is in etcd.
        leadership: Says whether this node leads.
    """

    def __init__(
        self, name: str, keys: Keys, registry: EtcdRegistry, leadership: Leadership
    ) -> None:
        self._name = name
        self._key = keys.of("orders", HOMING)
        self._registry = registry
        self._leadership = leadership
        self._followed: str | None = None  # None: the registry was not read yet

    @property
    def leader(self) -> str:
        """Name of the leader, as far as this node knows."""
        return self._leadership.leader

    def next_order(self) -> HomingOrder | None:
        """Give an order that is new; one that was there at the start is an old one."""
        if not self._registry.has_read:
            return None
        order = self._registry.order
        number = order.number if order is not None else ""
        if self._followed is None:
            self._followed = number
        if number == self._followed:
            return None
        self._followed = number
        return order

    async def leads(self) -> bool:
        """See whether this node is to lead. On any doubt it is not."""
        try:
            return await self._leadership.look() and self._registry.brings_home
        except EtcdError as exc:
            logger.debug("etcd: who leads is not known: %s", exc)
            return False

    def strays(self) -> Mapping[str, Mapping[str, int]]:
        """Give the clients that may be moved, by node, then by the one they prefer."""
        statuses = self._registry.statuses
        return {name: status.strays for name, status in statuses.items()}

    async def give(self, number: str, moves: dict[str, dict[str, int]]) -> None:
        """Order moves, if this node still leads."""
        order = HomingOrder(number=number, leader=self._name, moves=moves)
        try:
            if not await self._leadership.put(self._key, order):
                logger.info("homing: another node leads by now; nothing is ordered")
        except EtcdError as exc:
            logger.debug("etcd: order not written: %s", exc)
