"""What the log looks like, and what never gets into it."""

import errno
import json
import logging

import pytest

from derpnode.server.log import set_up


logger = logging.getLogger("derpnode.test")


@pytest.fixture(autouse=True)
def restored():
    """Give the root logger back as it was."""
    root = logging.getLogger()
    before = root.handlers, root.level
    yield
    root.handlers, level = before
    root.setLevel(level)


def fail(secret: str) -> None:
    """Raise with a secret among the local variables."""
    reversed_secret = secret[::-1]
    message = f"{len(reversed_secret)} bytes"
    raise ValueError(message)


def test_json(capsys):
    """One object a line, with the node's name."""
    set_up("info", "json", node="900a")
    logger.info("a %s\nb", "line")
    (line,) = capsys.readouterr().err.splitlines()
    record = json.loads(line)
    assert record.pop("timestamp").endswith("Z")
    assert record == {
        "message": "a line\nb",
        "level": "info",
        "logger": "derpnode.test",
        "node": "900a",
    }


def test_text(capsys):
    """A line for people."""
    set_up("info", "text", node="900a")
    logger.warning("look at %s", "this")
    line = capsys.readouterr().err
    assert "look at this" in line
    assert "warning" in line
    assert not line.startswith("{")


@pytest.mark.parametrize(("terminal", "is_json"), [(True, False), (False, True)])
def test_auto(capsys, monkeypatch, terminal, is_json):
    """Text on a terminal, JSON otherwise."""
    monkeypatch.setattr("sys.stderr.isatty", lambda: terminal)
    set_up("info", "auto", node="900a")
    logger.info("hello")
    assert capsys.readouterr().err.startswith("{") == is_json


def test_levels(capsys):
    """Below the level, nothing is written."""
    set_up("warning", "json", node="900a")
    logger.info("quiet")
    logger.warning("loud")
    assert "quiet" not in capsys.readouterr().err


@pytest.mark.parametrize("form", ["text", "json"])
def test_tracebacks_without_variables(capsys, form):
    """Regression: on a terminal they showed local variables, and with them keys."""
    set_up("info", form, node="900a")
    try:
        fail("".join(["5ec2", "e7"]) * 3)
    except ValueError:
        logger.exception("it broke")
    said = capsys.readouterr().err
    assert "ValueError: 18 bytes" in said
    assert "5ec2e7" not in said
    assert "7e2ce5" not in said


def test_no_descriptors_is_said_once(capsys):
    """Regression: asyncio says it, with a traceback, for each connection it expected.

    A node of 256 descriptors wrote 700 lines a second while monitoring knocked.
    """
    set_up("info", "json", node="900a")
    asyncio_logger = logging.getLogger("asyncio")
    for _ in range(128):
        asyncio_logger.error(
            "socket.accept() out of system resource\nsocket: <fd=12>",
            exc_info=OSError(errno.EMFILE, "Too many open files"),
        )
    asyncio_logger.error("something else")
    records = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [(record["level"], record["message"]) for record in records] == [
        ("warning", "admin: cannot accept: no descriptors; trying again in 1 s"),
        ("error", "something else"),
    ]


def test_no_descriptors_is_said_again_later(capsys):
    """It goes on being so, and somebody may only look now."""
    set_up("info", "json", node="900a")
    for moment in (100.0, 109.0, 110.0):
        record = logging.makeLogRecord(
            {"msg": "socket.accept() out of system resource", "created": moment}
        )
        record.name, record.levelno = "asyncio", logging.ERROR
        logging.getLogger().handle(record)
    assert len(capsys.readouterr().err.splitlines()) == 2
