"""derpctl's own file: what it may say, and what an operator hears when it does not."""

from collections.abc import Callable
from pathlib import Path

import pytest

from derpctl.config import CtlConfig, load_ctl_config, read_token
from derpctl.errors import CtlError
from derpctl.exits import Exit


NODE = "{name: 900a, admin: 'http://127.0.0.1:9090/'}"


@pytest.fixture
def load(tmp_path: Path) -> Callable[[str], CtlConfig]:
    """Read a configuration from a text."""

    def read(text: str) -> CtlConfig:
        path = tmp_path / "c.yaml"
        path.write_text(text)
        return load_ctl_config(path)

    return read


def test_whole(load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Every key; `~` is the home directory, a slash at the end is dropped."""
    monkeypatch.setenv("HOME", str(tmp_path))
    unix = "{name: 900b, admin: 'unix:/run/b.sock'}"
    found = load(
        f"{{region: 900, nodes: [{NODE}, {unix}], token_file: ~/t, ca_file: /c}}"
    )
    assert [node.admin for node in found.nodes] == [
        "http://127.0.0.1:9090",
        "unix:/run/b.sock",
    ]
    assert (found.token_file, found.ca_file) == (tmp_path / "t", Path("/c"))
    assert found.admin_authorities == Path("/c")


def test_admin_listeners_may_have_an_authority_of_their_own(load):
    """Nodes without a pin are then believed as the system believes them."""
    found = load(f"{{region: 900, nodes: [{NODE}], admin_ca_file: /a}}")
    assert (found.admin_authorities, found.ca_file) == (Path("/a"), None)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (f"{{nodes: [{NODE}]}}", ": region: missing; write e.g. {region: 900, "),
        ("{region: 900, nodes: []}", ": nodes: missing; write e.g. {region: 900, "),
        ("{region: 900}", ": nodes: missing; write e.g. {region: 900, "),
        ("{region: '900'}", ": region = '900': input should be a valid integer; "),
        (f"{{region: 900, nodes: [{NODE}], x: 1}}", ": x = 1: unknown key; "),
        (f"{{region: 0, nodes: [{NODE}]}}", ": region = 0: input should be greater "),
        (
            "{region: 900, nodes: [{name: a, admin: 'ftp://x'}]}",
            ": nodes.0.admin = 'ftp://x': not http://HOST:PORT, https://HOST:PORT "
            "or unix:/PATH; ",
        ),
        (
            f"{{region: 900, nodes: [{NODE}, {NODE}]}}",
            ": nodes: two nodes are called 900a; give each its own name",
        ),
        ("{", ": not YAML: while parsing a flow node"),
        ("a: 2020-02-31", ": not YAML: day is out of range for month; "),
        ("a: !!int ''", ": not YAML: "),
        ("[" * 5_000, ": not YAML: "),
        ("", ": empty; write e.g. {region: 900"),
    ],
)
def test_what_is_wrong(load, text: str, message: str):
    """File, place, value, reason, remedy; and always the code for configuration."""
    with pytest.raises(CtlError) as found:
        load(text)
    assert message in str(found.value)
    assert found.value.exit is Exit.CONFIG


def test_no_file(tmp_path: Path):
    """The way to one is in the message."""
    with pytest.raises(CtlError) as found:
        load_ctl_config(tmp_path / "none")
    assert str(found.value) == (
        f"{tmp_path}/none: no such file; name one by --config, "
        "or bring a region up: derpctl demo --hold"
    )


def test_unreadable_file(tmp_path: Path):
    """A directory, for one."""
    with pytest.raises(CtlError, match=r": cannot be read: is a directory; check its "):
        load_ctl_config(tmp_path)


def test_token(tmp_path: Path):
    """White space around it does not count; an empty one is an error."""
    path = tmp_path / "token"
    path.write_text(" secret\n")
    assert read_token(path) == "secret"
    assert read_token(None) is None
    path.write_text("\n")
    with pytest.raises(CtlError, match="the token is empty"):
        read_token(path)
    path.write_bytes(b"\xff")
    with pytest.raises(CtlError, match="the token cannot be read"):
        read_token(path)
