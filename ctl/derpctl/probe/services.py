"""Probes what a node does beside relaying: latency check, captive portal, STUN."""

from collections.abc import Mapping

from derpctl.probe import stun
from derpctl.probe.record import Record
from derpctl.probe.target import Target
from derpnode.client import Answer, Relay, UpgradeFailed


_LATENCY_PATH = "/derp/latency-check"
_PORTAL_PATH = "/generate_204"
_OK = 200
_NO_CONTENT = 204


async def latency_check(record: Record, relay: Relay, within: float) -> None:
    """Ask what clients without UDP measure by. Source: ``netcheck.go``."""
    async with record.check("latency-check") as draft:
        answer = await _get(relay, _LATENCY_PATH, {}, within)
        if answer.status != _OK:
            reason = f"answered {answer.status} to {_LATENCY_PATH}, not {_OK}"
            hint = "clients without UDP measure by it: let it through"
            raise UpgradeFailed(str(relay), reason, hint)
        draft.detail = f"{answer.status} {answer.reason}"


async def captive_portal(
    record: Record, target: Target, ip: str | None, within: float
) -> None:
    """Check that the plain HTTP port echoes a challenge.

    Clients ask by IPv4 alone. Source: tailscale ``net/captivedetection``.
    """
    port = target.http_port
    if port is None or ip is None:
        why = "no plain HTTP port is known" if ip is not None else "no IPv4 address"
        record.skip("captive-portal", why)
        return
    async with record.check("captive-portal") as draft:
        plain, challenge = Relay(ip, port, None), f"ts_{ip}"
        headers = {"X-Tailscale-Challenge": challenge}
        answer = await _get(plain, _PORTAL_PATH, headers, within)
        echoed = answer.headers.get("x-tailscale-response", "nothing")
        if answer.status != _NO_CONTENT or echoed != f"response {challenge}":
            reason = f"answered {answer.status} and {echoed!r}, not the challenge"
            hint = "clients take this for a captive portal: unset CanPort80"
            raise UpgradeFailed(str(plain), reason, hint)
        draft.detail = "204, the challenge came back"


async def stun_check(
    record: Record, target: Target, addresses: Mapping[int, str | None], within: float
) -> None:
    """Ask by both families how we look from there."""
    for family, ip in addresses.items():
        layer = f"stun{family}"
        if ip is None or target.stun_port is None:
            no_port = "no STUN port is known"
            record.skip(layer, no_port if ip else f"no IPv{family} address")
            continue
        async with record.check(layer) as draft:
            found = await stun.ask(ip, target.stun_port, within=within)
            draft.seconds = found.seconds
            draft.detail = f"from there we are {found.ip}, port {found.port}"
            draft.values = {"mapped_ip": str(found.ip), "mapped_port": found.port}


async def _get(
    relay: Relay, path: str, headers: Mapping[str, str], within: float
) -> Answer:
    stream = await relay.open(within=within)
    try:
        closing = {"Connection": "close", **headers}
        return await stream.get(path, closing, within=within)
    finally:
        await stream.close()
