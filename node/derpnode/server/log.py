"""Structured logs over the standard library: text on a terminal, JSON otherwise."""

import logging
import sys
from typing import Literal

import structlog
from structlog.typing import Processor


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
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level.upper())


def _add(name: str, value: str) -> Processor:
    def add(
        _logger: structlog.typing.WrappedLogger,
        _method: str,
        event: structlog.typing.EventDict,
    ) -> structlog.typing.EventDict:
        return {**event, name: value}

    return add
