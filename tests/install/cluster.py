"""A server on loopback that is to Helm a cluster with some objects in it."""

import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import yaml


KINDS: Mapping[str, Mapping[str, str]] = {
    "v1": {
        "ConfigMap": "configmaps",
        "Pod": "pods",
        "Secret": "secrets",
        "Service": "services",
        "ServiceAccount": "serviceaccounts",
    },
    "apps/v1": {"StatefulSet": "statefulsets"},
    "policy/v1": {"PodDisruptionBudget": "poddisruptionbudgets"},
    "rbac.authorization.k8s.io/v1": {
        "ClusterRole": "clusterroles",
        "ClusterRoleBinding": "clusterrolebindings",
    },
}
"""What such a cluster knows: as much as a rendering of the chart has."""


@contextmanager
def cluster(objects: Mapping[str, object], folder: Path) -> Iterator[dict[str, str]]:
    """Serve objects by their path; gives the environment in which Helm finds it."""
    pages = {**_discovery(), **objects}

    class Answer(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            found = pages.get(self.path.partition("?")[0])
            status = 200 if found is not None else 404
            gone = {"kind": "Status", "apiVersion": "v1", "status": "Failure"}
            body = json.dumps(found or {**gone, "reason": "NotFound", "code": 404})
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, *_words: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        path = folder / "kubeconfig"
        path.write_text(yaml.safe_dump(_kubeconfig(server.server_port)))
        yield {"KUBECONFIG": str(path)}
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _kubeconfig(port: int) -> object:
    here = {"cluster": "here", "user": "me"}
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [
            {"name": "here", "cluster": {"server": f"http://127.0.0.1:{port}"}}
        ],
        "contexts": [{"name": "here", "context": here}],
        "users": [{"name": "me", "user": {}}],
        "current-context": "here",
    }


def _discovery() -> dict[str, object]:
    """Say which kinds there are."""
    groups = []
    pages: dict[str, object] = {
        "/version": {"major": "1", "minor": "34", "gitVersion": "v1.34.0"},
        "/api": {"kind": "APIVersions", "versions": ["v1"]},
    }
    for version, kinds in KINDS.items():
        group, slash, short = version.rpartition("/")
        pages[f"/apis/{version}" if slash else f"/api/{version}"] = {
            "kind": "APIResourceList",
            "groupVersion": version,
            "resources": [
                {
                    "name": plural,
                    "singularName": kind.lower(),
                    "namespaced": not kind.startswith("Cluster"),
                    "kind": kind,
                    "verbs": ["get", "list", "create", "patch"],
                }
                for kind, plural in kinds.items()
            ],
        }
        if slash:
            here = {"groupVersion": version, "version": short}
            groups.append({"name": group, "versions": [here], "preferredVersion": here})
    pages["/apis"] = {"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}
    return pages
