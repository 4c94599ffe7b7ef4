"""A configuration in the making, and what there is to say of where it is from."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, TypeVar

from derpmesh.images.families import Family, Flag


_Value = TypeVar("_Value")

Tree = dict[str, object]

STATE = "/var/lib/derpd"
"""What `state_dir` is unless it is set."""

IDENTITY = "/var/lib/derper/derper.key"
"""Where derper keeps its key, run by root, unless it is told."""


class Remark(NamedTuple):
    """What became of one variable."""

    variable: str
    """Its name; that of the image where no variable says it."""
    text: str
    """Our key, or why there is none and what to do instead. Never a secret."""

    def __str__(self) -> str:
        return f"{self.variable}: {self.text}"


@dataclass(slots=True)
class Draft:
    """What is known so far."""

    family: Family
    said: Mapping[Flag, tuple[str, str]]
    """Variable and value of each flag that was set."""
    in_place: bool = False
    """Whether `derpd` runs where the image would: nobody is shown the tree, so secrets
    stay in it, and files are taken over."""
    host: str = ""
    """What clients dial; empty if nothing says it."""
    port: int = 443
    """Where the relay listens."""
    relays: bool = True
    folder: str = ""
    """Where the image has its certificates; absolute."""
    tree: Tree = field(default_factory=dict)
    remarks: list[Remark] = field(default_factory=list)
    refusals: list[Remark] = field(default_factory=list)

    def put(self, dotted: str, value: object) -> None:
        """Set a key."""
        *parents, last = dotted.split(".")
        tree = self.tree
        for parent in parents:
            below = tree.setdefault(parent, {})
            assert isinstance(below, dict)  # noqa: S101 - keys here never clash
            tree = below
        tree[last] = value

    def text(self, flag: Flag) -> str:
        """Give what was said of a flag; empty if nothing was."""
        return self.said.get(flag, ("", ""))[1]

    def read(
        self, flag: Flag, read: Callable[[str], _Value], default: _Value
    ) -> _Value:
        """Read a flag; what cannot be read is refused, and the default holds."""
        if flag not in self.said:
            return default
        try:
            return read(self.text(flag))
        except ValueError as exc:
            self.refuse(flag, f"{exc}; set it by hand")
            return default

    def remark(self, flag: Flag, text: str) -> None:
        """Say what a flag is here, if it was set."""
        if flag in self.said:
            self.remarks.append(Remark(self.name(flag), text))

    def refuse(self, flag: Flag, text: str) -> None:
        """Say why a flag is nothing here, set or not."""
        self.refusals.append(Remark(self.name(flag), text))

    def name(self, flag: Flag) -> str:
        """Name the variable that sets a flag, or would."""
        if flag in self.said:
            return self.said[flag][0]
        names = [name for name, one in self.family.variables.items() if one is flag]
        return names[0] if names else self.family.name
