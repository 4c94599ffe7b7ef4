"""A step of a translation: who may use the relay."""

from urllib.parse import urlsplit

from derpmesh.images import golang
from derpmesh.images.draft import Draft, Remark
from derpmesh.images.families import Flag
from derpnode.config import AdmissionSection


CLIENTS = "/etc/derpmesh/clients"
TAILSCALED = "/var/run/tailscale/tailscaled.sock"
"""Files that are named where the variables name none."""


def admission(draft: Draft) -> None:
    """Say who may relay: derper asks tailscaled, a URL, both or nobody."""
    verifies = draft.read(
        Flag.VERIFY_CLIENTS, golang.boolean, default=draft.family.verifies
    )
    url = draft.text(Flag.VERIFY_URL)
    if verifies:
        draft.put("admission.tailscaled", [draft.text(Flag.SOCKET) or TAILSCALED])
        draft.remark(Flag.VERIFY_CLIENTS, "admission.tailscaled")
        draft.remark(Flag.SOCKET, "admission.tailscaled")
        if Flag.VERIFY_CLIENTS not in draft.said:
            name, text = draft.name(Flag.VERIFY_CLIENTS), "not set, which is true"
            draft.remarks.append(Remark(name, f"{text}: admission.tailscaled"))
    else:
        draft.remark(Flag.SOCKET, "left out: nobody asks tailscaled")
    has_url = bool(url) and _url(draft, url)
    if verifies and has_url:
        text = (
            "admission.urls; derper wants tailscaled to agree, and here either one"
            " admits; leave admission.tailscaled or admission.urls out, or keep both"
        )
        draft.refuse(Flag.VERIFY_URL, text)
    elif has_url:
        draft.remark(Flag.VERIFY_URL, "admission.urls")
        draft.remark(Flag.VERIFY_CLIENTS, "none: only admission.urls admits")
    elif not verifies and draft.relays:
        _open_relay(draft)
    _fail_open(draft)


def _url(draft: Draft, text: str) -> bool:
    """Put a URL to ask; what may be secret in it is not printed."""
    try:
        AdmissionSection(urls=[text])
    except ValueError:
        hint = "set admission.urls by hand"
        draft.refuse(Flag.VERIFY_URL, f"not an http:// or https:// URL; {hint}")
        return False
    url = urlsplit(text)
    may_be_secret = "@" in url.netloc or url.query or url.fragment
    if may_be_secret and not draft.in_place:
        host = url.netloc.rpartition("@")[2]
        shown = url._replace(netloc=host, query="", fragment="")
        draft.put("admission.urls", [shown.geturl()])
        reason = "its user or query may be a secret, and was left out of admission.urls"
        draft.refuse(Flag.VERIFY_URL, f"{reason}; put it back by hand")
    else:
        draft.put("admission.urls", [text])
    return True


def _open_relay(draft: Draft) -> None:
    """Refuse to be open to everybody, as these images are."""
    draft.put("admission.key_file", CLIENTS)
    said = "false" if Flag.VERIFY_CLIENTS in draft.said else "not set, which is false"
    draft.refuse(
        Flag.VERIFY_CLIENTS,
        f"{said}: an open relay carries strangers' traffic, so admission.key_file"
        f" is set; list your clients in {CLIENTS}, set admission.tailscaled or urls,"
        " or, if strangers are welcome, admission.mode: open and"
        " i_know_this_is_public: true",
    )


def _fail_open(draft: Draft) -> None:
    text = "while a URL is away, who was let in before stays (admission.grace)"
    has_url = bool(draft.text(Flag.VERIFY_URL))
    if draft.read(Flag.FAIL_OPEN, golang.boolean, default=False) and has_url:
        draft.refuse(Flag.FAIL_OPEN, f"no key: {text}, and strangers stay out")
    else:
        draft.remark(Flag.FAIL_OPEN, f"no key, it is always so: {text}")
