"""`derpctl map serve`, as a process: what it answers, and how it begins and ends."""

import json
import signal
import socket
import ssl
from urllib.parse import urlsplit

import pytest

from derpctl.authority import Authority
from tests.ctl.serve.serving import LIMIT, Servers
from tests.ctl.standins import AdminStandIn, admin


ENTRY = {"HostName": "8.8.8.8", "IPv4": "8.8.8.8"}


@pytest.fixture
def serving():
    """Start servers; give each once it listens. They are ended with the test."""
    with Servers() as servers:
        yield servers.start


@pytest.fixture
def node(beside):
    """A node with an address that clients could dial, and its URL."""
    found = AdminStandIn(entry=ENTRY)
    return found, beside.start(admin(found))


def test_what_is_served(derpctl, configured, node, serving):
    """The very bytes of `map export`, with a name that makes them known."""
    config = configured(_900a=node[1])
    server = serving(config)
    assert server.line().startswith("serving revision ")
    status, headers, body = server.ask("/derpmap/default")
    exported = derpctl("--config", config, "map", "export", "-f", "derpmap").out
    assert (status, body.decode()) == (200, exported)
    assert headers["Content-Type"] == "application/json"
    assert headers["Cache-Control"] == "no-cache"
    etag = headers["ETag"]
    assert server.ask("/derpmap.json")[2] == body
    status, headers, body = server.ask("/derpmap.json", **{"If-None-Match": etag})
    assert (status, headers["ETag"], body) == (304, etag, b"")
    status, headers, body = server.ask("/derpmap.json", "HEAD")
    assert (status, headers["Content-Length"], body) == (200, str(len(exported)), b"")
    assert server.end() == 0


def test_what_is_not(configured, node, serving):
    """Words, and no JSON object: headscale would take it for an empty map."""
    server = serving(configured(_900a=node[1]))
    server.line()
    for path, method, status in (
        ("/", "GET", 404),
        ("/derpmap", "GET", 404),
        ("/derpmap/default/", "GET", 404),
        ("/derpmap/default", "POST", 405),
        ("/derpmap/default", "DELETE", 405),
        ("/livez", "PUT", 405),
        ("//etc/passwd", "GET", 404),
    ):
        found, headers, body = server.ask(path, method)
        assert (path, found) == (path, status)
        assert headers.get_content_type() == "text/plain"
        with pytest.raises(ValueError, match="Expecting value"):
            json.loads(body)
    assert server.ask("/livez")[0] == 200
    assert server.ask("/derpmap/default?x=1")[0] == 200


def test_strangers_cannot_fill_the_log(configured, node, serving):
    """What is no HTTP is refused in words, and not a line is written."""
    standin, url = node
    server = serving(configured(_900a=url))
    server.line()
    parts = urlsplit(server.url)
    for junk in (b"JUNK\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01" * 9):
        with socket.create_connection((parts.hostname, parts.port), LIMIT) as stranger:
            stranger.sendall(junk)
            assert b" 400 Bad Request\r\nContent-Type: text/plain" in stranger.recv(999)
    standin.region = 901
    assert server.line().endswith("; the last good map is served")


def test_no_map_yet(configured, serving, beside):
    """503 in words until the region can be read; then it is served at once."""
    standin = AdminStandIn(entry=ENTRY, region=901)
    server = serving(configured(_900a=beside.start(admin(standin))))
    assert server.line().endswith("; there is no map to serve")
    status, headers, body = server.ask("/derpmap/default")
    assert (status, headers.get_content_type()) == (503, "text/plain")
    assert body == b"no map is known yet\n"
    standin.region = 900
    assert server.line().startswith("serving revision ")
    assert server.ask("/derpmap/default")[0] == 200


def test_the_last_good_one(configured, node, serving, tmp_path):
    """It stays through trouble and, where it is kept, through a restart."""
    standin, url = node
    config, cache = configured(_900a=url), tmp_path / "map.json"
    server = serving(config, "--cache", cache)
    server.line()
    good = server.ask("/derpmap/default")[2]
    standin.entry = {**ENTRY, "STUNPort": -1}  # nobody could measure it
    assert server.line().endswith("; the last good map is served")
    assert server.ask("/derpmap/default")[2] == good
    assert server.end() == 0
    again = serving(config, "--cache", cache)
    assert again.said[0].endswith(", as it was kept")
    assert again.ask("/derpmap/default")[2] == good


def test_a_private_path(configured, node, serving):
    """Who names a path serves the map there, and nowhere else."""
    server = serving(configured(_900a=node[1]), "--path", "/k9/map")
    server.line()
    assert server.url.endswith("/k9/map")
    assert server.ask("/k9/map")[0] == 200
    assert server.ask("/derpmap/default")[0] == 404


def test_tls(configured, node, serving, tmp_path):
    """With a certificate it speaks HTTPS, and proves who it is."""
    authority = Authority()
    pair = authority.issue(["127.0.0.1"])
    files = tmp_path / "map.crt", tmp_path / "map.key"
    for path, data in zip(files, (pair.certificate, pair.key), strict=True):
        path.write_bytes(data)
    options = ("--certificate", files[0], "--key", files[1])
    server = serving(configured(_900a=node[1]), *options)
    server.line()
    context = ssl.create_default_context(cadata=authority.pem.decode())
    assert server.url.startswith("https://127.0.0.1:")
    assert server.ask("/derpmap/default", context=context)[0] == 200


def test_interrupted(configured, node, serving):
    """Ctrl-C ends it in good order, too."""
    assert serving(configured(_900a=node[1])).end(signal.SIGINT) == 0


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (["--listen", ":8053"], 2, "no address in it; 0.0.0.0 and [::] are every one"),
        (["--listen", "localhost:8053"], 2, "localhost"),
        (["--listen", "127.0.0.1"], 2, "not HOST:PORT with a port from 0 to 65535"),
        (["--path", "derpmap"], 2, "not a plain path that begins with /"),
        (
            ["--path", "/livez"],
            2,
            "not a plain path that begins with /, and not /livez",
        ),
        (["--certificate", "x"], 2, "certificate and key go together"),
        (["--certificate", "/x", "--key", "/y"], 3, "no such file or directory"),
        (["--listen", "192.0.2.1:8053"], 3, "cannot listen: "),
    ],
)
def test_refused(derpctl, configured, options, code, message):
    """What cannot be meant is refused before anything is served."""
    config = configured(_900a="unix:/none")
    ended = derpctl("--config", config, "map", "serve", *options)
    assert ended.code == code
    assert message in " ".join(ended.err.replace("│", " ").split())


def test_plain_http_off_loopback_is_told(derpctl, configured):
    """The map says whom clients trust; whoever is on the way could change it."""
    config = configured(_900a="unix:/none")
    ended = derpctl("--config", config, "map", "serve", "--listen", "192.0.2.1:8053")
    assert "give --certificate and --key" in ended.err
