"""Puts the map of the region where clients get theirs from, judged before."""

import difflib
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from derpctl.cluster import Published, published
from derpctl.config import load_ctl_config
from derpctl.errors import CtlError
from derpctl.exits import Exit
from derpctl.files import read_whole, replace_whole
from derpctl.map.diff import diff
from derpctl.map.errors import BadMap, CannotCarry
from derpctl.map.lint import Finding, Severity, Target, Terms, printable
from derpctl.map.model import DerpMap
from derpctl.map.source import judge, read_any
from derpctl.map.splice import Spliced, splice
from derpctl.push.tailnet import Policy, Tailnet


_TERMS = Terms(allow_system_ids=True, target=Target.TAILSCALE)


async def wanted_map(config: Path, *, timeout: float) -> Published:  # noqa: ASYNC109 - part of the error
    """Get the map of the region, to push it.

    Args:
        config: Where derpctl's configuration is.
        timeout: Seconds that an answer of a node may take.

    Raises:
        CtlError: There is none, or nothing is in it.
    """
    return not_empty(await published(load_ctl_config(config), timeout=timeout))


def not_empty(found: Published) -> Published:
    """Let a map pass that has a region: headscale would hand out one without.

    Raises:
        CtlError: It has none.
    """
    if not found.derp_map.regions:
        value, reason = "the map", "no region is in it"
        hint = "clients would lose what they have; list the nodes of the region first"
        raise CtlError(value, reason, hint, Exit.REFUSED)
    return found


@dataclass(frozen=True, slots=True)
class NewPolicy:
    """A policy as it would be."""

    name: str
    old: Policy
    spliced: Spliced
    warnings: list[Finding]

    @property
    def is_same(self) -> bool:
        """Whether nothing is to be written."""
        return self.spliced.text == self.old.text

    def words(self) -> Iterator[str]:
        """Say what it changes for clients."""
        change = diff(self.spliced.before, self.spliced.after)
        yield from map(printable, change.lines())

    def text_diff(self) -> Iterator[str]:
        """Yield the lines that differ, and three around them, as `diff -u` has them."""
        lines = difflib.unified_diff(
            self.old.text.splitlines(),
            self.spliced.text.splitlines(),
            self.name,
            f"{self.name}, new",
            lineterm="",
        )
        for line in lines:
            yield "\t".join(map(printable, line.split("\t")))


@dataclass(frozen=True, slots=True)
class Place:
    """Where a policy is: in a file, or at Tailscale, which may be asked of both."""

    file: Path | None
    tailnet: Tailnet | None

    @property
    def name(self) -> str:
        """What to call the policy."""
        if self.file is not None:
            return str(self.file)
        return self._remote().shown

    async def prepare(self, derp_map: DerpMap, *, omit: bool | None) -> NewPolicy:
        """Read the policy, and put a map into it; nothing is written.

        Args:
            derp_map: The map.
            omit: Whether to leave Tailscale's regions out; None keeps what is there.

        Raises:
            CtlError: The policy cannot be read, or the map in it would break a rule.
        """
        old = await self._read()
        try:
            found = splice(old.text, derp_map, omit_default_regions=omit)
        except BadMap as exc:
            hint = "correct the policy; nothing was written"
            raise CtlError(self.name, printable(str(exc)), hint, Exit.INVALID) from exc
        except CannotCarry as exc:
            raise CtlError(self.name, str(exc), "take it out", Exit.REFUSED) from exc
        return NewPolicy(self.name, old, found, self._judge(found.text))

    async def validate(self, new: NewPolicy) -> list[str]:
        """Have Tailscale try a policy, if it may be asked; give its warnings.

        Raises:
            CtlError: It would be refused.
        """
        if self.tailnet is None:
            return []
        return await self.tailnet.validate(new.spliced.text)

    async def write(self, new: NewPolicy) -> list[str]:
        """Put a policy in the place of the old one, after it was tried.

        Raises:
            CtlError: It is not valid, not what was read is there now, or it cannot be
                written.
        """
        warnings = await self.validate(new)
        policy = Policy(new.spliced.text, new.old.etag)
        if self.file is None:
            await self._remote().write(policy)
        elif _read(self.file).etag != policy.etag:
            reason = "somebody changed it meanwhile; nothing was written"
            raise CtlError(self.name, reason, "run it again", Exit.REFUSED)
        else:
            replace_whole(self.file, policy.text)
        return warnings

    async def _read(self) -> Policy:
        if self.file is not None:
            return _read(self.file)
        return await self._remote().read()

    def _remote(self) -> Tailnet:
        if self.tailnet is None:
            raise TypeError(self.tailnet)
        return self.tailnet

    def _judge(self, text: str) -> list[Finding]:
        """Apply the rules; give the warnings.

        Raises:
            CtlError: One is broken.
        """
        judged = judge(text.removeprefix("\ufeff"), is_yaml=False, terms=_TERMS)
        for one in judged.findings:
            if one.severity is Severity.ERROR:
                value = f"{self.name}, line {one.line} of the new text"
                hint = "nothing was written; see map lint"
                raise CtlError(value, str(one), hint, Exit.INVALID)
        return [one for one in judged.findings if one.severity is Severity.WARNING]


def _read(path: Path) -> Policy:
    text = read_whole(path)
    return Policy(text, hashlib.sha256(text.encode()).hexdigest())


@dataclass(frozen=True, slots=True)
class Held:
    """What a file of a map has in it."""

    text: str | None
    """None if it is not there."""
    derp_map: DerpMap
    """Empty if it is not there, or has nothing in it."""


def held(path: Path) -> Held:
    """Read a file that is about to be written, if there is one.

    Raises:
        CtlError: It is there, and cannot be read, or is no map: a mistaken path must
            not cost a file.
    """
    if not path.exists():
        return Held(None, DerpMap())
    text = read_whole(path)
    if not text.strip():
        return Held(text, DerpMap())
    try:
        return Held(text, read_any(text, is_yaml=True))
    except BadMap as exc:
        reason = f"no map that headscale reads: {printable(str(exc))}"
        hint = "give another --path, or move the file away"
        raise CtlError(str(path), reason, hint, Exit.REFUSED) from exc
