"""The place in the DERP map of a node that is only configured yet."""

from collections.abc import Mapping

from derpmesh.config import DaemonConfig
from derpmesh.membership.model import Member


def map_entry(tree: Mapping[str, object]) -> dict[str, object] | None:
    """Describe the node as a `DERPNode`; None if it cannot be known yet.

    Of a pinned node only the certificate tells, which may not be made yet.

    Args:
        tree: A configuration that `derpd` accepts.
    """
    config = DaemonConfig.model_validate(tree)
    node = config.node
    if "host" not in node.model_fields_set or config.tls_mode == "self-signed":
        return None
    stun = config.stun
    member = Member(
        name=node.name,
        host=node.host,
        ipv4=node.ipv4,
        ipv6=node.ipv6,
        derp_port=config.derp.public_port or config.derp.listen[0].port or 443,
        stun_port=(stun.public_port or stun.listen[0].port or 3478)
        if stun.enabled
        else -1,
        stun_only=not config.derp.enabled,
    )
    return member.map_entry(config.region.id)
