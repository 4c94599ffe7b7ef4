"""The settings of `derpd`: those of a node, and where its region is recorded."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from derpnode.config import FilePath, NodeConfig, Section, read_config
from derpnode.errors import ConfigError


class RegistrySection(Section):
    """Where the members of the region are recorded."""

    file: FilePath | None = None
    """A YAML file that lists the nodes. Watched; an edit opens and closes links."""


class DaemonConfig(NodeConfig):
    """Settings of a node in a region."""

    registry: RegistrySection = RegistrySection()

    def problems(self) -> Iterator[ConfigError]:
        """Yield what is wrong between sections; each alone is already valid."""
        yield from super().problems()
        if self.mesh.key_file is not None:
            return
        for setting, wanted in (
            ("registry.file", self.registry.file),
            ("mesh.peers", self.mesh.peers),
        ):
            if wanted:
                yield ConfigError(
                    setting,
                    str(wanted),
                    reason="nodes mesh only with a key they share",
                    hint="set mesh.key_file; `derpctl key mesh generate` makes one",
                )


def load_daemon_config(
    path: Path | None, environ: Mapping[str, str], overrides: Sequence[str] = ()
) -> DaemonConfig:
    """Read the configuration of `derpd`; see `derpnode.config.read_config`.

    Raises:
        InvalidConfig: Something cannot be used; every problem is listed.
    """
    return read_config(DaemonConfig, path, environ, overrides)
