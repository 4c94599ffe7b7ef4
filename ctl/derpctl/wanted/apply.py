"""Changes the map of a region in its registry: looks, judges, asks, writes at once."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from derpctl.cluster import map_of
from derpctl.config import CtlConfig
from derpctl.consent import Consent
from derpctl.errors import CtlError
from derpctl.exits import Exit
from derpctl.impact import Counted, Impact, count
from derpctl.map.canonical import revision as content_of
from derpctl.map.diff import diff
from derpctl.map.lint import Severity, Terms, lint
from derpctl.map.model import DerpMap
from derpctl.wanted import registry
from derpmesh.membership.edits import Wanted


@dataclass(frozen=True, slots=True)
class Changed:
    """What was written."""

    wanted: Wanted
    revision: int
    """Of the registry, at which the region is so."""
    content: str
    """Names the map: equal maps have equal ones."""
    changes: int
    """Things of the map that are otherwise; 0: it is the same map."""

    def __str__(self) -> str:
        if not self.changes:
            return f"revision {self.revision}; the map is as it was, {self.content}"
        return f"revision {self.revision}, map {self.content}"

    def members(self) -> dict[str, object]:
        """Give it as JSON has it."""
        return {
            "revision": self.revision,
            "map": self.content,
            "changes": self.changes,
        }


async def change(
    config: CtlConfig,
    what: str,
    plan: Callable[[Wanted | None], Wanted],
    consent: Consent,
    *,
    timeout: float,  # noqa: ASYNC109 - of each question
) -> Changed:
    """Have the region be otherwise, if that is meant.

    Args:
        config: derpctl's own.
        what: The command, for errors.
        plan: Gives the region as it is to be; it is given None where nobody said yet
            what it is.
        consent: What the operator said of questions.
        timeout: Seconds that an answer of a node may take.

    Raises:
        CtlError: It is not meant, or the map would not work, or somebody else changed
            the region meanwhile, or the registry cannot be had.
    """
    seen = await registry.ask(config, lambda operator: operator.wanted())
    wanted = plan(seen)
    impact = await preview(config, seen, wanted, timeout=timeout)
    consent.ask(what, impact)
    revision = await registry.ask(
        config, lambda operator: operator.archive.become(wanted, seen)
    )
    if revision is None:
        reason, hint = "somebody else changed the region meanwhile", "look, try again"
        raise CtlError(what, reason, hint, Exit.REFUSED)
    await registry.ask(config, lambda operator: operator.archive.forget())
    content = content_of(map_of_wanted(wanted))
    if seen is None or wanted.intent != seen.intent:
        said = wanted.intent.model_copy(update={"author": registry.author()})
        wanted = replace(wanted, intent=said)
    return Changed(wanted, revision, content, len(impact.difference.changes))


async def preview(
    config: CtlConfig,
    seen: Wanted | None,
    wanted: Wanted,
    *,
    timeout: float,  # noqa: ASYNC109 - of each question
) -> Impact:
    """Say whom a change of the region disturbs.

    Raises:
        CtlError: The map would not work, where it did.
    """
    before = map_of_wanted(seen) if seen is not None else DerpMap()
    after = map_of_wanted(wanted)
    _check(before, after)
    difference = diff(before, after)
    if config.region in difference.reconnecting:
        counted = await count(config, timeout=timeout)
    else:
        counted = Counted(config.region, 0)
    return Impact(difference, counted)


def map_of_wanted(wanted: Wanted) -> DerpMap:
    """Make the map of a region; one without nodes is not in it."""
    if not wanted.members:
        return DerpMap()
    return map_of(wanted.intent.region, wanted.members)


def _check(before: DerpMap, after: DerpMap) -> None:
    """Refuse a change that breaks the map; what was broken before may be mended later.

    Raises:
        CtlError: It breaks a rule that it did not break before.
    """
    terms = Terms(allow_system_ids=True)
    old = {(finding.rule, finding.path) for finding in lint(before, terms)}
    for finding in lint(after, terms):
        is_new = (finding.rule, finding.path) not in old
        if finding.severity is Severity.ERROR and is_new:
            value, hint = f"{finding.rule}: {finding.path}", "nothing was changed"
            raise CtlError(value, finding.message, hint, Exit.INVALID)
