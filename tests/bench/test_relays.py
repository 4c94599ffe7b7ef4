"""How relays are started and ended, told from stand-ins."""

import json
import os
import sys
import time

import pytest

from tests.bench import relays
from tests.bench.relays import Demo, RelayNotStarted


NODE = {"host": "localhost", "derp_port": 443, "stun_port": 3478}

HOLDS = "import json, os, sys, time; print({text}, flush=True); time.sleep(60)"


def stand_in(text):
    """A relay that prints a Python expression and holds."""
    return Demo([sys.executable, "-c", HOLDS.format(text=text)])


def alive(pid):
    """Tell whether a process exists."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_the_document_tells_where_the_node_is_and_the_node_is_ended():
    """One JSON line, of which the first node counts."""
    text = f"json.dumps({{'nodes': [{NODE!r} | {{'pid': os.getpid()}}]}})"
    with stand_in(text).up(cpu=min(os.sched_getaffinity(0))) as endpoint:
        assert (endpoint.host, endpoint.derp_port) == ("localhost", 443)
        assert endpoint.address == "127.0.0.1"
        assert alive(endpoint.pid)
        assert len(os.sched_getaffinity(endpoint.pid)) == 1
    assert not alive(endpoint.pid)


@pytest.mark.parametrize("text", ["'{}'", "'no JSON'", json.dumps('{"nodes": [{}]}')])
def test_a_document_without_a_node_is_an_error(text):
    """Whatever it lacks, nothing is measured."""
    relay = stand_in(text)
    with pytest.raises(RelayNotStarted, match="no usable node"), relay.up(cpu=0):
        pass


def test_a_relay_that_ends_is_an_error_with_its_last_words():
    """What it wrote on stderr says why."""
    relay = Demo([sys.executable, "-c", "import sys; sys.exit('no such key')"])
    with pytest.raises(RelayNotStarted, match="no such key"), relay.up(cpu=0):
        pass


def test_a_relay_that_says_nothing_is_given_up(monkeypatch):
    """And ended, though it would go on."""
    monkeypatch.setattr(relays, "START_LIMIT", 0.2)
    begun = time.monotonic()
    relay = Demo([sys.executable, "-c", "import time; time.sleep(60)"])
    with pytest.raises(RelayNotStarted), relay.up(cpu=0):
        pass
    assert time.monotonic() - begun < relays.STOP_LIMIT
