"""The `derp` block of headscale's own configuration, which names our map."""

import json

from derpctl.map.canonical import revision
from derpctl.map.model import DerpMap
from derpctl.map.policy import refuse_scores


DEFAULT_MAP = "https://controlplane.tailscale.com/derpmap/default"
"""Where headscale has Tailscale's own regions from, unless told otherwise."""

_SHUFFLED = "each update shuffles the nodes of a region and reconnects its clients"
_ONE = "true\n  update_frequency: 24h"
_MANY = f"false  # {_SHUFFLED};\n  # restart headscale after a change of the map"


def headscale_config(
    derp_map: DerpMap, *, url: str = "", file: str = "", only_ours: bool = False
) -> str:
    """Write the block for `config.yaml`.

    Args:
        derp_map: The map that headscale will find there.
        url: Where a server has it as JSON; empty if a file has it.
        file: Where headscale's machine has it as YAML, absolute; empty if a URL.
        only_ours: Leave Tailscale's regions out.

    Raises:
        CannotCarry: The map has region scores; headscale would drop them.
    """
    refuse_scores(derp_map, "what headscale reads")
    urls = [*([] if only_ours else [DEFAULT_MAP]), *([url] if url else [])]
    single = all(len(region.nodes) < 2 for region in derp_map.regions.values())  # noqa: PLR2004 - one has no order
    return (
        f"# For DERP map {revision(derp_map)}: this block belongs into config.yaml,"
        " in place of its own.\n"
        "derp:\n"
        "  server:\n"
        "    enabled: false\n"
        f"  urls:{_list(urls)}\n"
        f"  paths:{_list([file] if file else [])}\n"
        f"  auto_update_enabled: {_ONE if single else _MANY}\n"
    )


def _list(texts: list[str]) -> str:
    """Write a list of YAML; JSON's texts are YAML's."""
    if not texts:
        return " []"
    return "".join(f"\n    - {json.dumps(text)}" for text in texts)
