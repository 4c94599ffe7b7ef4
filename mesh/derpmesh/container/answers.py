"""Which keys answer what an image's variables leave open. Pure.

A variable that we do not do as the image does is refused, unless a key of ours says
what is to be instead; then whatever the variable would have meant for that key is gone.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from derpmesh.images import Remark
from derpmesh.images.families import FLAGS, Flag
from derpnode.config import ENVIRONMENT_PREFIX
from derpnode.errors import NodeError


Tree = dict[str, object]

_KEYS: Mapping[Flag, str] = {
    Flag.HOSTNAME: "node.host",
    Flag.ADDRESS: "derp.listen",
    Flag.PORT: "derp.listen",
    Flag.HTTP_PORT: "http",
    Flag.STUN: "stun",
    Flag.STUN_PORT: "stun",
    Flag.CERT_MODE: "tls",
    Flag.VERIFY_CLIENTS: "admission",
    Flag.VERIFY_URL: "admission",
    Flag.FAIL_OPEN: "admission.grace",
    Flag.MESH_WITH: "mesh.peers",
    Flag.MESH_KEY: "mesh.key_file",
    Flag.DERP: "derp.enabled",
    Flag.HOME: "derp.home",
    Flag.SECRETS_URL: "mesh.key_file",
    Flag.BOOTSTRAP: "bootstrap_dns",
    Flag.ACCEPT_LIMIT: "limits.accept_rate",
    Flag.ACCEPT_BURST: "limits.accept_burst",
    Flag.KEEPALIVE: "limits.tcp_keepalive",
    Flag.USER_TIMEOUT: "limits.tcp_user_timeout",
    Flag.WRITE_TIMEOUT: "limits.write_timeout",
    Flag.AUTH_KEY: "admission",
}
"""What to set instead; a flag that is not here has no key, and must be left out."""

_VARIABLES = {
    "http": "DERPD_HTTP__LISTEN",
    "stun": "DERPD_STUN__LISTEN",
    "tls": "DERPD_TLS__MODE, or DERPD_TLS__CERTIFICATE and DERPD_TLS__KEY",
    "admission": "DERPD_ADMISSION__KEY_FILE, DERPD_ADMISSION__TAILSCALED,"
    " DERPD_ADMISSION__URLS or DERPD_ADMISSION__MODE",
    "bootstrap_dns": "DERPD_BOOTSTRAP_DNS__NAMES",
}
"""Of keys that are sections: what is usually set in them."""


class Open(NamedTuple):
    """Something that is refused until somebody acts."""

    variable: str
    text: str
    """Why; never a value that may be secret."""
    remedy: str

    def __str__(self) -> str:
        return f"{self.variable}: {self.text}; {self.remedy}"


@dataclass(eq=False)
class Unanswered(NodeError):
    """Variables of another image mean what we do not do; nothing was started."""

    problems: Sequence[Open]

    def __str__(self) -> str:
        return "\n".join(map(str, self.problems))


def unanswered(
    refusals: Sequence[Remark], environ: Mapping[str, str], tree: Tree
) -> list[Open]:
    """Give the refusals that no key of ours answers.

    Args:
        refusals: What a translation refused.
        environ: Where our keys are set.
        tree: The translation; what is answered is taken out of it.
    """
    found = []
    for refusal in refusals:
        key = key_of(refusal.variable)
        if key is None:
            found.append(Open(*refusal, "remove the variable"))
        elif said_of(environ, key):
            _drop(tree, key)
        else:
            remedy = f"or set {_VARIABLES.get(key) or _variable(key)}"
            found.append(Open(*refusal, remedy))
    return found


def key_of(variable: str) -> str | None:
    """Name the key that says what a variable of an image says, if there is one."""
    flag = FLAGS.get(variable)
    return _KEYS.get(flag) if flag is not None else None


def said_of(environ: Mapping[str, str], key: str) -> bool:
    """Tell whether a variable of ours sets a key, or one below it."""
    said = {
        name.removeprefix(ENVIRONMENT_PREFIX).lower().replace("__", ".")
        for name, value in environ.items()
        if name.startswith(ENVIRONMENT_PREFIX) and value
    }
    return any(one == key or one.startswith(f"{key}.") for one in said)


def _variable(key: str) -> str:
    return f"{ENVIRONMENT_PREFIX}{key.upper().replace('.', '__')}"


def _drop(tree: Tree, key: str) -> None:
    *parents, last = key.split(".")
    for parent in parents:
        below = tree.get(parent)
        if not isinstance(below, dict):
            return
        tree = below
    tree.pop(last, None)
