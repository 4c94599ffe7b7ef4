"""Structured logs over the standard library: text on a terminal, JSON otherwise."""

import logging
import math
import sys
from typing import Final, Literal

import structlog
from structlog.typing import Processor


_REMIND: Final = 10.0  # seconds until the same is said again
_NO_ACCEPT: Final = "socket.accept() out of system resource"


def set_up(
    level: str,
    form: Literal["auto", "text", "json"],
    *,
    node: str,
) -> None:
    """Send every log record to standard error, in one form.

    Args:
        level: Least severe level that is written.
        form: `auto` writes text to a terminal and JSON elsewhere.
        node: Name of this node, a field of every JSON line.
    """
    text = form == "text" or (form == "auto" and sys.stderr.isatty())
    shared: list[Processor] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    last: list[Processor]
    if text:
        last = [
            structlog.dev.ConsoleRenderer(
                colors=sys.stderr.isatty(),
                # The default shows local variables, and with them keys.
                exception_formatter=structlog.dev.plain_traceback,
            )
        ]
    else:
        last = [
            structlog.processors.format_exc_info,
            structlog.processors.EventRenamer("message"),
            structlog.processors.JSONRenderer(),
        ]
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=shared,
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            _add("node", node),
            *last,
        ],
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter)
    handler.addFilter(_OutOfDescriptors())
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level.upper())


class _OutOfDescriptors(logging.Filter):
    """Says now and then, in our words, that the admin listener cannot accept.

    When descriptors run out asyncio says so, with a traceback, for each connection
    that might be waiting: 128 times a second and listener.
    Source: asyncio/selector_events.py, _accept_connection.
    """

    def __init__(self) -> None:
        super().__init__()
        self._said = -math.inf

    def filter(self, record: logging.LogRecord) -> bool:
        """Let everything else through as it is."""
        if record.name != "asyncio" or not str(record.msg).startswith(_NO_ACCEPT):
            return True
        if 0 <= record.created - self._said < _REMIND:
            return False
        self._said = record.created
        record.levelno, record.levelname = logging.WARNING, "WARNING"
        record.msg = "admin: cannot accept: no descriptors; trying again in 1 s"
        record.exc_info = None
        return True


def _add(name: str, value: str) -> Processor:
    def add(
        _logger: structlog.typing.WrappedLogger,
        _method: str,
        event: structlog.typing.EventDict,
    ) -> structlog.typing.EventDict:
        return {**event, name: value}

    return add
