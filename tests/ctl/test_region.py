"""`derpctl region …`."""

import json

from tests.ctl.standins import AdminStandIn, admin


def test_confirm(derpctl, beside, configured):
    """Each node says whom it let go: 0."""
    urls = [
        beside.start(admin(AdminStandIn("900a", held=["900c", "900d"]))),
        beside.start(admin(AdminStandIn("900b"))),
    ]
    path = configured(_900a=urls[0], _900b=urls[1])
    ended = derpctl("--config", path, "region", "confirm")
    assert (ended.code, ended.err) == (0, "")
    assert ended.out == "900a: let go 900c, 900d\n900b: nothing is held\n"


def test_confirm_without_all(derpctl, beside, configured):
    """One that does not answer goes on holding: 4; the document is whole."""
    url = beside.start(admin(AdminStandIn(held=["900c"])))
    path = configured(_900a=url, _900b="unix:/none/b.sock")
    ended = derpctl("--config", path, "region", "confirm", "-o", "json")
    assert ended.code == 4
    found = json.loads(ended.out)
    assert (found["kind"], found["region"]) == ("RegionConfirm", 900)
    first, second = found["items"]
    assert first == {"name": "900a", "let_go": ["900c"], "error": None}
    assert (second["name"], second["let_go"]) == ("900b", [])
    assert "no such file" in second["error"]


def test_confirm_in_words(derpctl, configured):
    """What failed is no output."""
    path = configured(_900a="unix:/none/a.sock")
    ended = derpctl("--config", path, "region", "confirm")
    assert (ended.code, ended.out) == (4, "")
    assert ended.err.startswith("900a: unix:/none/a.sock: no such file")
