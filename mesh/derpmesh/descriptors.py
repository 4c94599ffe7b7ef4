"""How many files this process may have open: each client is one."""

import logging
import resource

from derpnode.errors import ConfigError


logger = logging.getLogger(__name__)

FEW = 16_384
"""A limit below this is worth a word: most machines have memory for more clients."""

ADVISED = 65_536
"""What to raise it to; `derpctl tune --check` asks for the same."""

RESERVED = 128
"""Descriptors that are no clients': listeners, links, etcd, files."""

_REMEDY = (
    f"raise the limit to {ADVISED}"
    " (LimitNOFILE= of a unit, --ulimit nofile= or ulimits of a container)"
)


def raise_limit() -> None:
    """Allow as many as we may, and say so where that is few.

    Raises:
        ConfigError: They are too few for one client. With still fewer a node could
            not even be sure to listen.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        if soft != hard:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
            soft = hard
    except (OSError, ValueError) as exc:
        logger.warning("file descriptors: the limit of %d stays: %s", soft, exc)
    if 0 <= soft <= RESERVED:
        raise ConfigError("nofile", soft, "file descriptors for no client", _REMEDY)
    if 0 <= soft < FEW:
        logger.warning(
            "file descriptors: at most %d, so at most %d clients; %s",
            soft,
            soft - RESERVED,
            _REMEDY,
        )
