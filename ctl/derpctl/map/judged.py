"""What became of a map that was judged."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from derpctl.map.lint import Finding
from derpctl.map.model import DerpMap


@dataclass(frozen=True, slots=True)
class Judged:
    """A file, as far as it could be read."""

    form: str
    """`derpmap`, `acl` or `headscale`."""
    findings: Sequence[Finding]
    derp_map: DerpMap | None = None
    """What was read; None where Go would not read it."""
    text: str = field(default="", repr=False, compare=False)
    """The file, for the lines of what others find; empty where there is none."""
