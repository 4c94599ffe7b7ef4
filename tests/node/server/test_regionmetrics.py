"""Metrics of links and membership."""

from derpnode.server.region import Alone
from tests.node.server.adminnode import built, node_config, rows, scrape


class Region(Alone):
    """Three nodes, one of them gone, as the registry in force has it."""

    def links(self):
        """See the port."""
        base = {"keys": 3, "round_trip": 0.002, "forwarded_packets": 7}
        down = {"keys": 0, "round_trip": None, "forwarded_packets": 0}
        return [
            {"peer": "900b", "state": "up", **base},
            {"peer": "900c", "state": "waiting", **down},
        ]

    def membership(self):
        """See the port."""
        members = [{"name": name} for name in ("900a", "900b", "900c")]
        return {
            "source": "etcd",
            "members": members,
            "held": ["900c"],
            "age": 12.5,
            "watch_lag": 0.25,
            "relists": {"start": 1, "silent": 2},
        }

    def strays(self):
        """See the port."""
        return {"900b": 4}

    def notes(self):
        """See the port."""
        return ["held: 900c"]


async def test_region(tmp_path):
    """Each link by its peer, and where membership is from."""
    async with built(node_config(tmp_path)) as node:
        node.region = Region()
        text = scrape(node)
    assert rows(text, "derpmesh_link_up") == {'peer="900b"': 1, 'peer="900c"': 0}
    assert rows(text, "derpmesh_link_clients") == {'peer="900b"': 3, 'peer="900c"': 0}
    assert rows(text, "derpmesh_link_round_trip_seconds") == {'peer="900b"': 0.002}
    packets = rows(text, "derpmesh_link_forwarded_packets_total")
    assert packets == {'peer="900b"': 7, 'peer="900c"': 0}
    sources = rows(text, "derpmesh_membership_source")
    assert [name for name, is_it in sources.items() if is_it] == ['source="etcd"']
    relists = rows(text, "derpmesh_membership_relists_total")
    assert {k: v for k, v in relists.items() if v} == {
        'reason="start"': 1,
        'reason="silent"': 2,
    }
    assert rows(text, "derpmesh_strays") == {'ideal="900b"': 4}
    for line in (
        "members 3",
        "members_held 1",
        "membership_age_seconds 12.5",
        "membership_breaker_open 1",
        "membership_watch_lag_seconds 0.25",
    ):
        assert f"\nderpmesh_{line}\n" in text
    assert "\nderpmesh_region_notes 1\n" in text


async def test_alone(tmp_path):
    """No links and no members; all the rest is there."""
    async with built(node_config(tmp_path)) as node:
        text = scrape(node)
    assert rows(text, "derpmesh_link_up") == {}
    assert "\nderpmesh_members 0\n" in text
    assert "derpmesh_membership_age_seconds" not in text
