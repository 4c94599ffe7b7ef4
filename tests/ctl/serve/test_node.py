"""Nodes serve the map themselves, where they are told to."""

import contextlib
import http.client
import ssl

import pytest

from tests.interop.region import demo


@pytest.fixture(scope="module")
def region(tmp_path_factory):
    """Two nodes that serve their map."""
    folder = tmp_path_factory.mktemp("region")
    with demo(folder, "pinned", ["derp.serve_map=true"], nodes=2) as found:
        yield found


def ask(connection, etag=""):
    """Ask for the map; give status, headers and body."""
    with contextlib.closing(connection):
        headers = {"If-None-Match": etag} if etag else {}
        connection.request("GET", "/derpmap/default", headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read()


def doors(node):
    """Connect to both of its public ports."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    host = node["host"]
    return (
        http.client.HTTPSConnection(host, node["derp_port"], context=context),
        http.client.HTTPConnection(host, node["http_port"]),
    )


def test_all_say_the_same(derpctl, region):
    """Each node, over TLS and without, gives what derpctl exports, named alike."""
    config = region.document.parent / "derpctl.yaml"
    exported = derpctl("--config", config, "map", "export", "-f", "derpmap").out
    said = [ask(door) for node in region.demo["nodes"] for door in doors(node)]
    assert [(status, body.decode()) for status, _, body in said] == [
        (200, exported)
    ] * 4
    (etag,) = {headers["ETag"] for _, headers, _ in said}
    for door in doors(region.demo["nodes"][0]):
        assert ask(door, etag)[0] == 304
