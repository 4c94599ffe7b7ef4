"""`derpctl map push`: what is asked, what is written, what is said, and how it ends."""

import io
import json
import socket
import stat
import sys
from pathlib import Path

import pytest
from aiohttp import web

from derpctl.cluster import Published
from derpctl.errors import CtlError
from derpctl.exits import Exit
from derpctl.map.model import DerpMap
from derpctl.push.credentials import KEY_VARIABLE, SECRET_VARIABLE
from derpctl.push.policy import not_empty
from tests.ctl.certs import issue, server_context
from tests.ctl.policyapi import CLIENT, KEY, SECRET, TOKEN, PolicyApi, serving
from tests.ctl.standins import AdminStandIn, admin


POLICIES = Path(__file__).parent / "map" / "policies"
YOUNG = (POLICIES / "young.hujson").read_text()
GROWN = (POLICIES / "grown.hujson").read_text()

ADDED = """\
region 900: added: RegionID 900, RegionCode "demo", RegionName "Demo", Nodes 900a
no connection is dropped
"""

MEMBER = """\
	"derpMap": {
		"OmitDefaultRegions": false,
		"Regions": {
			"900": {
				"RegionID":   900,
				"RegionCode": "demo",
				"RegionName": "Demo",
				"Nodes": [
					{"Name": "900a", "RegionID": 900, "HostName": "8.8.4.4", \
"IPv4": "8.8.4.4", "IPv6": "none", "DERPPort": 8443},
				],
			},
		},
	},
"""


@pytest.fixture(autouse=True)
def _no_secrets(monkeypatch):
    for name in (KEY_VARIABLE, SECRET_VARIABLE):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def config(beside, configured):
    """A region of one node."""
    entry = {"HostName": "8.8.4.4", "IPv4": "8.8.4.4"}
    url = beside.start(admin(AdminStandIn(pinned=False, entry=entry)))
    return configured(_900a=url)


@pytest.fixture
def key_file(tmp_path):
    """A file with the key."""
    path = tmp_path / "key"
    path.write_text(f"{KEY}\n")
    return path


@pytest.fixture
def push(derpctl, beside, config, key_file):
    """Push to an API with a key; nobody is at the terminal."""

    def run(api, *options, key=True):
        url = beside.start(serving(api))
        words = ["--config", config, "map", "push", "tailscale", "--api", url]
        words += ["--key-file", key_file] if key else []
        ended = derpctl(*words, *options)
        for secret in (KEY, SECRET, TOKEN):
            assert secret not in ended.out + ended.err
        return ended

    return run


@pytest.fixture(autouse=True)
def answering(monkeypatch):
    """Say something at the terminal; nothing is a terminal at all."""

    def sit(text=None):
        found = io.StringIO(text or "")
        found.isatty = lambda: text is not None
        monkeypatch.setattr(sys, "stdin", found)

    sit()
    return sit


def test_written(push):
    """The map is the last member; it is tried, and written for the version read."""
    api = PolicyApi(YOUNG)
    ended = push(api, "--yes")
    assert ended == (0, ADDED, "derpctl: the policy is written\n")
    assert api.policy == YOUNG.removesuffix("}\n") + MEMBER + "}\n"
    assert api.asked == ["GET acl", "POST acl/validate", "POST acl"]


def test_again(push):
    """A policy that has the map is left alone."""
    api = PolicyApi(YOUNG)
    push(api, "--yes")
    ended = push(api, "--yes")
    assert (ended.code, ended.out) == (0, "no difference\n")
    assert ended.err == "derpctl: the policy has the map already; nothing to write\n"
    assert len(api.written) == 1


def test_replaced(push):
    """Whose clients reconnect is said."""
    api = PolicyApi(GROWN, tailnet="example.com")
    ended = push(api, "--yes", "--tailnet", "example.com")
    assert ended.code == 0
    assert ended.out == (
        'region 900: RegionCode changed from "old" to "demo"\n'
        'region 900: RegionName changed from "As it was" to "Demo"\n'
        'region 900, node 900a: HostName changed from "a.example.net" to "8.8.4.4"\n'
        'region 900, node 900a: IPv4 changed from "8.8.8.8" to "8.8.4.4"\n'
        'region 900, node 900a: IPv6 added: "none"\n'
        "region 900, node 900a: DERPPort added: 8443\n"
        "all clients of region 900 reconnect\n"
    )
    assert '"1": null, // New York' in api.policy


def test_nobody_to_ask(push):
    """6, and nothing is sent."""
    api = PolicyApi(YOUNG)
    assert push(api) == (
        6,
        ADDED,
        "derpctl: write the policy: there is no terminal to ask at; give --yes\n",
    )
    assert api.asked == ["GET acl"]


def test_asked(push, answering):
    """Who says no is heard: 6."""
    api = PolicyApi(YOUNG)
    answering("n\n")
    ended = push(api)
    assert (ended.code, api.written) == (6, [])
    assert ended.err.startswith(
        "write the policy? [y/N] derpctl: write the policy: you"
    )
    answering("y\n")
    assert (push(api).code, len(api.written)) == (0, 1)


def test_dry_run(push):
    """The words, and the lines; only read."""
    api = PolicyApi(YOUNG.replace("\n", "\r\n"))
    ended = push(api, "--dry-run")
    head = "--- the policy\n+++ the policy, new\n@@ -16,4 +16,17 @@\n"
    assert (ended.code, ended.err) == (0, "")
    assert ended.out.startswith(ADDED + head)
    assert "".join(f"+{line}\n" for line in MEMBER.splitlines()) in ended.out
    assert api.asked == ["GET acl"]


def test_validate_only(push):
    """It is tried, not written; no is 7 with the reason."""
    api = PolicyApi(YOUNG)
    ended = push(api, "--validate-only")
    assert (ended.code, ended.out) == (0, ADDED)
    assert ended.err == "derpctl: the policy would be valid\n"
    assert api.asked == ["GET acl", "POST acl/validate"]
    bad = PolicyApi(GROWN.replace("ann@example.com", "mallory@example.com"))
    ended = push(bad, "--validate-only")
    assert ended.code == 7
    assert ended.err == (
        "derpctl: the policy: test(s) failed; mallory@example.com: address"
        ' "tag:web:443": want: Accept, got: Drop; nothing was written; correct the'
        " policy\n"
    )


def test_tests_fail(push):
    """7, before anything is written."""
    api = PolicyApi(GROWN.replace("ann@example.com", "mallory@example.com"))
    assert push(api, "--yes").code == 7
    assert api.asked == ["GET acl", "POST acl/validate"]


def test_warnings_of_a_valid_policy(push):
    """They are said; the API calls them a message, and takes the policy."""
    api = PolicyApi(GROWN.replace("group:ops", "group:unknown"))
    ended = push(api, "--yes")
    assert ended.code == 0
    assert ended.err == (
        "derpctl: group:unknown: group is not syncing from SCIM and will be ignored\n"
        "derpctl: the policy is written\n"
    )


def test_somebody_was_faster(push):
    """6; what they wrote stays."""
    api = PolicyApi(YOUNG, meanwhile=GROWN)
    ended = push(api, "--yes")
    assert (ended.code, api.policy, api.written) == (6, GROWN, [])
    assert ended.err == (
        "derpctl: the policy: somebody changed it meanwhile; nothing was written; run"
        " it again\n"
    )


def test_the_result_breaks_a_rule(push):
    """7 with the line, also where the region of another does."""
    api = PolicyApi(GROWN.replace('"derp.example.org"', '"derp.example.org:443"'))
    ended = push(api, "--yes")
    assert (ended.code, api.asked) == (7, ["GET acl"])
    assert ended.err.startswith(
        "derpctl: the policy, line 33 of the new text: DM007: "
        "Regions.901.Nodes[0].HostName: 'derp.example.org:443' has a port"
    )


def test_no_policy(push):
    """7 where there is none to put it into."""
    ended = push(PolicyApi("[]"), "--yes")
    assert (ended.code, ended.out) == (7, "")
    assert ended.err.startswith("derpctl: the policy: map = '[]': not a policy")


def test_default_regions(push):
    """They are left out if asked for."""
    api = PolicyApi(YOUNG)
    push(api, "--yes", "--omit-default-regions")
    assert '"OmitDefaultRegions": true,' in api.policy
    push(api, "--yes", "--keep-default-regions")
    assert '"OmitDefaultRegions": false,' in api.policy


def test_oauth(push, tmp_path, monkeypatch):
    """A client gets a token once; its secret is in a file or in the environment."""
    secret = tmp_path / "secret"
    secret.write_text(SECRET)
    client = ("--oauth-client", CLIENT, "--yes")
    api = PolicyApi(YOUNG)
    assert push(api, *client, "--oauth-secret-file", secret, key=False).code == 0
    assert api.asked == ["POST token", "GET acl", "POST acl/validate", "POST acl"]
    monkeypatch.setenv(SECRET_VARIABLE, SECRET)
    assert push(PolicyApi(YOUNG), *client, key=False).code == 0
    monkeypatch.setenv(SECRET_VARIABLE, "wrong")
    ended = push(PolicyApi(YOUNG), *client, key=False)
    assert (ended.code, ended.out) == (3, "")


def test_key_in_the_environment(push, monkeypatch):
    """As other tools of Tailscale's have it."""
    monkeypatch.setenv(KEY_VARIABLE, KEY)
    assert push(PolicyApi(YOUNG), "--yes", key=False).code == 0


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        ([], 3, "TS_API_KEY: there is none; give --key-file or --oauth-client, or set"),
        (["--key-file", "none"], 3, "none: the secret cannot be read; check path and"),
        (["--oauth-client", "x"], 3, "TS_OAUTH_CLIENT_SECRET: there is none; give"),
        (["--oauth-secret-file", "x"], 2, "--oauth-secret-file: there is no client to"),
        (["--oauth-client", "x", "--key-file", "x"], 2, "--key-file: there is --oauth"),
    ],
)
def test_no_credentials(push, options, code, message):
    """Before anybody is asked for anything."""
    api = PolicyApi(YOUNG)
    ended = push(api, *options, key=False)
    assert (ended.code, ended.out, api.asked) == (code, "", [])
    assert ended.err.startswith(f"derpctl: {message}")


@pytest.mark.parametrize("text", ["", "two\nlines", "\x1b[31m", "é"])
def test_a_file_without_a_secret(push, key_file, text):
    """It is not sent, nor shown."""
    key_file.write_text(text)
    ended = push(PolicyApi(YOUNG))
    assert (ended.code, ended.out) == (3, "")
    assert ended.err == (
        f"derpctl: {key_file}: not a secret of one line; put it there, and nothing"
        " else\n"
    )


def _answer(status, body=b"", **headers):
    return lambda: web.Response(status=status, body=body, headers=headers)


@pytest.mark.parametrize(
    ("status", "code", "words"),
    [
        (400, 7, "refused, without a reason"),
        (
            401,
            3,
            "the credentials are not accepted (401); give an API key that is valid",
        ),
        (
            403,
            3,
            "the credentials are not accepted (403); give an API key that is valid",
        ),
        (404, 5, "no such tailnet"),
        (429, 4, "answered 429"),
        (500, 4, "answered 500"),
        (503, 4, "answered 503"),
        (302, 4, "answered 302"),
    ],
)
@pytest.mark.parametrize("what", ["GET acl", "POST acl/validate", "POST acl"])
def test_other_answers(push, what, status, code, words):
    """Each has its exit code, at each step; a redirect gets no credentials."""
    answer = _answer(status, Location="http://127.0.0.1:9/")
    api = PolicyApi(YOUNG, answers={what: answer})
    ended = push(api, "--yes")
    assert (ended.code, api.written, api.asked[-1]) == (code, [], what)
    assert words in ended.err


@pytest.mark.parametrize("what", ["GET acl", "POST acl/validate", "POST acl"])
def test_no_answer(push, what):
    """4, after the time that was given."""
    ended = push(PolicyApi(YOUNG, hangs=frozenset({what})), "--yes", "--timeout", "0.3")
    assert ended.code == 4
    assert "no answer in 0.3 s; try again, or give a longer --timeout" in ended.err


def test_nobody_there(derpctl, config, key_file):
    """4, with why."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    words = ("map", "push", "tailscale", "--key-file", key_file, "--api", url)
    ended = derpctl("--config", config, *words)
    assert (ended.code, ended.out) == (4, "")
    assert ended.err == f"derpctl: {url}: connection refused; is this machine online?\n"


def test_an_api_of_nobody(derpctl, config, key_file, beside, tmp_path):
    """4: the key is not sent to who has no certificate that is trusted."""
    standin = AdminStandIn()
    context = server_context(tmp_path, issue("127.0.0.1"))
    url = beside.start(admin(standin, context=context))
    words = ("map", "push", "tailscale", "--key-file", key_file, "--api", url)
    ended = derpctl("--config", config, *words)
    assert (ended.code, ended.out, standin.tokens) == (4, "", [])
    assert ended.err.endswith("give a URL whose certificate this machine trusts\n")


@pytest.mark.parametrize(
    ("what", "answer", "code", "words"),
    [
        ("GET acl", _answer(200, b"{}"), 6, "the policy came without an ETag"),
        ("GET acl", _answer(200, b"\xff", ETag='"1"'), 7, "not text: byte 0"),
        (
            "POST acl/validate",
            _answer(200, b"<html>"),
            4,
            "no HTTP answer that can be read",
        ),
        ("POST acl/validate", _answer(200, b'{"data": [1]}'), 7, "refused"),
    ],
)
def test_answers_that_say_nothing(push, what, answer, code, words):
    """What is not understood is not taken for a yes."""
    api = PolicyApi(YOUNG, answers={what: answer})
    ended = push(api, "--yes")
    assert (ended.code, api.written) == (code, [])
    assert words in ended.err


def test_a_server_that_repeats_the_key(push):
    """It is not shown, nor what steers terminals."""
    said = json.dumps({"message": f"no {KEY}\x1b[31m"}).encode()
    api = PolicyApi(YOUNG, answers={"POST acl": _answer(400, said)})
    ended = push(api, "--yes")
    assert ended.code == 7
    assert r"the policy: no …\x1b[31m; nothing was written" in ended.err


@pytest.mark.parametrize(
    "url",
    ["http://example.com", "ftp://127.0.0.1", "https://", "https://me:pw@host", "x"],
)
def test_where_no_key_is_sent(derpctl, config, key_file, url):
    """2: in the clear, or to no server; a password in it is not shown."""
    ended = derpctl(
        "--config",
        config,
        "map",
        "push",
        "tailscale",
        "--key-file",
        key_file,
        "--api",
        url,
    )
    assert (ended.code, ended.out) == (2, "")
    assert ended.err.startswith("derpctl: --api: ")
    assert "pw" not in ended.err


# A policy in a file.


@pytest.fixture
def push_file(derpctl, config, tmp_path):
    """Push to a file of this text; give the path, too."""

    def run(text, *options):
        path = tmp_path / "policy.hujson"
        path.write_bytes(text.encode())
        words = ("--config", config, "map", "push", "tailscale", "--policy", path)
        return derpctl(*words, *options), path

    return run


def test_policy_file(push_file, tmp_path):
    """It is written without asking anybody at Tailscale; mode and line ends stay."""
    text = "\ufeff" + YOUNG.replace("\n", "\r\n")
    (tmp_path / "policy.hujson").touch(mode=0o640)
    ended, path = push_file(text, "--yes")
    assert ended == (0, ADDED, f"derpctl: {path} is written\n")
    member = MEMBER.replace("\n", "\r\n")
    assert path.read_bytes().decode() == text.removesuffix("}\r\n") + member + "}\r\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert not list(tmp_path.glob(".*"))


def test_policy_file_asks(push_file):
    """As for the one at Tailscale."""
    ended, path = push_file(YOUNG)
    assert (ended.code, path.read_text()) == (6, YOUNG)


def test_policy_file_is_validated(push_file, beside, key_file):
    """At Tailscale, if wanted; the file is not written."""
    api = PolicyApi(GROWN)
    url = beside.start(serving(api))
    options = ("--validate-only", "--api", url, "--key-file", key_file)
    ended, path = push_file(YOUNG, *options)
    assert (ended.code, api.asked) == (0, ["POST acl/validate"])
    assert path.read_text() == YOUNG


def test_a_link_stays_a_link(push_file, tmp_path, derpctl, config):
    """What it is to is written."""
    _, path = push_file(YOUNG)
    link = tmp_path / "link"
    link.symlink_to(path)
    words = ("--config", config, "map", "push", "tailscale", "--policy", link, "-y")
    assert derpctl(*words).code == 0
    assert link.is_symlink()
    assert '"derpMap"' in path.read_text()


def test_policy_file_changed_meanwhile(push_file, tmp_path, monkeypatch, answering):
    """6; who edits it while the question stands keeps their words."""
    path = tmp_path / "policy.hujson"

    def edit():
        path.write_text(GROWN)
        return "y\n"

    answering("")
    monkeypatch.setattr(sys.stdin, "readline", edit)
    ended, path = push_file(YOUNG)
    assert (ended.code, path.read_text()) == (6, GROWN)
    assert "somebody changed it meanwhile; nothing was written" in ended.err


def test_files_that_are_none(derpctl, config, tmp_path, push_file):
    """3 where there is none, 7 where it is no text."""
    words = ("--config", config, "map", "push", "tailscale", "-y", "--policy")
    assert derpctl(*words, tmp_path / "none").code == 3
    (tmp_path / "junk").write_bytes(b"\xff")
    assert derpctl(*words, tmp_path / "junk").code == 7


# headscale.


@pytest.fixture
def push_headscale(derpctl, config, tmp_path):
    """Push to a file for headscale; give the path, too."""

    def run(*options, path=tmp_path / "derp.yaml", config=config):
        words = ("--config", config, "map", "push", "headscale", "--path", path)
        return derpctl(*words, *options), path

    return run


def test_headscale(push_headscale, derpctl, config):
    """A new file is for everybody, and is what `map export` prints."""
    ended, path = push_headscale()
    assert ended == (0, ADDED, f"derpctl: {path} is written\n")
    text = derpctl("--config", config, "map", "export", "-f", "headscale").out
    assert path.read_text() == text
    assert stat.S_IMODE(path.stat().st_mode) == 0o644


def test_headscale_reloads(push_headscale, tmp_path):
    """Only when the file was written; what the command prints is talk."""
    ran = tmp_path / "ran"
    command = f"sh -c 'echo went; echo x >> {ran}'"
    ended, path = push_headscale("--reload-cmd", command)
    assert (ended.code, ended.out, ran.read_text()) == (0, ADDED, "x\n")
    ended, path = push_headscale("--reload-cmd", command)
    assert (ended.code, ended.out, ran.read_text()) == (0, "", "x\n")
    assert ended.err == (
        f"derpctl: {path} has the map already; it is not written, and nothing is run\n"
    )


def test_headscale_replaces(push_headscale, tmp_path):
    """Mode stays, and the difference to what was there is said."""
    path = tmp_path / "derp.yaml"
    path.touch(mode=0o600)
    for text in ("regions: {900: {regionid: 900, nodes: []}}\n", ""):
        path.write_text(text)
        ended, _ = push_headscale()
        assert (ended.code, "region 900" in ended.out) == (0, True)
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize("text", ["[junk", '{"acls": []}', "regions: []"])
def test_headscale_over_what_is_no_map(push_headscale, tmp_path, text):
    """A mistaken path costs no file."""
    path = tmp_path / "derp.yaml"
    path.write_text(text)
    ended, _ = push_headscale("--yes")
    assert (ended.code, path.read_text()) == (6, text)
    assert "no map that headscale reads" in ended.err


def test_headscale_over_regions_of_others(push_headscale, tmp_path):
    """They would be lost, and so this is asked for."""
    path = tmp_path / "derp.yaml"
    text = "regions: {901: {regionid: 901, nodes: []}} # somebody else's\n"
    path.write_text(text)
    ended, _ = push_headscale()
    assert (ended.code, path.read_text()) == (6, text)
    assert "region 901 would be lost, and there is no terminal to ask at" in ended.err
    assert push_headscale("--yes")[0].code == 0


def test_headscale_command_is_run_again(push_headscale, tmp_path):
    """What failed is not forgotten: headscale would keep the old map for ever."""
    marks = tmp_path / "marks"
    job = f"sh -c 'echo x >> {marks}; test -e {tmp_path}/well'"
    assert push_headscale("--reload-cmd", job)[0].code == 9
    assert push_headscale("--reload-cmd", job)[0].code == 9
    (tmp_path / "well").touch()
    assert push_headscale("--reload-cmd", job)[0].code == 0
    ended, _ = push_headscale("--reload-cmd", job)
    assert (ended.code, "nothing is run" in ended.err) == (0, True)
    assert marks.read_text() == "x\n" * 3


def test_headscale_command_fails(push_headscale):
    """9: written, and not read yet."""
    ended, path = push_headscale("--reload-cmd", "sh -c 'exit 3'")
    assert (ended.code, path.exists()) == (9, True)
    assert ended.err.endswith(
        "derpctl: sh: ended with 3; the file is written; run the command by hand\n"
    )


@pytest.mark.parametrize("command", ["", "no-such-command-here", "'"])
def test_headscale_no_command(push_headscale, command):
    """2, before anything is written."""
    ended, path = push_headscale("--reload-cmd", command)
    assert (ended.code, path.exists()) == (2, False)


def test_headscale_cannot_write(push_headscale, tmp_path):
    """3, and what was there is there."""
    ended, _ = push_headscale(path=tmp_path / "none" / "derp.yaml")
    assert (ended.code, ended.out) == (3, ADDED)
    assert "none/derp.yaml: cannot be written: no such file or directory" in ended.err


def test_an_empty_map():
    """6: every client would lose its region."""
    with pytest.raises(CtlError) as found:
        not_empty(Published(DerpMap()))
    assert found.value.exit == Exit.REFUSED
    assert str(found.value).startswith("the map: no region is in it; clients would")


def test_a_map_that_breaks_a_rule(beside, configured, push_headscale, tmp_path):
    """7, and the file is as it was."""
    url = beside.start(admin(AdminStandIn(entry={"HostName": "a:1"})))
    ended, path = push_headscale(config=configured(_900a=url))
    assert (ended.code, path.exists()) == (7, False)
