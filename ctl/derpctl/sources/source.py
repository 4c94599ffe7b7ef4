"""Gets a map from wherever an operator has one, by its name."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from derpctl.cluster import published
from derpctl.config import load_ctl_config
from derpctl.errors import CtlError
from derpctl.exits import Exit
from derpctl.export import check
from derpctl.map.errors import BadMap
from derpctl.map.model import DerpMap
from derpctl.map.source import read_any
from derpctl.sources import holders
from derpctl.sources.download import Download, parts_of, shown_url
from derpctl.texts import CLUSTER, REVISION, is_url, is_yaml, read_text
from derpctl.wanted.apply import map_of_wanted
from derpctl.wanted.history import revision_of


@dataclass(frozen=True, slots=True)
class Source:
    """One place to get a map from."""

    name: str
    """A path, `-`, an http:// or https:// URL, `cluster`, `rev:REVISION`, `client`,
    `client:SOCKET`, `tailscale:TAILNET` or `headscale:URL`."""

    @property
    def shown(self) -> str:
        """Its name as others may see it: a URL without who asks."""
        if self._is_headscale:
            url = shown_url(self.name.removeprefix(holders.HEADSCALE))
            return f"{holders.HEADSCALE}{url}"
        return shown_url(self.name) if is_url(self.name) else self.name

    @property
    def is_cluster(self) -> bool:
        """Whether the region itself is asked."""
        return self.name == CLUSTER

    @property
    def has_text(self) -> bool:
        """Whether it is kept as text, which has lines."""
        return not (
            self.is_cluster or self._is_headscale or self.name.startswith(REVISION)
        )

    @property
    def shuffles(self) -> bool:
        """Whether it gives nodes an order of its own."""
        return self._is_headscale

    async def get(
        self,
        config: Path,
        *,
        timeout: float,  # noqa: ASYNC109 - part of the error
        remark: Callable[[str], None] = lambda _: None,
    ) -> DerpMap:
        """Get the map.

        Args:
            config: Where derpctl's configuration is; only `cluster` and `rev:` read it.
            timeout: Seconds that a node, or a URL, may take.
            remark: Told why the map may not be the last word.

        Raises:
            CtlError: There is none, or it is no map.
        """
        if self.is_cluster:
            return await _of_cluster(config, timeout, remark)
        if self.name.startswith(REVISION):
            text = self.name.removeprefix(REVISION)
            return map_of_wanted(await revision_of(load_ctl_config(config), text))
        if self._is_headscale:
            return await holders.of_headscale(self.name, timeout=timeout)
        text, named = await self.read(timeout=timeout)
        try:
            return read_any(text, is_yaml=named)
        except BadMap as exc:
            hint = "give DERPMap JSON, a policy, or headscale's YAML"
            raise CtlError(self.shown, str(exc), hint, Exit.INVALID) from exc

    async def read(self, *, timeout: float) -> tuple[str, bool]:  # noqa: ASYNC109 - part of the error
        """Get the text; also say whether its name says that it is YAML.

        Not for `cluster`, revisions and headscale, which have none.

        Args:
            timeout: Seconds that a URL may take.

        Raises:
            CtlError: There is none.
        """
        if is_url(self.name):
            download = Download(self.name, self.shown, timeout)
            return await download.text(), is_yaml(parts_of(self.name).path)
        if self.name == holders.CLIENT or self.name.startswith(f"{holders.CLIENT}:"):
            return await holders.of_client(self.name, timeout=timeout), False
        if self.name.startswith(holders.TAILSCALE):
            return await holders.of_tailnet(self.name, timeout=timeout), False
        return read_text(self.name), is_yaml(self.name)

    def sees(self, derp_map: DerpMap) -> DerpMap:
        """Give as much of a map as this one would show of it."""
        return holders.as_headscale_shows(derp_map) if self._is_headscale else derp_map

    @property
    def _is_headscale(self) -> bool:
        return self.name.startswith(holders.HEADSCALE)


async def _of_cluster(
    config: Path,
    timeout: float,  # noqa: ASYNC109 - part of the error
    remark: Callable[[str], None],
) -> DerpMap:
    """Get what `map export` would print; it refuses what that refuses."""
    found = await published(load_ctl_config(config), timeout=timeout)
    if found.stale:
        remark(f"{found.stale}; this is as {found.source} has it")
    check(found.derp_map)
    return found.derp_map
