"""Lists regions: those that the registry has, or the one whose nodes answer."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from derpctl.cluster import of_nodes
from derpctl.config import CtlConfig
from derpctl.map.canonical import revision as content_of
from derpctl.reports import ask_all
from derpctl.wanted import registry
from derpctl.wanted.apply import map_of_wanted
from derpmesh.membership.errors import RegistryUnavailable
from derpmesh.membership.operator import Operator
from derpmesh.membership.records import BadRecord


_SERVING = "serving"


@dataclass(frozen=True, slots=True, kw_only=True)
class RegionRow:
    """One region, in short."""

    id: int
    code: str = ""
    name: str = ""
    nodes: int = 0
    """Nodes that are in the map."""
    serving: int = 0
    """Nodes of it that say that they serve."""
    clients: int | None = None
    """Connections of clients, as nodes said last."""
    content: str = ""
    """Names the map: equal maps have equal ones."""
    problem: str = ""

    def members(self) -> dict[str, object]:
        """Give it as JSON has it."""
        found = asdict(self)
        del found["content"]
        return found | {"map": self.content or None, "problem": self.problem or None}


@dataclass(frozen=True, slots=True)
class Rows:
    """The regions, and what they are worth."""

    rows: Sequence[RegionRow]
    stale: str = ""
    """Why nodes were asked in place of the registry; empty if that answered."""


async def rows(config: CtlConfig, *, timeout: float) -> Rows:  # noqa: ASYNC109 - of each question
    """List the regions.

    Raises:
        CtlError: Nobody knows any.
    """
    if config.registry.etcd is None:
        return Rows([await _own(config, "", timeout)])
    try:
        async with registry.opened(config) as operator:
            numbers = await _numbers(config, operator)
        if not numbers:
            raise registry.no_region(config)
        return Rows([await _recorded(config, number) for number in numbers])
    except RegistryUnavailable as exc:
        if not config.nodes:
            raise registry.unreachable(exc) from exc
        stale = f"the registry is away: {exc.reason}"
        return Rows([await _own(config, stale, timeout)], stale)


async def _numbers(config: CtlConfig, operator: Operator) -> list[int]:
    """Find the regions; with a role for one region, that is this one."""
    own = await operator.wanted()
    if own is None:
        return await operator.regions()
    try:
        return await operator.regions()
    except RegistryUnavailable:  # the region itself was readable a moment ago
        return [config.region]


async def _recorded(config: CtlConfig, number: int) -> RegionRow:
    async with registry.opened(config, number) as operator:
        try:
            found = await operator.wanted()
        except BadRecord as exc:
            return RegionRow(id=number, problem=str(exc))
        live, statuses = await operator.live(), await operator.statuses()
    if found is None:
        return RegionRow(id=number, problem="nobody has said what it is called")
    names = {member.name for member in found.members}
    return RegionRow(
        id=number,
        code=found.intent.code,
        name=found.intent.name,
        nodes=len(names),
        serving=sum(live[one].state == _SERVING for one in names & live.keys()),
        clients=sum(statuses[one].clients for one in names & statuses.keys()),
        content=content_of(map_of_wanted(found)),
    )


async def _own(config: CtlConfig, stale: str, timeout: float) -> RegionRow:  # noqa: ASYNC109 - of each question
    found = await of_nodes(config, stale, timeout=timeout)
    reports = await ask_all(config, timeout=timeout)
    views = [one.view for one in reports if one.view is not None]
    region = found.derp_map.regions[config.region]
    return RegionRow(
        id=config.region,
        code=region.region_code,
        name=region.region_name,
        nodes=len(region.nodes),
        serving=sum(view.node.state == _SERVING for view in views),
        clients=sum(view.clients.reconnecting for view in views),
        content=content_of(found.derp_map),
    )
