"""The documents of `/v1`: derpctl reads these, so their shape is a contract."""

import json
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from derpnode.plane.contract import DropReason, Refusal
from derpnode.server.status import (
    inconsistencies,
    node_document,
    rfc3339,
    status_document,
)
from derpnode.wire.keys import node_key_text
from tests.node.server.adminnode import built, clients, node_config, running


def shape(value: object) -> object:
    """Reduce a document to its keys and types."""
    if isinstance(value, dict):
        return {key: shape(below) for key, below in value.items()}
    return type(value).__name__


def test_rfc3339():
    """UTC is `Z`, as Go writes it."""
    moment = datetime(2026, 11, 24, 6, 7, 53, 123456, tzinfo=UTC)
    assert rfc3339(moment) == "2026-11-24T06:07:53Z"


async def test_node_document(tmp_path):
    """Who a serving node is."""
    async with running(node_config(tmp_path)) as node:
        document = node_document(node)
        entry = node.map_entry()
        listeners = node.listeners()
    uptime = document.pop("uptime")
    certificate = document.pop("certificate")
    assert document == {
        "name": "900a",
        "region": {"id": 900, "code": "derpmesh", "name": "derpmesh"},
        "version": node.version,
        "server_key": node_key_text(node.server_key),
        "started_at": rfc3339(node.started_at),
        "state": "serving",
        "ready": True,
        "reasons": [],
        "notes": [],
        "map_entry": entry,
        "listeners": listeners,
        "admission": {"mode": "open", "sources": ["open"]},
        "plane": "python",
        "mesh_keys": None,
    }
    assert isinstance(uptime, float)
    assert certificate == {
        "mode": "self-signed",
        "not_after": rfc3339(node.certificates.current.not_after),
        "pin": entry["CertName"],
    }
    assert list(listeners) == ["derp", "http", "stun", "admin"]
    json.dumps(document)


async def test_no_pin_and_no_certificate(tmp_path):
    """A pin is named only where clients need it; without TLS there is no end date."""
    async with running(node_config(tmp_path)) as node:
        issued = replace(node.certificates.current, self_signed=False)
        node.certificates.current = issued
        assert node_document(node)["certificate"]["pin"] == ""
        node.certificates = None
        assert node_document(node)["certificate"]["not_after"] is None


async def test_status_document_shape(tmp_path):
    """Every key is there from the start, whatever has happened."""
    config = node_config(tmp_path, stun={"enabled": False})
    async with running(config) as node:
        document = status_document(node)
        assert document.pop("node").keys() == node_document(node).keys()
    reasons = [reason.value for reason in DropReason]
    refusals = [reason.value for reason in Refusal]
    assert shape(document) == {
        "clients": dict.fromkeys(
            (
                "connections",
                "keys",
                "home",
                "not_ideal",
                "duplicate_keys",
                "mesh",
                "watchers",
            ),
            "int",
        ),
        "traffic": {
            "packets_received": "int",
            "packets_sent": "int",
            "bytes_received": "int",
            "bytes_sent": "int",
            "forwarded_in": "int",
            "forwarded_out": "int",
            "dropped": dict.fromkeys(reasons, "int"),
        },
        "stun": dict.fromkeys(
            (
                "success",
                "not_stun",
                "read_error",
                "write_error",
                "ipv4",
                "ipv6",
                "no_local_addr",
                "silent",
            ),
            "int",
        ),
        "accepts": {"accepted": "int", "refused": dict.fromkeys(refusals, "int")},
    }


async def test_status_numbers(tmp_path):
    """Where each number comes from."""
    async with running(node_config(tmp_path)) as node:
        first, second, third = clients(3)
        first.home = third.mesh = True
        second.ideal = "900b"
        third.key = second.key
        for one in (first, second, third):
            node.relay.register(one)
        counters = node.plane.counters
        counters.packets_received_disco, counters.packets_received_other = 1, 2
        counters.dropped_packets[DropReason.QUEUE_HEAD, True] = 4
        counters.dropped_packets[DropReason.QUEUE_HEAD, False] = 8
        counters.refused[Refusal.RATE] = 16
        node.stun.counters.success = 32
        document = status_document(node)
        for one in (first, second, third):
            node.relay.unregister(one.connection)
    assert document["clients"] == {
        "connections": 3,
        "keys": 2,
        "home": 1,
        "not_ideal": 1,
        "duplicate_keys": 1,
        "mesh": 1,
        "watchers": 0,
    }
    assert document["traffic"]["packets_received"] == 3
    assert document["traffic"]["dropped"]["queue_head"] == 12
    assert document["accepts"]["refused"]["rate"] == 16
    assert document["stun"]["success"] == 32


@pytest.fixture
async def relay(tmp_path):
    """A relay with three connections of two keys."""
    async with built(node_config(tmp_path)) as node:
        first, second, third = clients(3)
        third.key = second.key
        for one in (first, second, third):
            node.relay.register(one)
        yield node.relay


async def test_duplicates_are_consistent(relay):
    """Unlike derper's, the check stays green with two connections of a key."""
    assert list(inconsistencies(relay)) == []


async def test_inconsistencies(relay):
    """What cannot be is said."""
    lost = relay.client(1)
    relay._keys[lost.key].connections.clear()
    assert list(inconsistencies(relay)) == [
        "1 connections are not among those of their key",
        "1 active connections for 2 keys",
    ]


async def test_more_connected_than_known(relay, monkeypatch):
    """Every key that is connected is a key that is known."""
    monkeypatch.setattr(type(relay), "known_keys", 1)
    assert list(inconsistencies(relay)) == ["1 keys known, 2 connected"]
