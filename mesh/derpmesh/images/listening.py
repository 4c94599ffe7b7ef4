"""Steps of a translation: who the node is, and where it listens."""

from derpmesh.images import golang
from derpmesh.images.draft import STATE, Draft
from derpmesh.images.families import Flag, names_a_server
from derpnode.config import NodeSection, parse_address


_PLACEHOLDERS = frozenset({"your-hostname.com", "127.0.0.1"})
"""What images have there until somebody sets it."""


def host(draft: Draft) -> None:
    """Say what clients dial."""
    flag = Flag.HOSTNAME
    host, name = draft.text(flag), draft.name(flag)
    hint = "set node.host to the name or the address that clients dial"
    if not host or host in _PLACEHOLDERS:
        draft.refuse(flag, f"nothing says what clients dial; {hint}")
        return
    if name == "HOSTNAME" and not names_a_server(host):
        reason = (
            f"{host!r:.80} is what a container runtime sets, and no clients dial it"
        )
        draft.refuse(flag, f"{reason}; {hint}")
        return
    try:
        NodeSection(host=host)
    except ValueError:
        reason = f"{host!r:.80} is no DNS name and no IP address that can be dialled"
        draft.refuse(flag, f"{reason}; a port does not belong there; {hint}")
        return
    draft.host = host
    draft.put("node.host", host)
    draft.remark(flag, "node.host")


def listeners(draft: Draft) -> None:
    """Say where it listens; derper has one address for all of them."""
    address = draft.read(Flag.ADDRESS, parse_address, None)
    number = draft.read(Flag.PORT, golang.port, None)
    host = bracketed(address.host) if address is not None else ""
    if address is not None:
        draft.port = address.port
        draft.put("derp.listen", [str(address)])
        draft.remark(Flag.ADDRESS, "derp.listen")
        draft.remark(Flag.PORT, f"left out: {draft.name(Flag.ADDRESS)} says it")
    elif number is not None:
        draft.port = number
        draft.put("derp.listen", [f":{number}"])
        draft.remark(Flag.PORT, "derp.listen")
    _http(draft, host)
    _stun(draft, host)


def _http(draft: Draft, host: str) -> None:
    flag = Flag.HTTP_PORT
    if draft.text(flag) == "-1":
        draft.put("http.enabled", value=False)
        draft.remark(flag, "http.enabled")
        return
    number = draft.read(flag, golang.port, None)
    if number is not None or host:
        draft.put("http.listen", [f"{host}:{80 if number is None else number}"])
    if number is not None:
        draft.remark(flag, "http.listen")


def _stun(draft: Draft, host: str) -> None:
    if not draft.read(Flag.STUN, golang.boolean, default=True):
        draft.put("stun.enabled", value=False)
    draft.remark(Flag.STUN, "stun.enabled")
    number = draft.read(Flag.STUN_PORT, golang.port, None)
    if number is not None or host:
        draft.put("stun.listen", [f"{host}:{3478 if number is None else number}"])
    if number is not None:
        draft.remark(Flag.STUN_PORT, "stun.listen")


def bracketed(host: str) -> str:
    """Write a host as it stands before a port."""
    return f"[{host}]" if ":" in host else host


def relay(draft: Draft) -> None:
    """Say what it serves, and where its own files are."""
    draft.relays = draft.read(Flag.DERP, golang.boolean, default=True)
    if not draft.relays:
        draft.put("derp.enabled", value=False)
    draft.remark(Flag.DERP, "derp.enabled")
    home = draft.text(Flag.HOME)
    if home == "blank" or home.startswith(("http://", "https://")):
        draft.put("derp.home", home)
        draft.remark(Flag.HOME, "derp.home")
    elif home:
        hint = "set derp.home to blank, default or a URL"
        draft.refuse(Flag.HOME, f"neither blank nor a URL; {hint}")
    if draft.in_place:
        draft.remark(Flag.CONFIG, "derper.key in state_dir")
    elif Flag.CONFIG in draft.said:
        draft.put("state_dir", STATE)
        text = f"state_dir: copy this file to {STATE}/derper.key, mode 0600, to keep it"
        draft.remark(Flag.CONFIG, text)
