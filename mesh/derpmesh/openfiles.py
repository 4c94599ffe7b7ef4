"""How many descriptors this process may have: each client is one."""

import logging
import resource

from derpnode.errors import ConfigError


logger = logging.getLogger(__name__)

LEAST = 64
"""With fewer a node cannot be sure to listen, to prove itself and to answer."""

FEW = 4_096
"""Below that an operator is told: it is rarely meant."""

_REMEDY = "raise it (docker run --ulimit nofile=, LimitNOFILE=, ulimit -Hn)"


def raise_limit() -> int:
    """Allow as many descriptors as we may have; return how many.

    Raises:
        ConfigError: They are too few to run a node.
    """
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < LEAST:
        reason = f"the limit of open files; a node needs {LEAST} to serve anybody"
        raise ConfigError("nofile", hard, reason, _REMEDY)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def tell(limit: int) -> None:
    """Warn where the limit is lower than operators expect.

    Args:
        limit: As `raise_limit` found it.
    """
    if limit < FEW:
        logger.warning(
            "open files are limited to %d, and each client is one; %s", limit, _REMEDY
        )
