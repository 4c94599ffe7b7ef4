"""Asks those who hand the map on, and those who got it, for what they have."""

import json
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from derpctl.errors import CtlError
from derpctl.exits import Exit
from derpctl.map.errors import BadMap
from derpctl.map.model import DerpMap, Node, Region
from derpctl.map.read import read_derp_map
from derpctl.push.credentials import find_credentials
from derpctl.push.tailnet import Tailnet, api_url
from derpctl.sources.download import Download
from derpctl.texts import is_url


CLIENT = "client"
HEADSCALE = "headscale:"
TAILSCALE = "tailscale:"

_SOCKET = "/var/run/tailscale/tailscaled.sock"
_LOCAL_API = "http://local-tailscaled.sock/localapi/v0/derpmap"
"""Source: tailscale ``ipn/localapi/localapi.go``, ``serveDERPMap``."""

_API = "https://api.tailscale.com"


async def of_client(name: str, *, timeout: float) -> str:  # noqa: ASYNC109 - part of the error
    """Get the map that the client on this machine has.

    Args:
        name: `client`, or `client:SOCKET`.
        timeout: Seconds that it may take.

    Raises:
        CtlError: It is not to be had.
    """
    socket = name.removeprefix(CLIENT).removeprefix(":") or _SOCKET
    hint = f"is tailscaled running, at {socket}, and may you use that?"
    url = Download(_LOCAL_API, name, timeout, hint, up=hint, socket=Path(socket))
    text = await url.text()
    if text.strip() == "null":
        reason, wait = "it has no map yet", "log it in first: tailscale up"
        raise CtlError(name, reason, wait, Exit.NOT_FOUND)
    return text


async def of_tailnet(name: str, *, timeout: float) -> str:  # noqa: ASYNC109 - part of the error
    """Get the policy of a tailnet.

    Args:
        name: `tailscale:TAILNET`; who asks is in the environment, as for `map push`.
        timeout: Seconds that it may take.

    Raises:
        CtlError: It is not to be had.
    """
    tailnet = name.removeprefix(TAILSCALE) or "-"
    client = os.environ.get("TS_OAUTH_CLIENT_ID")
    credentials = find_credentials(
        key_file=None, oauth_client=client, oauth_secret_file=None, environ=os.environ
    )
    api = api_url(os.environ.get("TS_API_URL", _API))
    return (await Tailnet(api, tailnet, credentials, timeout).read()).text


async def of_headscale(name: str, *, timeout: float) -> DerpMap:  # noqa: ASYNC109 - part of the error
    """Get what a headscale hands out, as far as it shows: see `as_headscale_shows`.

    Args:
        name: `headscale:URL`, that of its metrics listener.
        timeout: Seconds that it may take.

    Raises:
        CtlError: It is not to be had.
    """
    base = name.removeprefix(HEADSCALE)
    if not is_url(base):
        what = "give headscale:http://HOST:PORT, that of its metrics_listen_addr"
        raise CtlError(name, "no URL in it", what, Exit.USAGE)
    url = f"{base.rstrip('/')}/debug/derp"
    hint = "give the URL of its metrics_listen_addr"
    headers = {"Accept": "application/json"}
    page = Download(url, name, timeout, hint=hint, headers=headers)
    text = await page.text()
    try:
        return _read_page(json.loads(text))
    except (ValueError, BadMap) as exc:
        raise CtlError(name, f"no such page: {exc}", hint, Exit.INVALID) from exc


def as_headscale_shows(derp_map: DerpMap) -> DerpMap:
    """Leave out what headscale's page does not show.

    It has the regions' names, and of nodes name, host name and ports. Source:
    headscale 0.29.2 ``hscontrol/state/debug.go``, ``DebugDERPInfo``.
    """
    return DerpMap(
        regions={
            number: Region(
                region_id=number,
                region_name=region.region_name,
                nodes=tuple(map(_as_shown, region.nodes)),
            )
            for number, region in derp_map.regions.items()
        }
    )


def _as_shown(node: Node) -> Node:
    bare = Node(name=node.name, region_id=node.region_id, host_name=node.host_name)
    return replace(bare, derp_port=node.derp_port, stun_port=node.stun_port)


def _read_page(page: object) -> DerpMap:
    """Read what headscale shows.

    Raises:
        BadMap: It is something else.
    """
    if not isinstance(page, Mapping) or "configured" not in page:
        raise BadMap("", page, "not headscale's page of its map")
    regions = page.get("regions") or {}
    if not isinstance(regions, Mapping):
        raise BadMap("regions", regions, "not an object")
    return read_derp_map(
        {"Regions": {key: _region(one) for key, one in regions.items()}}
    )


def _region(shown: object) -> object:
    if not isinstance(shown, Mapping):
        return shown
    number, nodes = shown.get("region_id"), shown.get("nodes")
    return {
        "RegionID": number,
        "RegionName": shown.get("region_name"),
        "Nodes": [_node(number, one) for one in nodes]
        if isinstance(nodes, list)
        else nodes,
    }


def _node(region: object, shown: object) -> object:
    if not isinstance(shown, Mapping):
        return shown
    return {
        "RegionID": region,
        "Name": shown.get("name"),
        "HostName": shown.get("hostname"),
        "DERPPort": shown.get("derp_port"),
        "STUNPort": shown.get("stun_port"),
    }
