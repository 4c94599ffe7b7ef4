"""From settings to sources."""

from pathlib import Path

import pytest

from derpnode.config import AdmissionSection
from derpnode.errors import ConfigError
from derpnode.server.admission.sources import make_admission
from derpnode.wire.keys import NodeKey, node_key_text


KEY = NodeKey(b"\1" * 32)


def names(admission) -> list[str]:
    return [guard.source.name for guard in admission.guards]


def test_every_kind(tmp_path):
    """In the order: file, sockets, URLs."""
    (tmp_path / "keys").write_text("")
    settings = AdmissionSection(
        key_file=tmp_path / "keys",
        tailscaled=[Path("/run/a.sock"), Path("/run/b.sock")],
        urls=["https://headscale.example/verify"],
    )
    assert names(make_admission(settings)) == [
        "key_file",
        "tailscaled:/run/a.sock",
        "tailscaled:/run/b.sock",
        "url:https://headscale.example",
    ]


def test_open():
    """Then nobody is asked, whatever else is set."""
    settings = AdmissionSection(mode="open", tailscaled=[Path("/run/a.sock")])
    assert names(make_admission(settings)) == ["open"]


def test_terms_are_those_of_the_settings(tmp_path):
    """Each time is where it belongs."""
    (tmp_path / "keys").write_text("")
    settings = AdmissionSection(
        key_file=tmp_path / "keys", timeout=1, allow_ttl=2, deny_ttl=3, grace=4
    )
    terms = make_admission(settings)._terms
    assert (terms.timeout, terms.allow_ttl, terms.deny_ttl, terms.grace) == (1, 2, 3, 4)


def test_removed_keys_are_told(tmp_path):
    """The callback is the key file's."""
    path = tmp_path / "keys"
    path.write_text(node_key_text(KEY))
    removed = []
    settings = AdmissionSection(key_file=path)
    admission = make_admission(settings, on_removed=removed.append)
    path.write_text("")
    admission.guards[0].source.check(asked=True)
    assert removed == [{KEY}]


def test_missing_file(tmp_path):
    """The node does not start."""
    with pytest.raises(ConfigError, match="key_file"):
        make_admission(AdmissionSection(key_file=tmp_path / "none"))
