"""A map as a local value of Terraform, for the `tailscale_acl` of its provider."""

from collections.abc import Sequence

from derpctl.map.canonical import revision
from derpctl.map.model import DerpMap
from derpctl.map.policy import policy_tree


_ESCAPES = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r", "\t": "\\t"}
"""All that HCL has. Source: its specification, "Template Expressions"."""

_INDENT = "  "

_HEAD = """\
# DERP map, revision {revision}. It becomes a part of the policy file by
#
#   resource "tailscale_acl" "policy" {{
#     acl = jsonencode(merge(local.policy, {{ derpMap = local.derp_map }}))
#   }}
#
# where local.policy has everything else.
"""


def terraform(derp_map: DerpMap, removed: Sequence[int] = ()) -> str:
    """Write a map as HCL, `local.derp_map`.

    Args:
        derp_map: What to write.
        removed: Regions of Tailscale's that clients shall not have.

    Raises:
        CannotCarry: The map has region scores; policy files have no place for them.
    """
    head = _HEAD.format(revision=revision(derp_map))
    body = _value({"derp_map": policy_tree(derp_map, removed)}, 0)
    return f"{head}locals {body}\n"


def _value(value: object, depth: int) -> str:
    indent, end = _INDENT * (depth + 1), _INDENT * depth
    match value:
        case dict():
            members = (
                f"{indent}{_key(str(name))} = {_value(item, depth + 1)}\n"
                for name, item in value.items()
            )
            return f"{{\n{''.join(members)}{end}}}"
        case list():
            items = (f"{indent}{_value(item, depth + 1)},\n" for item in value)
            return f"[\n{''.join(items)}{end}]"
        case str():
            return _quoted(value)
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case _:
            return repr(value)


def _key(name: str) -> str:
    return name if name.isidentifier() else _quoted(name)


def _quoted(text: str) -> str:
    found = "".join(_ESCAPES.get(sign) or _sign(sign) for sign in text)
    # `$${` is a literal `${`, whatever stands before it.
    return f'"{found.replace("${", "$${").replace("%{", "%%{")}"'


def _sign(sign: str) -> str:
    """Write what no editor shows by its number."""
    if sign.isprintable():
        return sign
    number = ord(sign)
    return f"\\u{number:04x}" if number < 1 << 16 else f"\\U{number:08x}"
