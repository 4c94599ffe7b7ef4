"""Talks to admin listeners: every way they can answer, and not answer."""

from pathlib import Path

import pytest
from aiohttp import web

from derpctl.admin import Admin, AdminFailed
from derpctl.errors import CtlError
from tests.ctl.certs import issue, server_context
from tests.ctl.standins import AdminStandIn, admin


def raw(status: int, text: str = "") -> web.Response:
    """An answer other than the usual one."""
    return web.Response(status=status, text=text)


async def fail(url: str, **options: object) -> AdminFailed:
    """Ask for the status; give the failure."""
    with pytest.raises(AdminFailed) as found:
        await Admin(url, **{"timeout": 1.0, **options}).status()
    return found.value


async def test_node_and_status():
    """Newer fields are left out, older nodes' missing ones have defaults."""
    async with admin(AdminStandIn()) as url:
        view = await Admin(url, 1.0).status()
        assert await Admin(url, 1.0).node() == view.node
        assert (view.node.name, view.node.region.id) == ("900a", 900)
        assert (view.clients.home, view.traffic.dropped["queue_head"]) == (2, 3)
    old = {"/v1/status": raw(200, '{"node": {"name": "x", "region": {"id": 1}}}')}
    async with admin(AdminStandIn(raw=old)) as url:
        view = await Admin(url, 1.0).status()
        assert (view.node.state, view.clients.home, view.stun) == ("", 0, None)


async def test_readiness():
    """What is missing is told in one line."""
    standin = AdminStandIn()
    async with admin(standin) as url:
        assert await Admin(url, 1.0).is_ready() == (True, "ready")
        standin.state, standin.reasons = "unready", ["certificate", "stun"]
        assert await Admin(url, 1.0).is_ready() == (False, "certificate stun")


async def test_unix_socket_and_token(tmp_path: Path):
    """The token goes to `/v1`, over a Unix socket too."""
    standin = AdminStandIn()
    async with admin(standin, str(tmp_path / "s")) as url:
        await Admin(url, 1.0, token="secret").node()
    assert standin.tokens == ["Bearer secret"]


async def test_tls(tmp_path: Path):
    """An https listener is checked against the authorities that were named."""
    ca = issue(common_name="admin CA", ca=True)
    leaf = issue("127.0.0.1", by=ca, common_name="admin")
    (tmp_path / "ca.pem").write_bytes(ca.pem)
    async with admin(AdminStandIn(), context=server_context(tmp_path, leaf)) as url:
        found = await Admin(url, 5.0, ca_file=tmp_path / "ca.pem").node()
        assert found.name == "900a"
        error = await fail(url, timeout=5.0)
        assert str(error) == (
            f"{url}: unable to get local issuer certificate; "
            "set ca_file in derpctl's configuration to who signed it"
        )
        with pytest.raises(CtlError, match=r"none: not a PEM file that can be read; "):
            await Admin(url, 1.0, ca_file=tmp_path / "none").node()


async def test_nobody_there(tmp_path: Path):
    """A refused connection and a missing socket are the signs of a dead node."""
    async with admin(AdminStandIn()) as url:
        pass
    error = await fail(url)
    assert str(error) == f"{url}: connection refused; is the node running?"
    assert error.dead
    error = await fail(f"unix:{tmp_path}/none")
    assert "no such file or directory" in str(error)
    assert error.dead
    error = await fail("http://a.invalid:1", timeout=5.0)
    assert not error.dead


async def test_hanging():
    """A node that hangs costs the time that was given."""
    async with admin(AdminStandIn(hang=True)) as url:
        error = await fail(url, timeout=0.1)
    assert str(error) == f"{url}: no answer in 0.1 s; is the node running?"
    assert not error.dead


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (raw(401), "answered 401 to /v1/status; set token_file in derpctl's conf"),
        (
            raw(404),
            "answered 404 to /v1/status; is this the admin listener of a derpd?",
        ),
        (
            raw(200, "{"),
            "/v1/status is not what derpctl reads; is it a derpd, of about",
        ),
        (raw(200, '{"node": 1}'), "/v1/status is not what derpctl reads at node; "),
    ],
)
async def test_useless_answers(answer: web.Response, message: str):
    """Somebody is there, and is not what we look for."""
    async with admin(AdminStandIn(raw={"/v1/status": answer})) as url:
        error = await fail(url)
    assert message in str(error)
    assert not error.dead


async def test_broken_connection():
    """What is no HTTP at all is an answer of no use."""

    async def rude(_request: web.BaseRequest) -> web.StreamResponse:
        message = "rude"
        raise ConnectionResetError(message)

    standin = AdminStandIn()
    standin.answer = rude
    async with admin(standin) as url:
        error = await fail(url)
    assert str(error).startswith(f"{url}: ")
