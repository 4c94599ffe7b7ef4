"""An HTTPS server that answers as the API of Kubernetes does, on loopback."""

import json
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from aiohttp import web

from derpctl.authority import Authority


TOKEN = "eyJhbGciOiJSUzI1NiJ9.e30.c2ln"


class KubeApi:
    """Has objects, by path; each answer is noted."""

    def __init__(self, account: Path) -> None:
        self.account = account
        """As the kubelet mounts it: `token` and `ca.crt`."""

        self.url = ""
        self.objects: dict[str, object] = {}
        """A list is answered item by item, the last one for good."""

        self.asked: list[str] = []

    async def answer(self, request: web.Request) -> web.Response:
        """Give an object, or a Status as the API has it."""
        self.asked.append(request.path)
        if request.headers.get("Authorization") != f"Bearer {TOKEN}":
            return _status(401, "Unauthorized", "Unauthorized")
        found = self.objects.get(request.path)
        if isinstance(found, list):
            found = found.pop(0) if len(found) > 1 else found[0]
        if found is None:
            return _status(404, "NotFound", f'"{request.path}" not found')
        if isinstance(found, int):
            return _status(found, "Forbidden", f'cannot get "{request.path}"')
        return web.json_response(found)


@asynccontextmanager
async def kube_api(folder: Path) -> AsyncIterator[KubeApi]:
    """Serve; the account of a pod is in the folder."""
    authority = Authority("kubernetes")
    pair = authority.issue(["127.0.0.1", "kubernetes.default.svc"])
    (folder / "ca.crt").write_bytes(authority.pem)
    (folder / "token").write_text(TOKEN)
    (folder / "pair.pem").write_bytes(pair.certificate + pair.key)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(folder / "pair.pem")
    api = KubeApi(folder)
    app = web.Application()
    app.router.add_get("/{path:.*}", api.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context)
    await site.start()
    port = runner.addresses[0][1]
    api.url = f"https://127.0.0.1:{port}"
    try:
        yield api
    finally:
        await runner.cleanup()


def service(*, ingress=(), cluster=("10.96.3.7",), ports=()) -> object:
    """Make a Service as `kubectl get service -o json` shows it."""
    return {
        "kind": "Service",
        "apiVersion": "v1",
        "metadata": {"name": "derp-0", "namespace": "net", "uid": "0b4f"},
        "spec": {
            "type": "LoadBalancer",
            "clusterIP": cluster[0] if cluster else "None",
            "clusterIPs": list(cluster) or ["None"],
            "externalTrafficPolicy": "Local",
            "ports": [
                {"name": name, "port": 443, "protocol": "TCP", "nodePort": number}
                for name, number in ports
            ],
        },
        "status": {"loadBalancer": {"ingress": list(ingress)} if ingress else {}},
    }


def machine(*addresses: tuple[str, str]) -> object:
    """Make a Node as `kubectl get node -o json` shows it."""
    found = [{"type": kind, "address": text} for kind, text in addresses]
    found.append({"type": "Hostname", "address": "metal-1"})
    return {
        "kind": "Node",
        "apiVersion": "v1",
        "metadata": {"name": "metal-1"},
        "spec": {"podCIDR": "10.244.0.0/24"},
        "status": {"addresses": found, "nodeInfo": {"kubeletVersion": "v1.34.1"}},
    }


def _status(code: int, reason: str, message: str) -> web.Response:
    body = {
        "kind": "Status",
        "apiVersion": "v1",
        "status": "Failure",
        "message": message,
        "reason": reason,
        "code": code,
    }
    return web.Response(
        status=code, text=json.dumps(body), content_type="application/json"
    )
