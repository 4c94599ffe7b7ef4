"""A `derpmesh.daemon` with faults, to be found before the real one."""

import os
from pathlib import Path

import pytest


FAKE = '''
"""Behaves as FAKE_DERPD says: a stand-in for derpd."""

import http.server, json, os, signal, socket, sys, time
import yaml

tree = yaml.safe_load(open(sys.argv[sys.argv.index("--config") + 1]))
how = os.environ["FAKE_DERPD"]
name, region = tree["node"]["name"], tree["region"]
derp = tree["derp"]["listen"][0]
if "--print-node" in sys.argv:
    print(f"- name: {name}")
    sys.exit()
print("fake", how, *sys.argv[3:], flush=True)
print("settings", *[key for key in os.environ if key.startswith("DERPD_")], flush=True)

if how == "dies":
    sys.exit(7)
if how == "port-taken":
    # Somebody else is faster, once.
    marker = tree["state_dir"] + ".taken"
    if not os.path.exists(marker):
        host, port = derp.rsplit(":", 1)
        if os.fork() == 0:
            thief = socket.create_server((host, int(port)))
            open(marker, "w").close()
            time.sleep(3)
            os._exit(0)
        while not os.path.exists(marker):
            time.sleep(0.01)
        sys.exit(1)
if how == "deaf":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
if how == "hangs":
    time.sleep(60)


class Admin(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path == "/readyz" and how == "unready":
            self.answer(503, "no certificate")
        elif self.path == "/readyz":
            self.answer(200, "ready")
        elif self.path == "/v1/links":
            self.answer(200, '{"items": []}')
        else:
            entry = {"Name": name, "RegionID": region["id"], "HostName": "127.0.0.1"}
            listeners = {"derp": [derp], "http": [], "stun": []}
            self.answer(200, json.dumps({"name": name, "region": region,
                "state": "serving", "map_entry": entry, "listeners": listeners}))

    def answer(self, status, text):
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_):
        pass


host, port = tree["admin"]["listen"][0].rsplit(":", 1)
http.server.HTTPServer((host, int(port)), Admin).serve_forever()
'''


EXTENDS = """
from pkgutil import extend_path

__path__ = extend_path(__path__, __name__)  # all but the daemon is the real one
"""


def fake_daemon(monkeypatch: pytest.MonkeyPatch, folder: Path, how: str) -> None:
    """Have the demo start a fake that behaves like this."""
    package = folder / "fake" / "derpmesh"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(EXTENDS)
    (package / "daemon.py").write_text(FAKE)
    path = os.pathsep.join([str(package.parent), os.environ.get("PYTHONPATH", "")])
    monkeypatch.setenv("PYTHONPATH", path)
    monkeypatch.setenv("FAKE_DERPD", how)
