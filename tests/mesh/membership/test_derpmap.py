"""The map that a region's records make."""

import json

from derpmesh.membership.derpmap import map_tree
from derpmesh.membership.model import Member, Region


def test_map():
    """Fields in the order of Go's structs; what is zero is left out."""
    region = Region(id=901, code="x", name="X", latitude=22.0, longitude=114.5)
    member = Member(name="901a", host="a.example.net", stun_only=True, stun_port=3479)
    assert json.dumps(map_tree(region, [member])) == json.dumps(
        {
            "Regions": {
                "901": {
                    "RegionID": 901,
                    "RegionCode": "x",
                    "RegionName": "X",
                    "Latitude": 22,
                    "Longitude": 114.5,
                    "Nodes": [
                        {
                            "Name": "901a",
                            "RegionID": 901,
                            "HostName": "a.example.net",
                            "STUNPort": 3479,
                            "STUNOnly": True,
                        }
                    ],
                }
            }
        }
    )


def test_a_region_that_is_nobodys_home():
    """It is said to clients, which then do not measure it."""
    tree = map_tree(Region(measure=False), [])
    assert tree["Regions"]["900"]["NoMeasureNoHome"] is True
