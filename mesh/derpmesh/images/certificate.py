"""A step of a translation: what clients know the node by."""

from derpmesh.images.draft import STATE, Draft, Remark
from derpmesh.images.families import Flag
from derpnode.config import is_ip


_TLS_PORT = 443
_OWN = "none: state_dir has what derpd makes itself"
_HOME = "/root"  # where derper runs in the image that has relative paths


def certificate(draft: Draft) -> None:
    """Say what the certificate is from."""
    flag, mode = Flag.CERT_MODE, draft.text(Flag.CERT_MODE) or draft.family.cert_mode
    folder = draft.text(Flag.CERT_DIR) or draft.family.cert_dir
    if not folder.startswith("/"):
        folder = f"{_HOME}/{folder}"
    draft.folder = folder.rstrip("/") or "/"
    if mode not in ("manual", "letsencrypt", "gcp"):
        taken = "" if draft.in_place else "; it is taken as manual"
        draft.refuse(flag, f"{mode!r:.40} is no mode of derper's{taken}")
    if mode in ("letsencrypt", "gcp") and draft.port != _TLS_PORT:
        draft.put("tls.mode", "off")
        text = "tls.mode: off, as derper serves no TLS on another port than 443 then"
        draft.remarks.append(Remark(draft.name(flag), text))
    elif mode in ("letsencrypt", "gcp"):
        _automatic(draft, mode)
    elif not draft.host or is_ip(draft.host):
        draft.put("tls.mode", "self-signed")
        _keep_pin(draft, folder)
    else:
        _files(draft, folder.rstrip("/"))
        draft.remark(flag, "tls.certificate and tls.key")
        draft.remark(Flag.CERT_DIR, "tls.certificate and tls.key")
        return
    text = "state_dir" if draft.in_place else _OWN
    draft.remark(Flag.CERT_DIR, text)


def _automatic(draft: Draft, mode: str) -> None:
    """Refuse to get certificates; name where somebody else puts them."""
    said = "" if Flag.CERT_MODE in draft.said else "not set, which is "
    reason = f"{said}{mode}: derpd gets no certificates itself"
    if not draft.host or is_ip(draft.host):
        draft.put("tls.mode", "self-signed")
        text = f"{reason}; tls.mode: self-signed makes one, and the map needs its pin"
        draft.refuse(Flag.CERT_MODE, text)
        return
    _files(draft, "/etc/derpmesh")
    hint = "have certbot or lego put them where tls.certificate and tls.key say"
    draft.refuse(Flag.CERT_MODE, f"{reason}; {hint}")


def _keep_pin(draft: Draft, folder: str) -> None:
    if draft.in_place:
        draft.remark(Flag.CERT_MODE, "tls.mode: self-signed, which clients pin")
        return
    name = (draft.host or "HOST").replace(":", "")
    text = (
        f"tls.mode: copy {name}.crt and .key from {folder} to {STATE} to keep the pin"
    )
    draft.remarks.append(Remark(draft.name(Flag.CERT_MODE), text))


def _files(draft: Draft, folder: str) -> None:
    draft.put("tls.certificate", f"{folder}/{draft.host}.crt")
    draft.put("tls.key", f"{folder}/{draft.host}.key")
