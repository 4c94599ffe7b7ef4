"""Judges a map wherever it is: a file, a URL, the region itself."""

from dataclasses import replace
from pathlib import Path

from derpctl.cluster import published
from derpctl.config import load_ctl_config
from derpctl.map.judged import Judged
from derpctl.map.lint import Target, Terms, lint
from derpctl.map.source import judge
from derpctl.sources import Source


async def judge_source(
    source: Source,
    terms: Terms,
    config: Path,
    *,
    timeout: float,  # noqa: ASYNC109 - part of the error
) -> tuple[Judged, str]:
    """Get a map and apply the rules; also say why it may not be the last word.

    What the region itself publishes has no text, and so its findings no line.

    Args:
        source: Where it is.
        terms: What the operator says of it.
        config: Where derpctl's configuration is; only `cluster` reads it.
        timeout: Seconds that a node, or a URL, may take.

    Raises:
        CtlError: There is none to be had.
    """
    if source.has_text:
        text, is_yaml = await source.read(timeout=timeout)
        return judge(text, is_yaml=is_yaml, terms=terms), ""
    target = terms.target or Target.TAILSCALE
    terms = replace(terms, target=target)
    if not source.is_cluster:
        derp_map = await source.get(config, timeout=timeout)
        return Judged("derpmap", lint(derp_map, terms), derp_map), ""
    found = await published(load_ctl_config(config), timeout=timeout)
    findings = lint(found.derp_map, terms)
    stale = found.stale and f"{found.stale}; this is as {found.source} has it"
    return Judged("derpmap", findings, found.derp_map), stale
