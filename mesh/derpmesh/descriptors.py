"""How many files this process may have open: each client is one."""

import logging
import resource


logger = logging.getLogger(__name__)

FEW = 16_384
"""A limit below this is worth a word: most machines have memory for more clients."""

ADVISED = 65_536
"""What to raise it to; `derpctl tune --check` asks for the same."""

RESERVED = 128
"""Descriptors that are no clients': listeners, links, etcd, files."""


def raise_limit() -> None:
    """Allow as many as we may, and say so where that is few."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        if soft != hard:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
            soft = hard
    except (OSError, ValueError) as exc:
        logger.warning("file descriptors: the limit of %d stays: %s", soft, exc)
    if 0 <= soft < FEW:
        logger.warning(
            "file descriptors: at most %d, so at most %d clients; raise the limit to %d"
            " (LimitNOFILE= of a unit, --ulimit nofile= or ulimits of a container)",
            soft,
            max(soft - RESERVED, 0),
            ADVISED,
        )
