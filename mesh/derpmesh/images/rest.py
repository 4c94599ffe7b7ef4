"""Steps of a translation: limits, names, and what there is no key for."""

import math

from derpmesh.images import golang
from derpmesh.images.draft import Draft
from derpmesh.images.families import Flag
from derpnode.config import NodeSection


_LARGEST = 1 << 31  # derper's "no limit" is the largest number that it knows


def limits(draft: Draft) -> None:
    """Say what clients may cost."""
    for flag, key in (
        (Flag.ACCEPT_LIMIT, "limits.accept_rate"),
        (Flag.ACCEPT_BURST, "limits.accept_burst"),
    ):
        found = draft.read(flag, golang.rate, None)
        if found is not None:
            draft.put(key, 0 if found >= _LARGEST else max(1, math.ceil(found)))
            draft.remark(flag, key if found < _LARGEST else f"{key}: 0 is no limit")
    for flag, key, most in (
        (Flag.KEEPALIVE, "limits.tcp_keepalive", 86_400),
        (Flag.USER_TIMEOUT, "limits.tcp_user_timeout", 3_600),
        (Flag.WRITE_TIMEOUT, "limits.write_timeout", 3_600),
    ):
        seconds = draft.read(flag, golang.seconds, None)
        if seconds is not None:
            draft.put(key, min(seconds, most))
            draft.remark(flag, key if seconds <= most else f"{key}: at most {most} s")


def names(draft: Draft) -> None:
    """Say which names it answers for when DNS is dead."""
    wanted = [one.strip() for one in draft.text(Flag.BOOTSTRAP).split(",")]
    names = []
    for name in filter(None, wanted):
        try:
            NodeSection(host=name)
        except ValueError:
            left_out = "" if draft.in_place else ", and left out"
            draft.refuse(Flag.BOOTSTRAP, f"{name!r:.80} is no DNS name{left_out}")
        else:
            names.append(name)
    if names:
        draft.put("bootstrap_dns.names", names)
        draft.remark(Flag.BOOTSTRAP, "bootstrap_dns.names")


def without_a_key(draft: Draft) -> None:
    """Say what to do instead of what derpd has not."""
    secrets = "derpd asks no server of secrets; have it put the mesh key into a file"
    for flag in (Flag.SECRETS_PREFIX, Flag.SECRETS_CACHE):
        draft.remark(flag, "left out: it is about a server of secrets")
    for flag, text in (
        (Flag.SECRETS_URL, f"no key: {secrets}, mesh.key_file"),
        (Flag.UNPUBLISHED, "no key: derpd answers for bootstrap_dns.names only"),
        (
            Flag.AUTH_KEY,
            "no key: no tailscaled runs inside; run one beside it and name its socket"
            " in admission.tailscaled",
        ),
    ):
        if flag in draft.said:
            draft.refuse(flag, text)
    draft.remark(Flag.TIME_ZONE, "no key: logs are in UTC")
    for flag, text in (
        (Flag.DEV, "no key: set derp.listen to 127.0.0.1:3340 and tls.mode to off"),
        (Flag.VERSION, "no key: run derpd --version"),
    ):
        if draft.read(flag, golang.boolean, default=False):
            draft.refuse(flag, text)
        else:
            draft.remark(flag, "no key: nothing is to be done")
